//! Keeps the forwarder's orders as they follow from the node's facts and the members.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::endpoint;
use api::endpoint::Endpoint;
use api::endpoint::Facts;
use api::site::NodeSite;
use program::durable;
use tokio::sync::watch;

use super::Membership;
use super::Roster;

/// How often the node's facts are looked at.
const POLL: Duration = Duration::from_secs(2);

/// Largest document of a node's facts: it is some hundred bytes.
const SITE_BYTES_MAX: usize = 64 << 10;

/// Why the orders stay as they are.
type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// Writes the orders anew whenever they follow otherwise, for ever. A node without a site has no forwarder.
pub async fn keep_endpoint(
    membership: Arc<Membership>,
    site: PathBuf,
    targets: PathBuf,
    mut told: watch::Receiver<u64>,
) {
    let mut roster = membership.follow();
    let mut last_trouble = None;
    loop {
        let now = roster.borrow_and_update().clone();
        let (site, targets) = (site.clone(), targets.clone());
        let kept = tokio::task::spawn_blocking(move || keep(&now, &site, &targets)).await;
        let Ok(kept) = kept else {
            return;
        };
        let trouble = kept.err().map(|error| error.to_string());
        if let Some(error) = trouble.as_ref().filter(|_| trouble != last_trouble) {
            tracing::warn!(error, "the API targets stay as they are");
        }
        last_trouble = trouble;
        tokio::select! {
            changed = roster.changed() => if changed.is_err() { return },
            _told = told.changed() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

fn keep(roster: &Roster, site: &Path, targets: &Path) -> Result<(), Trouble> {
    let Some(site) = read(site, SITE_BYTES_MAX)? else {
        return Ok(());
    };
    let site: NodeSite = serde_json::from_slice(&site)?;
    let wanted = Endpoint::plan(&Facts {
        node: &site.node,
        role: site.role,
        address: site.address,
        endpoint: &site.endpoint,
        load_balancer: site.load_balancer.as_deref(),
        first_master: &site.first_master,
        members: roster.members(),
    });
    let is_seeded = roster.members().present().next().is_some();
    let there = read(targets, endpoint::BYTES_MAX)?;
    let known = there.and_then(|bytes| Endpoint::parse(&bytes).ok());
    // A node that knows no master yet must not forget those that it was told at its join.
    if known.as_ref() == Some(&wanted) || (known.is_some() && !is_seeded) {
        return Ok(());
    }
    durable::replace(targets, &wanted.to_bytes()?, 0o644)?;
    tracing::info!(
        targets = wanted.targets.len(),
        "the API targets are written anew"
    );
    Ok(())
}

fn read(file: &Path, bytes_max: usize) -> Result<Option<Vec<u8>>, Trouble> {
    match durable::read_capped(file, bytes_max) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use api::members::Members;

    use super::*;

    const SITE: &str = r#"{"cluster_id": "abcdefghij", "node": "w1", "role": "worker", "address": "10.0.0.9",
        "endpoint": "api.abcdefghij.sealift.internal:6444", "vendor": "acme", "first_master": "m1",
        "kubernetes": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "ha": false, "taint_control_plane": false}"#;

    fn roster(masters: &[(&str, u8)]) -> Roster {
        let mut members = Members::default();
        for (name, last) in masters {
            members.admit(&name.parse().unwrap(), ([10, 0, 0, *last], 7401).into());
        }
        Roster::new(None, &[], members)
    }

    #[test]
    fn targets_follow_the_members_and_an_empty_list_forgets_none() {
        let directory = tempfile::tempdir().unwrap();
        let [site, targets] =
            ["site.json", "endpoint.json"].map(|name| directory.path().join(name));
        let hosts = || {
            let endpoint = Endpoint::parse(&std::fs::read(&targets).unwrap()).unwrap();
            let hosts = endpoint.targets.into_iter().map(|target| target.host);
            hosts.collect::<Vec<_>>()
        };
        keep(&roster(&[("m1", 1)]), &site, &targets).unwrap();
        assert!(!targets.exists(), "no site, no forwarder");

        std::fs::write(&site, SITE).unwrap();
        keep(&roster(&[("m1", 1)]), &site, &targets).unwrap();
        assert_eq!(hosts(), ["10.0.0.1"]);
        keep(&roster(&[("m0", 7), ("m1", 1)]), &site, &targets).unwrap();
        assert_eq!(hosts(), ["10.0.0.1", "10.0.0.7"]);
        keep(&roster(&[]), &site, &targets).unwrap();
        assert_eq!(hosts(), ["10.0.0.1", "10.0.0.7"]);
    }
}
