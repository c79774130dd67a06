//! Packs the images of a cluster into one OCI image layout, under the names that kubeadm asks for.
//!
//! An image of one static program holds that program and nothing else. What calls `nft` or
//! needs a shell stands on a root file system of Debian packages.

use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use serde_json::Value;
use serde_json::json;
use tests::cluster_parts;
use tests::cluster_parts::Hasher;
use tests::cluster_parts::Parts;
use tests::image_layout::Config;
use tests::image_layout::Layer;
use tests::image_layout::LayerTar;
use tests::image_layout::LayoutWriter;
use tests::image_layout::MANIFEST;
use tests::image_layout::Named;
use tests::image_layout::append_directory;
use tests::image_layout::append_file;
use tests::image_layout::append_link;
use tests::image_layout::append_tree;
use tests::image_layout::write_layer;

use super::build;
use super::build::Scratch;
use super::build::remove_old;
use super::debian;
use super::recipe;
use crate::command;
use crate::say;

/// Raised when the code below makes something else of the same programs.
const RECIPE: u32 = 2;

/// The vendor's own image of flannel; its tag is that of the program.
const FLANNEL: &str = "registry.acme.example/network/flannel";

/// The vendor's application.
const DEMO: &str = "registry.acme.example/shop/demo:1.4.0";

/// What the application answers with.
const PAGE: &str = "<!doctype html>\n<title>shop</title>\n<p>The shop is open.\n";

/// Applets that scripts in images and tests use.
const APPLETS: [&str; 28] = [
    "cat", "cmp", "date", "echo", "env", "grep", "head", "hostname", "httpd", "id", "ip", "ls",
    "mkdir", "mount", "mv", "nc", "nslookup", "ping", "ps", "rm", "sed", "sh", "sleep", "tail",
    "test", "timeout", "true", "wget",
];

/// What is in a layer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Content {
    /// Programs: where each is, and its path in the image.
    Programs(Vec<(PathBuf, String)>),
    /// Everything below a folder.
    Tree(PathBuf),
    /// The links by which busybox has its names, and two users.
    Applets,
    /// The application's page.
    Page,
}

/// An image before it is packed.
#[derive(Debug)]
struct Image {
    name: String,
    layers: Vec<Content>,
    settings: Value,
}

/// Gives the layout with all images; makes it when it is not there yet.
pub(super) fn pack(parts: &Parts) -> Result<PathBuf> {
    let images = plan(parts)?;
    let folder = cluster_parts::folder()?;
    let done = folder.join(format!("images-{}", key(parts, &images)));
    if done.is_dir() {
        say!("images: unchanged, {}", done.display());
        return Ok(done);
    }
    let started = Instant::now();
    let scratch = Scratch::new(&folder, "images")?;
    let writer = write(&images, scratch.path())?;
    let bytes: u64 = writer.blobs.values().sum();
    scratch.finish(&done)?;
    let seconds = started.elapsed().as_secs_f64();
    say!(
        "images: {seconds:.0} s, {} images, {bytes} bytes, {}",
        images.len(),
        done.display()
    );
    remove_old(&folder, "images", &done)?;
    Ok(done)
}

