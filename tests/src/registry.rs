//! Registries to pull from: ours over a layout directory, and Debian's.

use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Stdio;

use anyhow::Context as _;
use anyhow::Result;

use crate::corpus::Corpus;
use crate::process;
use crate::process::Running;
use crate::programs::Program;
use crate::real_parts::Part;

/// Our read-only endpoint over an OCI layout directory; ends when it is dropped.
#[derive(Debug)]
pub struct EmbeddedRegistry {
    address: SocketAddr,
    child: Child,
}

impl EmbeddedRegistry {
    /// Serves a layout; `arguments` as `embedded-registry --help` lists them.
    pub fn start(layout: &Path, arguments: &[&str]) -> Result<Self> {
        let mut command = Program::Registry.command()?;
        command
            .arg(layout)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().context("start the embedded registry")?;
        let stdout = child.stdout.take().context("its output is piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line
            .trim()
            .parse()
            .context("the embedded registry gave no address")?;
        Ok(Self { address, child })
    }

    /// Where it listens, plain HTTP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for EmbeddedRegistry {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Debian's registry, on loopback, its data below a folder; ends when it is dropped.
#[derive(Debug)]
pub struct DebianRegistry {
    address: SocketAddr,
    _process: Running,
}

impl DebianRegistry {
    /// Starts it empty, without TLS and without a door.
    pub fn start(folder: &Path) -> Result<Self> {
        let program = Part::Registry
            .find()
            .context("docker-registry is not installed")?;
        let (data, config) = (folder.join("data"), folder.join("config.yml"));
        fs::create_dir_all(&data)?;
        let text = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: '{}'}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n",
            data.display()
        );
        fs::write(&config, text)?;
        let log = folder.join("registry.log");
        let mut command = process::command(program, ["serve"]);
        let mut process = Running::start("docker-registry", command.arg(&config), &log)?;
        let address = process::wait_for("docker-registry to listen", || {
            process.check().map_err(|error| error.to_string())?;
            listening_address(&log)
        })?;
        Ok(Self {
            address,
            _process: process,
        })
    }

    /// Where it listens, plain HTTP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Copies all images of a corpus into it with skopeo, digests kept.
    pub fn fill(&self, corpus: &Corpus) -> Result<()> {
        for image in &corpus.images {
            let from = format!("oci:{}:{}", corpus.layout.display(), image.name());
            let to = format!("docker://{}/{}", self.address, image.reference());
            skopeo(&[
                "copy",
                "--all",
                "--preserve-digests",
                "--dest-tls-verify=false",
                &from,
                &to,
            ])?;
        }
        Ok(())
    }

    /// The digest that skopeo sees for `repository:tag`.
    pub fn digest_of(&self, reference: &str) -> Result<String> {
        let image = format!("docker://{}/{reference}", self.address);
        let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &image])?;
        Ok(bundle::Digest::of(raw.as_bytes()).to_string())
    }
}

/// The address in the registry's log.
fn listening_address(log: &Path) -> Result<SocketAddr, String> {
    let text = fs::read_to_string(log).map_err(|error| error.to_string())?;
    let after = text
        .split("listening on ")
        .nth(1)
        .ok_or_else(|| format!("its log: {text}"))?;
    let address: String = after
        .chars()
        .take_while(|char| char.is_ascii_digit() || ".:".contains(*char))
        .collect();
    address
        .parse()
        .map_err(|error| format!("{address:?}: {error}"))
}

/// Runs skopeo and gives its output; it trusts any image and uses no configuration of this machine's user.
pub fn skopeo(arguments: &[&str]) -> Result<String> {
    let program: PathBuf = Part::Skopeo.find().context("skopeo is not installed")?;
    let mut command = process::command(program, ["--insecure-policy"]);
    Ok(process::run(command.args(arguments))?.succeeded()?.stdout)
}
