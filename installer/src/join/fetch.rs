//! `fetch`: node files from the masters, each held against the digest that the vendor signed before it gets its name.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::PathBuf;

use bundle::Digest;
use bundle::Hasher;
use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use bundle::index::NodeFile;
use bundle::write::BlobSource;
use program::Outcome;
use program::output::bytes;

use super::Client;
use crate::machine::Machine;
use crate::machine::Mode;
use crate::run::Journal;
use crate::run::Step;
use crate::run::Work;
use crate::steps::NodeFiles;
use crate::steps::input_of;

/// Where fetched blobs wait.
const FOLDER: &str = "/var/lib/sealift-node/files";

/// Fetches what is not placed yet.
pub(crate) struct Fetch<'a> {
    pub(crate) files: NodeFiles<'a>,
    pub(crate) client: &'a Client,
}

/// Fetched blobs as a source.
#[derive(Debug)]
pub(crate) struct FolderBlobs {
    folder: PathBuf,
}

/// A master that gave other bytes than the vendor signed.
#[derive(Debug, thiserror::Error)]
#[error("the masters gave other bytes for {path} than the vendor signed")]
struct Forged {
    path: String,
    signed: Digest,
    came: Digest,
}

impl FolderBlobs {
    /// The blobs of this machine.
    pub(crate) fn of(machine: &Machine) -> Self {
        Self {
            folder: machine.path(FOLDER),
        }
    }

    /// Forgets them all.
    pub(crate) fn clear(machine: &Machine) -> Outcome {
        Ok(machine.remove_folder(FOLDER)?)
    }
}

impl BlobSource for FolderBlobs {
    fn open(&self, digest: &Digest) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(self.folder.join(digest.to_hex()))?))
    }
}

impl Fetch<'_> {
    fn path(digest: &Digest) -> String {
        format!("{FOLDER}/{}", digest.to_hex())
    }

    fn missing(&self) -> Vec<&NodeFile> {
        let machine = self.files.ground.machine;
        let size = |digest: &Digest| {
            self.files
                .ground
                .index
                .blob(digest)
                .map_or(0, |blob| blob.size)
        };
        let is_here = |digest: &Digest| {
            machine.holds_blob(&Self::path(digest), size(digest), digest, Mode::Secret)
        };
        self.files
            .wrong()
            .filter(|file| !is_here(&file.digest))
            .collect()
    }

    fn fetch(&self, file: &NodeFile) -> Outcome {
        let machine = self.files.ground.machine;
        let reader = self
            .client
            .open(&format!("/v1/join/blob/{}", file.digest.to_hex()))?;
        let mut hashing = Hashing {
            reader,
            hasher: Hasher::new(),
        };
        let path = Self::path(&file.digest);
        machine.place(&path, &mut hashing, Mode::Secret)?;
        let came = hashing.hasher.finish();
        if came == file.digest {
            return Ok(());
        }
        machine.remove(&path)?;
        Err(Forged {
            path: file.path.to_string(),
            signed: file.digest,
            came,
        }
        .into())
    }
}

struct Hashing<R> {
    reader: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

impl Step for Fetch<'_> {
    fn id(&self) -> &'static str {
        "fetch"
    }

    fn input(&self) -> Digest {
        input_of(&[&self.files.input().to_hex()])
    }

    fn probe(&self, _past: &Journal) -> Outcome<Option<String>> {
        Ok(self
            .missing()
            .is_empty()
            .then(|| "node files are here, each as signed".to_owned()))
    }

    fn apply(&self, work: &mut Work<'_>) -> Outcome {
        let folder = self.files.ground.machine.path(FOLDER);
        fs::create_dir_all(&folder)
            .map_err(|source| program::FileError::new("make folder", &folder, source))?;
        for file in self.missing() {
            let size = self
                .files
                .ground
                .index
                .blob(&file.digest)
                .map_or(0, |blob| blob.size);
            work.doing(&format!("{}, {}", file.path, bytes(size)));
            self.fetch(file)?;
        }
        Ok(())
    }
}

impl Fault for Forged {
    fn code(&self) -> &'static str {
        "JOIN_BLOB_DIGEST"
    }

    fn blame(&self) -> Blame {
        Blame::Network
    }

    fn facts(&self) -> Vec<Fact> {
        vec![
            Fact::new("signed", self.signed),
            Fact::new("came", self.came),
        ]
    }

    fn hint(&self) -> Option<String> {
        Some("on the masters run syncd verify --all, then run the script again".to_owned())
    }
}
