//! What the site is, for machines that join it: from this node's own file, the cluster's ConfigMap, and the nodes.

use std::path::Path;

use api::join::Master;
use api::join::Site;
use api::join::Taken;
use api::join::TurnWish;
use api::site;
use api::site::ClusterSite;
use api::site::NodeSite;
use api::sync::NodeName;

use super::fault::JoinError;
use super::plane::Plane;
use super::plane::read_text;
use crate::kubernetes::ConfigMap;
use crate::kubernetes::Kubernetes;
use crate::kubernetes::Node;
use crate::kubernetes::config_map;

/// The path of all nodes.
const NODES: &str = "/api/v1/nodes";

/// Reads this node's own facts.
pub(super) fn read_node(sealift: &Path) -> Result<NodeSite, JoinError> {
    let name = Path::new(site::NODE_FILE).file_name().unwrap_or_default();
    let text = read_text(&sealift.join(name))?;
    serde_json::from_str(&text).map_err(|error| JoinError::Document {
        what: "site.json".to_owned(),
        why: error.to_string(),
    })
}

/// What is wanted of the cluster: its ConfigMap, or this node's own facts before there is one.
pub(super) async fn read_cluster(
    plane: &Plane,
    kubernetes: &Kubernetes,
) -> Result<ClusterSite, JoinError> {
    let kept: Option<ConfigMap> = kubernetes.read(&config_map(site::CONFIG_MAP)).await?;
    match kept.and_then(|kept| kept.data.get(site::SITE_KEY).cloned()) {
        Some(text) => serde_json::from_str(&text).map_err(|error| JoinError::Document {
            what: format!("{} in ConfigMap {}", site::SITE_KEY, site::CONFIG_MAP),
            why: error.to_string(),
        }),
        None => Ok(read_node(&plane.files.sealift)?.of_cluster()),
    }
}

/// All nodes.
pub(super) async fn read_nodes(kubernetes: &Kubernetes) -> Result<Vec<Node>, JoinError> {
    Ok(kubernetes.list(NODES, "").await?)
}

/// Everything that a joining machine needs to know.
pub(super) async fn read_site(plane: &Plane) -> Result<Site, JoinError> {
    let kubernetes = plane.kubernetes()?;
    let cluster = read_cluster(plane, &kubernetes).await?;
    let nodes = read_nodes(&kubernetes).await?;
    Ok(Site {
        cluster_id: cluster.cluster_id.to_string(),
        endpoint: cluster.endpoint,
        ha: cluster.ha,
        load_balancer: cluster.load_balancer,
        taint_control_plane: cluster.taint_control_plane,
        masters: masters(&nodes, &cluster.first_master),
        first_master: cluster.first_master,
        bundles: cluster.bundles,
        now: kubernetes.now().await?,
        taken: nodes.iter().map(taken).collect(),
    })
}

/// The masters among the nodes, the first master first.
pub(super) fn masters(nodes: &[Node], first: &NodeName) -> Vec<Master> {
    let mut masters: Vec<Master> = nodes
        .iter()
        .filter(|node| node.is_master())
        .filter_map(|node| {
            Some(Master {
                name: node.metadata.name.parse().ok()?,
                address: node.address()?,
            })
        })
        .collect();
    masters.sort_by(|one, other| {
        let key = |master: &Master| (master.name != *first, master.name.clone());
        key(one).cmp(&key(other))
    });
    masters
}

/// Refuses a machine whose name or machine id is another one's.
pub(super) fn refuse_taken(nodes: &[Node], wish: &TurnWish) -> Result<(), JoinError> {
    for node in nodes {
        let is_same_name = node.metadata.name == wish.who.node.as_str();
        let is_same_machine = node.machine_id() == wish.machine_id && !wish.machine_id.is_empty();
        if is_same_name && !is_same_machine && node.is_ready() {
            return Err(JoinError::NameTaken(node.metadata.name.clone()));
        }
        if is_same_machine && !is_same_name {
            return Err(JoinError::MachineTaken(node.metadata.name.clone()));
        }
    }
    Ok(())
}

fn taken(node: &Node) -> Taken {
    Taken {
        name: node.metadata.name.clone(),
        machine_id: node.machine_id().to_owned(),
        address: node.address(),
        ready: node.is_ready(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use api::join::Attempt;
    use serde_json::json;

    use super::*;

    /// `m1+` is a ready master, `w1-` a worker that is not ready; machine ids are the names in capitals.
    pub(crate) fn node(word: &str) -> serde_json::Value {
        let name = word.trim_end_matches(['+', '-']);
        let labels = if name.starts_with('m') {
            json!({ "node-role.kubernetes.io/control-plane": "" })
        } else {
            json!({})
        };
        let number = name.trim_start_matches(['m', 'w']);
        json!({
            "metadata": { "name": name, "labels": labels },
            "status": {
                "conditions": [{ "type": "Ready", "status": if word.ends_with('+') { "True" } else { "Unknown" } }],
                "addresses": [{ "type": "InternalIP", "address": format!("10.0.0.{number}") }],
                "nodeInfo": { "machineID": name.to_uppercase() },
            },
        })
    }

    fn nodes(words: &str) -> Vec<Node> {
        words
            .split(' ')
            .map(|word| serde_json::from_value(node(word)).unwrap())
            .collect()
    }

    #[test]
    fn the_first_master_comes_first() {
        let masters = masters(&nodes("w4+ m1+ m2- m3+"), &"m3".parse().unwrap());
        let names: Vec<_> = masters.iter().map(|master| master.name.as_str()).collect();
        assert_eq!(names, ["m3", "m1", "m2"]);
    }

    #[test]
    fn names_and_machines_are_taken_once() {
        let refused = |name: &str, machine: &str| {
            let wish = TurnWish {
                who: Attempt {
                    node: name.parse().unwrap(),
                    attempt: String::new(),
                },
                address: [10, 0, 0, 9].into(),
                machine_id: machine.to_owned(),
                doing: String::new(),
                begins: true,
            };
            let refused = refuse_taken(&nodes("m1+ m2-"), &wish);
            refused
                .err()
                .map(|error| bundle::fault::Fault::code(&error))
        };
        assert_eq!(refused("m3", "M3"), None);
        assert_eq!(refused("m1", "M1"), None, "it goes on where it was");
        assert_eq!(refused("m1", "OTHER"), Some("JOIN_NAME_TAKEN"));
        assert_eq!(refused("m2", "OTHER"), None, "a new machine for a lost one");
        assert_eq!(refused("m3", "M1"), Some("JOIN_MACHINE_TAKEN"));
    }
}
