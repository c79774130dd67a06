//! `node-files`: the programs of a node, each below the one directory that its role may write to.
//!
//! A file takes its place by a rename, after its bytes were found to be what the vendor signed; one that is right already
//! is not touched.

use api::join::Role;
use bundle::Digest;
use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use bundle::index::FileMode;
use bundle::index::FileRole;
use bundle::index::NodeFile;
use program::Outcome;

use super::Ground;
use super::input_of;
use crate::machine::Mode;
use crate::run::Journal;
use crate::run::Step;
use crate::run::Work;

/// Places node files.
pub(crate) struct NodeFiles<'a> {
    pub(crate) ground: &'a Ground<'a>,
    /// Of this role alone, where the others come later.
    pub(crate) only: Option<FileRole>,
}

/// Bytes of a blob that are not the vendor's.
#[derive(Debug, thiserror::Error)]
#[error("the bytes for {path} are not what the vendor signed")]
struct WrongBytes {
    path: String,
    digest: Digest,
}

/// The directory that a role may write below.
pub(crate) const fn directory(role: FileRole) -> &'static str {
    match role {
        FileRole::CniPlugin => "/opt/cni/bin",
        FileRole::Config => "/etc/sealift/files",
        FileRole::SystemdUnit => "/etc/systemd/system",
        FileRole::Containerd
        | FileRole::Crictl
        | FileRole::Etcdctl
        | FileRole::Helm
        | FileRole::Installer
        | FileRole::Kubeadm
        | FileRole::Kubectl
        | FileRole::Kubelet
        | FileRole::Runc
        | FileRole::Syncd => "/usr/local/bin",
    }
}

/// Whether a node of this role uses a file: charts and etcd are a master's business.
const fn is_for(file: FileRole, node: Role) -> bool {
    match (file, node) {
        (FileRole::Etcdctl | FileRole::Helm, Role::Worker) => false,
        (
            FileRole::CniPlugin
            | FileRole::Config
            | FileRole::Containerd
            | FileRole::Crictl
            | FileRole::Etcdctl
            | FileRole::Helm
            | FileRole::Installer
            | FileRole::Kubeadm
            | FileRole::Kubectl
            | FileRole::Kubelet
            | FileRole::Runc
            | FileRole::Syncd
            | FileRole::SystemdUnit,
            Role::Master | Role::Worker,
        ) => true,
    }
}

/// The files of a bundle that are for a platform.
pub(crate) fn of_platform<'a>(
    files: &'a [NodeFile],
    platform: &'a str,
) -> impl Iterator<Item = &'a NodeFile> {
    files.iter().filter(move |file| {
        file.platform
            .as_ref()
            .is_none_or(|only| only.as_str() == platform)
    })
}

impl NodeFiles<'_> {
    fn files(&self) -> impl Iterator<Item = &NodeFile> {
        let files = of_platform(&self.ground.index.files, self.ground.platform);
        files
            .filter(|file| is_for(file.role, self.ground.site.role))
            .filter(|file| self.only.is_none_or(|only| only == file.role))
    }

    /// Files that are not there as they were signed.
    pub(crate) fn wrong(&self) -> impl Iterator<Item = &NodeFile> {
        self.files().filter(|file| !self.is_right(file))
    }

    fn is_right(&self, file: &NodeFile) -> bool {
        let size = self
            .ground
            .index
            .blob(&file.digest)
            .map_or(0, |blob| blob.size);
        self.ground
            .machine
            .holds_blob(&place(file), size, &file.digest, mode(file))
    }
}

fn place(file: &NodeFile) -> String {
    format!("{}/{}", directory(file.role), file.path)
}

const fn mode(file: &NodeFile) -> Mode {
    match file.mode {
        FileMode::Plain => Mode::Plain,
        FileMode::Program => Mode::Program,
    }
}

impl Step for NodeFiles<'_> {
    fn id(&self) -> &'static str {
        match self.only {
            None => "node-files",
            Some(_role) => "first-file",
        }
    }

    fn input(&self) -> Digest {
        let parts: Vec<String> = self
            .files()
            .map(|file| format!("{} {}", place(file), file.digest))
            .collect();
        input_of(&parts.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn probe(&self, _past: &Journal) -> Outcome<Option<String>> {
        let mut number = 0_usize;
        for file in self.files() {
            if !self.is_right(file) {
                return Ok(None);
            }
            number += 1;
        }
        if self.only.is_some() {
            return Ok(Some(format!("{number} file, as signed")));
        }
        let version = &self.ground.versions.kubernetes;
        Ok(Some(format!(
            "Kubernetes {version}, {number} files, each as signed"
        )))
    }

    fn apply(&self, work: &mut Work<'_>) -> Outcome {
        for file in self.files() {
            let place = place(file);
            if self.is_right(file) {
                continue;
            }
            work.doing(&place);
            let reader = self.ground.blobs.open(&file.digest).map_err(|source| {
                program::FileError::new("read the blob for", place.as_ref(), source)
            })?;
            self.ground.machine.place(&place, reader, mode(file))?;
            if !self.is_right(file) {
                self.ground.machine.remove(&place)?;
                return Err(WrongBytes {
                    path: place,
                    digest: file.digest,
                }
                .into());
            }
        }
        Ok(())
    }
}

impl Fault for WrongBytes {
    fn code(&self) -> &'static str {
        "NODE_FILE_DIGEST"
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }

    fn facts(&self) -> Vec<Fact> {
        vec![Fact::new("signed", self.digest)]
    }

    fn hint(&self) -> Option<String> {
        Some("read the store again with syncd verify --all, then run this command again".to_owned())
    }
}
