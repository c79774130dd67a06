//! A vendor with real keys: everything here is done by the `bundler` program.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use bundle::Digest;

use crate::corpus::Corpus;
use crate::corpus::Image;
use crate::corpus::REGISTRY;
use crate::process;
use crate::process::Finished;
use crate::programs::Program;

/// Opens every secret key of a test vendor; a secret it is not.
const PASSWORD: &str = "snake oil";

/// A vendor's folder: keys, trust root, licenses, release file, cache.
#[derive(Clone, Debug)]
pub struct Vendor {
    folder: PathBuf,
}

/// What one release is to carry.
#[derive(Clone, Debug)]
pub struct Release {
    /// The product.
    pub product: String,
    /// The version people know it by.
    pub version: String,
    /// Grows with every release.
    pub sequence: u64,
    /// `repository:tag` of its images.
    pub images: Vec<String>,
    /// Where they are.
    pub source: Source,
    /// Further lines of the release file.
    pub extra: String,
}

/// Where a release's images are.
#[derive(Clone, Debug)]
pub enum Source {
    /// In a registry without TLS that mirrors the one in their names.
    Registry(SocketAddr),
    /// In a registry without TLS that stands in their names itself.
    Named(SocketAddr),
    /// In an OCI image layout directory.
    Layout(PathBuf),
}

impl Release {
    /// Version 1.4.0, sequence 42 of the product `shop` with all images of a corpus.
    pub fn of(corpus: &Corpus, source: Source) -> Self {
        Self {
            product: "shop".to_owned(),
            version: "1.4.0".to_owned(),
            sequence: 42,
            images: corpus.images.iter().map(Image::reference).collect(),
            source,
            extra: String::new(),
        }
    }

    /// Another version of the same.
    #[must_use]
    pub fn at(mut self, version: &str, sequence: u64) -> Self {
        version.clone_into(&mut self.version);
        self.sequence = sequence;
        self
    }

    fn to_yaml(&self) -> Result<String> {
        let Self {
            product,
            version,
            sequence,
            ..
        } = self;
        let mut yaml = format!(
            "apiVersion: sealift/v1\nvendor: acme\nproduct: {product}\nversion: {version}\n\
             sequence: {sequence}\nreleased_at: 2026-11-01T00:00:00Z\nplatforms: [linux/amd64]\nimages:\n"
        );
        let registry = match self.source {
            Source::Named(address) => address.to_string(),
            Source::Registry(_) | Source::Layout(_) => REGISTRY.to_owned(),
        };
        for image in &self.images {
            write!(yaml, "  - {{image: '{registry}/{image}'")?;
            if let Source::Layout(folder) = &self.source {
                write!(yaml, ", from: 'oci-layout:{}'", folder.display())?;
            }
            yaml.push_str("}\n");
        }
        if let Source::Named(address) = &self.source {
            writeln!(yaml, "registries: {{insecure: ['{address}']}}")?;
        }
        if let Source::Registry(address) = &self.source {
            writeln!(
                yaml,
                "registries: {{mirrors: {{{REGISTRY}: ['{address}']}}, insecure: ['{address}']}}"
            )?;
        }
        yaml.push_str(&self.extra);
        Ok(yaml)
    }
}

impl Vendor {
    /// Makes the keys (three for the root, one for bundles, one for licenses) and the trust root of `shop`.
    pub fn create(folder: &Path) -> Result<Self> {
        let vendor = Self::at(folder);
        fs::create_dir_all(folder.join("keys"))?;
        for key in ["root1", "root2", "root3", "shop", "license"] {
            vendor.new_key(key)?;
        }
        vendor.bundler_does(&[
            "root",
            "init",
            "--vendor",
            "acme",
            "--threshold",
            "2",
            "--key",
            "keys/root1.pub",
            "--key",
            "keys/root2.pub",
            "--key",
            "keys/root3.pub",
            "--bundle",
            "shop=keys/shop.pub",
            "--license",
            "shop=keys/license.pub",
            "--sign-with",
            "keys/root1.key",
            "--sign-with",
            "keys/root2.key",
        ])?;
        Ok(vendor)
    }

    /// The vendor whose folder this is, made by [`Vendor::create`] before.
    pub fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Makes one more key: `keys/NAME.key` and `keys/NAME.pub`.
    pub fn new_key(&self, name: &str) -> Result<()> {
        self.bundler_does(&["key", "new", &format!("keys/{name}")])?;
        Ok(())
    }

    /// Path below the vendor's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The trust root that customers get.
    pub fn root(&self) -> PathBuf {
        self.path("root.json")
    }

    /// The root's fingerprint, which customers get by another way: the SHA-256 of the file.
    pub fn fingerprint(&self) -> Result<String> {
        Ok(Digest::of(&fs::read(self.root())?).to_hex())
    }

    /// `bundler …` in the vendor's folder, with his password and cache.
    pub fn bundler(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Program::Bundler.command()?;
        command.current_dir(&self.folder).args(arguments);
        command.env("SEALIFT_KEY_PASSWORD", PASSWORD);
        command.env("SEALIFT_CACHE_DIR", self.path("cache"));
        Ok(command)
    }

    /// Runs `bundler …`, which must succeed.
    pub fn bundler_does(&self, arguments: &[&str]) -> Result<Finished> {
        process::run(&mut self.bundler(arguments)?)?.succeeded()
    }

    /// A signed license for `shop`; `extra` as `bundler license new --help` lists it.
    pub fn license(&self, id: &str, sequence: u64, extra: &[&str]) -> Result<PathBuf> {
        let (json, lic) = (
            format!("{id}-{sequence}.json"),
            format!("{id}-{sequence}.lic"),
        );
        let sequence = sequence.to_string();
        let mut arguments = vec![
            "license",
            "new",
            "--id",
            id,
            "--sequence",
            &sequence,
            "--vendor",
            "acme",
            "--product",
            "shop",
            "--customer-id",
            "harbor",
            "--customer",
            "Harbor City Hospital",
            "--issued-at",
            "2026-07-01T00:00:00Z",
            "--updates-until",
            "2027-06-30T00:00:00Z",
            "--output",
            &json,
        ];
        arguments.extend(extra);
        self.bundler_does(&arguments)?;
        self.bundler_does(&[
            "license",
            "sign",
            &json,
            "--key",
            "keys/license.key",
            "--output",
            &lic,
        ])?;
        Ok(self.path(&lic))
    }

    /// Writes the release file; gives its name.
    pub fn write_release(&self, release: &Release) -> Result<String> {
        let name = format!("{}-{}.yaml", release.product, release.version);
        fs::write(self.path(&name), release.to_yaml()?)?;
        Ok(name)
    }

    /// Builds and signs a release; gives the bundle.
    pub fn build(&self, release: &Release, extra: &[&str]) -> Result<PathBuf> {
        let file = self.write_release(release)?;
        let output = format!("{}-{}.airgap", release.product, release.version);
        let mut arguments = vec!["build", "-f", &file, "-o", &output];
        // A key of the caller's choice replaces the usual one.
        if !extra
            .iter()
            .any(|argument| ["--key", "--no-sign"].contains(argument))
        {
            arguments.extend(["--key", "keys/shop.key"]);
        }
        arguments.extend(extra);
        self.bundler_does(&arguments)?;
        Ok(self.path(&output))
    }
}
