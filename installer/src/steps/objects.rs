//! The `ConfigMap`s that the installer keeps in the cluster.

use std::collections::BTreeMap;

use api::site::APPLIED_KEY;
use api::site::APPLIED_MAP;
use api::site::Applied;
use api::site::CONFIG_MAP;
use api::site::ClusterSite;
use api::site::NAMESPACE;
use api::site::SITE_KEY;
use bundle::fault::Blame;
use bundle::fault::Fault;
use program::Outcome;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::machine::Machine;
use crate::tools::kubectl;

/// A ConfigMap of ours that somebody has changed into something else.
#[derive(Debug, thiserror::Error)]
#[error("{key} of ConfigMap {NAMESPACE}/{name} can't be understood")]
struct Damaged {
    name: &'static str,
    key: &'static str,
    source: serde_json::Error,
}

#[derive(Deserialize)]
struct ConfigMap {
    #[serde(default)]
    data: BTreeMap<String, String>,
}

/// What is wanted of the cluster, if that is recorded.
pub(crate) fn site(machine: &Machine) -> Outcome<Option<ClusterSite>> {
    read(machine, CONFIG_MAP, SITE_KEY)
}

/// Records what is wanted of the cluster.
pub(crate) fn keep_site(machine: &Machine, site: &ClusterSite) -> Outcome {
    keep(machine, CONFIG_MAP, SITE_KEY, &site.to_json())
}

/// What the installer has applied so far.
pub(crate) fn applied(machine: &Machine) -> Outcome<Applied> {
    Ok(read(machine, APPLIED_MAP, APPLIED_KEY)?.unwrap_or_default())
}

/// Records what the installer has applied.
pub(crate) fn keep_applied(machine: &Machine, applied: &Applied) -> Outcome {
    keep(machine, APPLIED_MAP, APPLIED_KEY, &applied.to_json())
}

fn read<T: DeserializeOwned>(
    machine: &Machine,
    name: &'static str,
    key: &'static str,
) -> Outcome<Option<T>> {
    let object = format!("configmap/{name}");
    let map: Option<ConfigMap> = kubectl::get(machine, &["-n", NAMESPACE, &object])?;
    let Some(text) = map.and_then(|mut map| map.data.remove(key)) else {
        return Ok(None);
    };
    let damaged = |source| Damaged { name, key, source };
    Ok(Some(serde_json::from_str(&text).map_err(damaged)?))
}

fn keep(machine: &Machine, name: &str, key: &str, text: &str) -> Outcome {
    let object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "data": {key: text},
    });
    Ok(kubectl::apply_object(machine, &object)?)
}

impl Fault for Damaged {
    fn code(&self) -> &'static str {
        "CLUSTER_RECORD"
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }

    fn hint(&self) -> Option<String> {
        Some(format!(
            "look at it with kubectl -n {NAMESPACE} get configmap {} -o yaml; it is JSON that the installer wrote",
            self.name
        ))
    }
}
