//! What follows a master's join: everybody knows it, and the cluster's DNS runs on more than one machine.

use api::join::Master;
use api::site;
use serde_json::json;

use super::fault::JoinError;
use crate::kubernetes::Kubernetes;
use crate::kubernetes::KubernetesError;
use crate::kubernetes::config_map;

/// Key of the list of masters beside the site's other keys.
const MASTERS_KEY: &str = "masters.json";

const COREDNS: &str = "/apis/apps/v1/namespaces/kube-system/deployments/coredns";

/// Tells the cluster who its masters are.
pub(super) async fn tell_masters(
    kubernetes: &Kubernetes,
    masters: &[Master],
) -> Result<(), JoinError> {
    let text = serde_json::to_string(masters).unwrap_or_default();
    let change = json!({ "data": { MASTERS_KEY: text } });
    match kubernetes
        .merge(&config_map(site::CONFIG_MAP), &change)
        .await
    {
        // Made by the installer; without one there is nothing to add to.
        Err(KubernetesError::Refused { status: 404, .. }) => Ok(()),
        told => Ok(told?),
    }
}

/// Starts the pods of CoreDNS anew, one machine each, masters first.
///
/// kubeadm leaves both on the first master, and its power cut then stops every look-up for minutes (measured).
pub(super) async fn spread_dns(kubernetes: &Kubernetes) -> Result<(), JoinError> {
    let now = kubernetes.now().await?;
    let on_masters = json!({
        "weight": 50,
        "preference": { "matchExpressions": [
            { "key": "node-role.kubernetes.io/control-plane", "operator": "Exists" },
        ] },
    });
    let spread = json!({
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": { "matchLabels": { "k8s-app": "kube-dns" } },
        // Pods of the version that is leaving must not count.
        "matchLabelKeys": ["pod-template-hash"],
    });
    let change = json!({ "spec": { "template": {
        "metadata": { "annotations": { "kubectl.kubernetes.io/restartedAt": now.to_string() } },
        "spec": {
            "topologySpreadConstraints": [spread],
            "affinity": { "nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [on_masters],
            } },
        },
    } } });
    match kubernetes.merge(COREDNS, &change).await {
        Err(KubernetesError::Refused { status: 404, .. }) => Ok(()),
        done => Ok(done?),
    }
}
