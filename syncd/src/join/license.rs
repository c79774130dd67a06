//! What the customer's license says about one more node.

use std::collections::BTreeSet;

use api::join::Role;
use bundle::license::VerifiedLicense;
use bundle::name::Name;
use store::Store;
use store::record::Kind;

use super::fault::JoinError;
use crate::kubernetes::Node;

/// Nodes that are, and names of machines that have credentials to become one.
#[derive(Clone, Debug)]
pub(super) struct Crowd {
    pub(super) nodes: Vec<Node>,
    pub(super) joining: BTreeSet<String>,
}

/// Refuses a node that the newest license of the vendor does not cover; a site without a license has no limit here.
pub(super) fn require_room(
    store: &Store,
    vendor: &Name,
    crowd: &Crowd,
    name: &str,
    role: Role,
) -> Result<(), JoinError> {
    let Some(license) = newest(store, vendor)? else {
        return Ok(());
    };
    let (masters, all) = counted(crowd, name, role);
    license
        .allows_size(masters, all)
        .map_err(JoinError::License)
}

/// Masters and nodes once the machine has joined; it counts once, also when it has been here before.
fn counted(crowd: &Crowd, name: &str, role: Role) -> (u32, u32) {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let nodes = crowd.nodes.iter();
    let masters = nodes.filter(|node| node.metadata.name != name && node.is_master());
    let masters = count(masters.count());
    let mut all: BTreeSet<&str> = crowd.joining.iter().map(String::as_str).collect();
    all.extend(crowd.nodes.iter().map(|node| node.metadata.name.as_str()));
    all.insert(name);
    let joining_masters = match role {
        Role::Master => 1,
        Role::Worker => 0,
    };
    (masters.saturating_add(joining_masters), count(all.len()))
}

fn newest(store: &Store, vendor: &Name) -> Result<Option<VerifiedLicense>, JoinError> {
    let mut newest: Option<VerifiedLicense> = None;
    let records = store.records()?;
    for record in records.iter().filter(|record| record.kind == Kind::License) {
        // One that this site does not trust is none.
        let Ok(license) = store.judge_license_record(&record.payload) else {
            continue;
        };
        if license.license().vendor != *vendor {
            continue;
        }
        let order = |license: &VerifiedLicense| {
            let license = license.license();
            (license.issued_at, license.sequence)
        };
        if newest
            .as_ref()
            .is_none_or(|known| order(known) < order(&license))
        {
            newest = Some(license);
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::join::site::tests::node;

    #[test]
    fn a_machine_counts_once() {
        let nodes: Vec<Node> = ["m1+", "m2-", "w3+"]
            .map(|word| serde_json::from_value(node(word)).unwrap())
            .into();
        let joining = ["w3", "w5"].map(str::to_owned).into();
        let crowd = Crowd { nodes, joining };
        assert_eq!(counted(&crowd, "m4", Role::Master), (3, 5));
        assert_eq!(counted(&crowd, "m2", Role::Master), (2, 4));
        assert_eq!(counted(&crowd, "w4", Role::Worker), (2, 5));
        assert_eq!(counted(&crowd, "w5", Role::Worker), (2, 4));
    }
}
