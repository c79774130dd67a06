//! `kubeadm`, as far as the broker runs it: `init phase upload-certs`.
//!
//! The certificate key is in a file that only root can read, never in an argument; what kubeadm prints is thrown away but
//! for the end of its errors.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use api::sync::NodeName;
use program::FileError;
use program::child;

use super::fault::JoinError;

/// How long kubeadm may take: it writes two objects.
const PATIENCE: Duration = Duration::from_secs(40);

/// Bytes of its errors that are told.
const TOLD_BYTES: usize = 600;

/// What `upload-certs` is told.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) program: PathBuf,
    /// `admin.conf`.
    pub(super) kubeconfig: PathBuf,
    /// This master.
    pub(super) node: NodeName,
    pub(super) address: IpAddr,
    /// The cluster's own `ClusterConfiguration`, as kubeadm keeps it: version and folders come from there.
    pub(super) cluster_configuration: String,
    /// 64 hexadecimal digits.
    pub(super) certificate_key: String,
}

/// Puts the shared certificates, encrypted, into the Secret `kubeadm-certs`. Blocks.
pub(super) fn upload_certs(upload: &Upload) -> Result<(), JoinError> {
    let config = write_config(upload)?;
    let mut command = Command::new(&upload.program);
    command
        .args(["init", "phase", "upload-certs", "--upload-certs"])
        .arg("--config")
        .arg(config.path())
        .arg("--kubeconfig")
        .arg(&upload.kubeconfig);
    run(command)
}

/// The file is readable by its owner alone, and gone with the value.
fn write_config(upload: &Upload) -> Result<tempfile::NamedTempFile, JoinError> {
    let folder = std::env::temp_dir();
    let failed = |source| FileError::new("write", &folder, source);
    let mut file = tempfile::Builder::new()
        .prefix("sealift-upload-certs")
        .suffix(".yaml")
        .tempfile()
        .map_err(failed)?;
    file.write_all(render(upload).as_bytes()).map_err(failed)?;
    Ok(file)
}

/// `kubeadm.k8s.io/v1beta4`; everything that kubeadm would look for otherwise (runtime, network, version) is said.
fn render(upload: &Upload) -> String {
    format!(
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\ncertificateKey: {}\n\
         localAPIEndpoint: {{advertiseAddress: \"{}\"}}\n\
         nodeRegistration: {{name: {}, criSocket: unix:///run/containerd/containerd.sock}}\n\
         ---\n{}",
        upload.certificate_key, upload.address, upload.node, upload.cluster_configuration
    )
}

fn run(mut command: Command) -> Result<(), JoinError> {
    let argv = format!("{command:?}");
    command.stdin(Stdio::null());
    let ended = match child::run(&mut command, PATIENCE) {
        Ok(ended) => ended,
        Err(source) => return Err(JoinError::Run { argv, source }),
    };
    let output = match ended.status {
        Some(status) if status.success() => return Ok(()),
        Some(status) => format!("{status}: {}", end_of(&ended.errors)),
        None => format!("no end after {} s", PATIENCE.as_secs()),
    };
    Err(JoinError::Program { argv, output })
}

fn end_of(errors: &str) -> &str {
    let start = errors.len().saturating_sub(TOLD_BYTES);
    errors
        .get(errors.ceil_char_boundary(start)..)
        .unwrap_or_default()
        .trim()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use std::path::Path;

    use super::*;

    /// A program that keeps its arguments and its configuration, and ends with `code`.
    fn upload(folder: &Path, code: u8) -> Upload {
        let program = folder.join("kubeadm");
        let script = format!(
            "#!/bin/sh\necho \"$@\" > {0}/argv\ncp \"$6\" {0}/config\nstat -c %a \"$6\" > {0}/mode\necho broken >&2\nexit {code}\n",
            folder.display()
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Upload {
            program,
            kubeconfig: "/etc/kubernetes/admin.conf".into(),
            node: "m1".parse().unwrap(),
            address: [10, 0, 0, 11].into(),
            cluster_configuration: "kind: ClusterConfiguration\n".to_owned(),
            certificate_key: "c0ffee".repeat(10),
        }
    }

    #[test]
    fn the_key_is_in_a_private_file_and_in_no_argument() {
        let folder = tempfile::tempdir().unwrap();
        upload_certs(&upload(folder.path(), 0)).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(!read("argv").contains("c0ffee"));
        assert!(read("config").contains("certificateKey: c0ffee"));
        assert_eq!(read("mode").trim(), "600");
    }

    #[test]
    fn what_it_says_when_it_fails_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let error = upload_certs(&upload(folder.path(), 3)).unwrap_err();
        assert!(error.to_string().contains("broken"), "{error}");
    }
}
