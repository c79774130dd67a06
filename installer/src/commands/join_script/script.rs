//! The text of a join script: POSIX `sh`, for a machine with curl and nothing of ours.
//!
//! - The token is in here-documents alone, so it is never in a list of processes.
//! - All of it is one function that runs at the end: half a script that was pasted does nothing, and no program in it can
//!   read the rest of the script as its input.
//! - The masters are believed by the cluster's own authority, which the script carries; the installer is believed by its
//!   SHA-256. Everything after that is the installer's work, which believes the vendor's signature alone.

use std::fmt::Write as _;
use std::net::IpAddr;

use api::join;
use api::join::Master;
use api::join::ScriptParts;

/// Where the script keeps its files: on a file system that programs may run from, private, and there again after a power
/// cut.
const FOLDER: &str = "/var/lib/sealift-node/join";

/// Writes the script.
pub(super) fn render(parts: &ScriptParts) -> String {
    let request = &parts.request;
    let json = serde_json::to_string_pretty(request).unwrap_or_default();
    let mut text = String::new();
    let mut line = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    line("sh <<'JOIN'");
    line("sealift_join() {");
    line("set -eu; umask 077");
    line("[ \"$(id -u)\" = 0 ] || { echo 'run this as root' >&2; exit 1; }");
    line(&format!("d={FOLDER}; mkdir -p \"$d\"; cd \"$d\""));
    line(
        "case $(uname -m) in x86_64) p=linux/amd64;; aarch64) p=linux/arm64;; *) p=$(uname -m);; esac",
    );
    line("case $p in");
    for (platform, digest) in &parts.installers {
        line(&format!("{platform}) sum={};;", digest.to_hex()));
    }
    line("*) echo \"this site's bundle brings nothing for $p\" >&2; exit 1;;");
    line("esac");
    line("cat > ca.pem <<'PEM'");
    line(request.ca_pem.trim_end());
    line("PEM");
    line("cat > header <<'HEADER'");
    line(&format!("Authorization: Bearer {}", request.token));
    line("HEADER");
    line("cat > request.json <<'REQUEST'");
    line(&json);
    line("REQUEST");
    line("has_installer() { echo \"$sum  installer\" | sha256sum -c --status 2>/dev/null; }");
    line("fetch() { # NAME ADDRESS");
    line("  echo \"fetching the installer from $1\" >&2");
    line("  curl --silent --show-error --fail --noproxy '*' --cacert ca.pem --header @header \\");
    line(&format!(
        "    --connect-to \"$1:{0}:$2:{0}\" --connect-timeout 5 --speed-limit 1 --speed-time 30 \\",
        join::PORT
    ));
    line(&format!(
        "    --output part \"https://$1:{}/v1/join/blob/$sum\" && mv part installer && has_installer",
        join::PORT
    ));
    line("}");
    line("if ! has_installer && ! command -v curl >/dev/null; then");
    line(
        "  echo \"curl is missing; install it, or copy the vendor's installer to $d/installer\" >&2; exit 1",
    );
    line("fi");
    let mut tries = String::from("has_installer");
    for master in &request.masters {
        // Writing to a String can't fail.
        let _ = write!(tries, " || fetch {}", master_words(master));
    }
    line(&format!(
        "{tries} || {{ echo 'no master gave the installer' >&2; exit 1; }}"
    ));
    line("chmod 700 installer; rm -f header");
    line("./installer join --request \"$d/request.json\"");
    line("}");
    line("(sealift_join) < /dev/null");
    line("JOIN");
    text
}

/// Name and address as two words; an IPv6 address is in brackets, as curl wants it.
fn master_words(master: &Master) -> String {
    match master.address {
        IpAddr::V4(address) => format!("{} {address}", master.name),
        IpAddr::V6(address) => format!("{} '[{address}]'", master.name),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::process::Stdio;

    use api::join::JoinRequest;
    use api::join::Role;
    use bundle::Digest;

    use super::*;

    fn parts() -> ScriptParts {
        ScriptParts {
            token_id: "k3v9a0qz".to_owned(),
            request: JoinRequest {
                cluster_id: "az09adbcde".to_owned(),
                role: Role::Master,
                masters: vec![
                    Master {
                        name: "m1".parse().unwrap(),
                        address: [10, 0, 0, 11].into(),
                    },
                    Master {
                        name: "m2".parse().unwrap(),
                        address: "fd00::12".parse().unwrap(),
                    },
                ],
                ca_pem: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".to_owned(),
                token: "k3v9a0qz.0123".to_owned(),
                expires_at: "2026-11-26T00:00:00Z".parse().unwrap(),
                vendor: "acme".parse().unwrap(),
                root_fingerprint: Digest::of(b"root"),
            },
            installers: [("linux/amd64".to_owned(), Digest::of(b"installer"))].into(),
        }
    }

    #[test]
    fn the_script_is_short_and_lists_every_master() {
        insta::assert_snapshot!(render(&parts()));
    }

    #[test]
    fn the_shell_takes_it_and_half_of_it_does_nothing() {
        let text = render(&parts());
        let outer = |text: &str| {
            let child = Command::new("sh")
                .args(["-n", "-c", text])
                .stdin(Stdio::null())
                .output();
            child.unwrap()
        };
        assert!(outer(&text).status.success());
        let inner: Vec<&str> = text.lines().collect();
        let body = inner.get(1..inner.len() - 1).unwrap().join("\n");
        assert!(outer(&body).status.success(), "{body}");
        // Cut anywhere, the function is never called.
        for end in 1..inner.len() - 2 {
            let half = inner.get(1..=end).unwrap().join("\n");
            assert!(!half.contains("\n(sealift_join)"));
        }
    }
}