/// All images: those that kubeadm names, the network's, the application's.
fn plan(parts: &Parts) -> Result<Vec<Image>> {
    let root = debian::root()?;
    let mut images = Vec::new();
    for name in kubeadm_names(parts)? {
        images.push(of_kubeadm(&name, parts, &root)?);
    }
    let flanneld = parts.program("flannel", "flanneld")?;
    let version = build::version_of(&recipe::FLANNEL)?;
    images.push(Image {
        name: format!("{FLANNEL}:{version}"),
        layers: vec![
            Content::Tree(root.clone()),
            Content::Applets,
            Content::Programs(vec![(flanneld, "usr/local/bin/flanneld".to_owned())]),
        ],
        settings: json!({
            "Entrypoint": ["/usr/local/bin/flanneld"],
            "Env": ["PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        }),
    });
    images.push(Image {
        name: DEMO.to_owned(),
        layers: vec![Content::Tree(root), Content::Applets, Content::Page],
        settings: json!({
            "Entrypoint": ["/bin/httpd", "-f", "-p", "8080", "-h", "/www"],
            "Env": ["PATH=/bin"],
            "User": "65534:65534",
            "ExposedPorts": {"8080/tcp": {}},
        }),
    });
    Ok(images)
}

/// The names that `kubeadm config images list` prints for the version that it is itself.
fn kubeadm_names(parts: &Parts) -> Result<Vec<String>> {
    let kubeadm = parts.program("kubernetes", "kubeadm")?;
    // With the version given it doesn't ask the internet for the newest.
    let version = command::output(&kubeadm, &["version", "--output", "short"])?;
    let arguments = ["config", "images", "list", "--kubernetes-version"];
    let mut arguments: Vec<&str> = arguments.to_vec();
    arguments.push(version.trim());
    let names = command::output(&kubeadm, &arguments)?;
    Ok(names.lines().map(str::to_owned).collect())
}

fn of_kubeadm(name: &str, parts: &Parts, root: &Path) -> Result<Image> {
    let last = name.rsplit('/').next().unwrap_or(name);
    let program = last.split(':').next().unwrap_or(last);
    let group = match program {
        "etcd" | "coredns" | "pause" => program,
        _kubernetes => "kubernetes",
    };
    // Where the manifests of kubeadm look for it: those of CoreDNS and pause name no command.
    let path = match program {
        "coredns" | "pause" => program.to_owned(),
        _other => format!("usr/local/bin/{program}"),
    };
    let entry = format!("/{path}");
    let mut programs = vec![(parts.program(group, program)?, path)];
    if program == "etcd" {
        let path = "usr/local/bin/etcdctl".to_owned();
        programs.push((parts.program("etcd", "etcdctl")?, path));
    }
    let mut layers = vec![Content::Programs(programs)];
    if program == "kube-proxy" {
        layers.insert(0, Content::Tree(root.to_owned()));
    }
    Ok(Image {
        name: name.to_owned(),
        layers,
        settings: json!({
            "Entrypoint": [entry],
            "Env": ["PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        }),
    })
}

/// Everything that decides the bytes of the images.
fn key(parts: &Parts, images: &[Image]) -> String {
    let mut hasher = Hasher::new();
    // The folders of programs and roots have the digests of their sources in their names.
    let paths: Vec<_> = parts
        .programs
        .values()
        .map(|path| path.file_name())
        .collect();
    hasher.update(format!("{RECIPE}\n{APPLETS:?}\n{PAGE}\n{paths:?}\n").as_bytes());
    for image in images {
        hasher.update(format!("{} {} {:?}\n", image.name, image.settings, image.layers).as_bytes());
    }
    cluster_parts::short(hasher.finish())
}

/// Writes the layout: each layer once, however many images have it, on all cores.
fn write(images: &[Image], layout: &Path) -> Result<LayoutWriter> {
    let mut writer = LayoutWriter::create(layout)?;
    let mut contents: Vec<&Content> = images.iter().flat_map(|image| &image.layers).collect();
    contents.sort();
    contents.dedup();
    let layers = write_layers(&contents, &writer.blobs_directory())?;
    for (_, layer) in &layers {
        writer.add_layer(layer);
    }
    let mut named = Vec::new();
    for image in images {
        let find = |content: &Content| layers.iter().find(|(of, _)| *of == content);
        let found: Option<Vec<Layer>> = image
            .layers
            .iter()
            .map(|content| Some(find(content)?.1))
            .collect();
        let config = Config {
            architecture: "amd64",
            settings: image.settings.clone(),
            made_by: "cargo xtask binaries",
        };
        let layers = found.context("a layer was not written")?;
        let (digest, blobs) = writer.put_manifest(&config, &layers)?;
        let bytes: u64 = blobs.iter().filter_map(|blob| writer.blobs.get(blob)).sum();
        say!("         {bytes:>12} bytes  {}", image.name);
        named.push(Named {
            name: image.name.clone(),
            digest,
            media_type: MANIFEST,
        });
    }
    writer.write_index(&named)?;
    Ok(writer)
}

fn write_layers<'a>(contents: &[&'a Content], blobs: &Path) -> Result<Vec<(&'a Content, Layer)>> {
    let todo = Mutex::new(contents.iter().copied().enumerate());
    let done = Mutex::new(Vec::new());
    let work = || {
        loop {
            let next = todo.lock().ok().and_then(|mut todo| todo.next());
            let Some((number, content)) = next else {
                return;
            };
            let layer = write_layer(blobs, &number.to_string(), |tar| fill(tar, content));
            if let Ok(mut done) = done.lock() {
                done.push((content, layer));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let done = done.into_inner().ok().context("a thread that packs died")?;
    done.into_iter()
        .map(|(content, layer)| Ok((content, layer?)))
        .collect()
}

fn fill(tar: &mut LayerTar, content: &Content) -> Result<()> {
    match content {
        Content::Tree(folder) => append_tree(tar, folder),
        Content::Programs(programs) => {
            for (from, path) in programs {
                append_program(tar, from, path)?;
            }
            Ok(())
        }
        Content::Applets => {
            for applet in APPLETS {
                append_link(tar, &format!("bin/{applet}"), Path::new("busybox"))?;
            }
            let users = "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n";
            append_text(tar, "etc/passwd", users)
        }
        Content::Page => {
            append_directory(tar, "www/")?;
            append_text(tar, "www/index.html", PAGE)
        }
    }
}

fn append_text(tar: &mut LayerTar, path: &str, text: &str) -> Result<()> {
    let size = u64::try_from(text.len())?;
    append_file(tar, path, 0o644, size, text.as_bytes())
}

fn append_program(tar: &mut LayerTar, from: &Path, path: &str) -> Result<()> {
    let file = File::open(from).with_context(|| from.display().to_string())?;
    let size = file.metadata()?.len();
    append_file(tar, path, 0o755, size, file)
}
