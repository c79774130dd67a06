//! Whether a machine has joined, seen from here: it is not asked, it is looked at.

use std::time::Duration;

use api::sync::NodeName;

use super::fault::JoinError;
use super::plane::Plane;
use super::trial::Trial;
use crate::https;
use crate::https::Credentials;
use crate::kubernetes::Kubernetes;
use crate::kubernetes::Node;
use crate::kubernetes::node;

/// How long the new API server may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Looks whether a master's control plane is complete; how many voters etcd has, then.
///
/// Its pods may still come up: that is no change of the control plane any more.
pub(super) async fn require_control_plane(
    plane: &Plane,
    kubernetes: &Kubernetes,
    who: &Trial,
) -> Result<u32, JoinError> {
    let members = require_voter(plane, who).await?;
    require_api(plane, who).await?;
    let found: Option<Node> = kubernetes.read(&node(who.who.node.as_str())).await?;
    match found {
        Some(found) if found.is_master() => Ok(members),
        Some(_) | None => Err(not_yet(who, "its node is not marked as a master yet")),
    }
}

/// Looks whether a node takes pods.
pub(super) async fn require_ready(
    kubernetes: &Kubernetes,
    name: &NodeName,
) -> Result<(), JoinError> {
    let found: Option<Node> = kubernetes.read(&node(name.as_str())).await?;
    match found {
        Some(found) if found.is_ready() => Ok(()),
        Some(_) | None => Err(JoinError::NotYet(format!("{name} is not ready yet"))),
    }
}

async fn require_voter(plane: &Plane, who: &Trial) -> Result<u32, JoinError> {
    let seen = plane.etcd.see().await?;
    if seen.voter_at(&who.joiner()).is_none() {
        return Err(not_yet(who, "its etcd member does not answer"));
    }
    Ok(u32::try_from(seen.voters().count()).unwrap_or(u32::MAX))
}

/// Asks the machine's own API server, which must have a certificate of the cluster's for its address.
async fn require_api(plane: &Plane, who: &Trial) -> Result<(), JoinError> {
    let pinned = Credentials {
        authority_pem: plane.kubernetes_ca()?,
        client_pem: None,
    };
    let client = https::client(&pinned, PATIENCE).map_err(|error| JoinError::Document {
        what: "pki/ca.crt".to_owned(),
        why: error.to_string(),
    })?;
    let url = format!("{}/readyz", plane.api_url(who.address));
    match client.get(url).send().await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(not_yet(
            who,
            &format!("its API server is not ready ({})", answer.status().as_u16()),
        )),
        Err(error) => {
            tracing::debug!(%error, "a new API server does not answer");
            Err(not_yet(who, "its API server does not answer"))
        }
    }
}

fn not_yet(who: &Trial, why: &str) -> JoinError {
    JoinError::NotYet(format!("{} is no master yet: {why}", who.who.node))
}
