//! All masters that a site has ever had, as every master keeps them in [`FILE`] and tells each other.
//!
//! Merge = union of the names; for one name the entry with the higher counter wins. Equal counters with different
//! entries come from two masters that changed one name at the same time: removed wins over present, then the larger
//! address, so that all sites end with the same list, whatever the order. Nothing is ever taken out: a name that is
//! removed stays, because its certificate has to be refused for ever.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use bundle::fault::Blame;
use bundle::fault::Fault;
use serde::Deserialize;
use serde::Serialize;

use crate::join::Role;
use crate::sync::NodeName;

/// Where a node keeps it.
pub const FILE: &str = "/etc/sealift/members.json";

/// Where masters connect to each other when nothing else is said.
pub const PORT: u16 = 7401;

/// The address of a name that nobody calls.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Names that a list may have; a larger one is refused, or not taken over from a peer.
pub const NAMES_MAX: usize = 4096;

/// Largest list as bytes: its names at some 150 bytes each.
pub const BYTES_MAX: usize = 1 << 20;

/// The list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// Each name once.
    pub nodes: BTreeMap<NodeName, Member>,
}

/// What is known of one name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// Grows with every change of this name.
    pub counter: u64,
    /// Whether its certificate is let in.
    pub state: State,
    /// Masters replicate; a worker is listed only once it is removed.
    #[serde(default = "master")]
    pub role: Role,
    /// Its address.
    pub address: IpAddr,
    /// Where it listens for masters.
    #[serde(default = "port")]
    pub port: u16,
}

/// Whether a node belongs to the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is about to: it may fetch everything, and counts for nothing until it is present.
    Joining,
    /// It does.
    Present,
    /// It does not any more.
    Removed,
}

/// Bytes that are no list of members.
#[derive(Debug, thiserror::Error)]
pub enum MembersError {
    /// Too long, or too many names.
    #[error("the list of members has {actual} {what}, at most {limit} are allowed")]
    Size {
        /// `bytes` or `names`.
        what: &'static str,
        /// How many there are.
        actual: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Not of this shape.
    #[error("the list of members can't be understood")]
    Shape(#[from] serde_json::Error),
}

impl Members {
    /// Reads the file or a peer's answer.
    pub fn parse(bytes: &[u8]) -> Result<Self, MembersError> {
        within("bytes", bytes.len(), BYTES_MAX)?;
        let members: Self = serde_json::from_slice(bytes)?;
        within("names", members.nodes.len(), NAMES_MAX)?;
        Ok(members)
    }

    /// The file, for people too: sorted, one field a line.
    pub fn to_bytes(&self) -> Result<Vec<u8>, MembersError> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The masters of the site now, by name.
    pub fn present(&self) -> impl Iterator<Item = (&NodeName, &Member)> {
        self.nodes
            .iter()
            .filter(|(_, member)| member.state == State::Present && member.role == Role::Master)
    }

    /// Masters to be.
    pub fn joining(&self) -> impl Iterator<Item = &NodeName> {
        let joining = self.nodes.iter();
        let joining = joining.filter(|(_, member)| member.state == State::Joining);
        joining.map(|(name, _)| name)
    }

    /// Whether a name was removed.
    pub fn is_removed(&self, name: &NodeName) -> bool {
        self.nodes
            .get(name)
            .is_some_and(|member| member.state == State::Removed)
    }

    /// Notes a master as present; says whether that is news.
    pub fn admit(&mut self, name: &NodeName, address: SocketAddr) -> bool {
        self.change(name, |counter| Member {
            counter,
            state: State::Present,
            role: Role::Master,
            address: address.ip(),
            port: address.port(),
        })
    }

    /// Notes a name as a master to be, unless it is one already; says whether that is news.
    pub fn invite(&mut self, name: &NodeName) -> bool {
        let known = self.nodes.get(name);
        if known.is_some_and(|member| member.state == State::Present) {
            return false;
        }
        self.change(name, |counter| Member {
            counter,
            state: State::Joining,
            role: Role::Master,
            address: NOWHERE,
            port: PORT,
        })
    }

    /// Notes a node as removed; says whether that is news.
    pub fn remove(&mut self, name: &NodeName, role: Role) -> bool {
        let known = self.nodes.get(name);
        let address = known.map_or(NOWHERE, |member| member.address);
        let port = known.map_or(PORT, |member| member.port);
        self.change(name, |counter| Member {
            counter,
            state: State::Removed,
            role,
            address,
            port,
        })
    }

    /// Takes over what another list knows better; says whether that is news.
    pub fn merge(&mut self, other: &Self) -> bool {
        let mut news = false;
        for (name, theirs) in &other.nodes {
            let is_better = match self.nodes.get(name) {
                Some(ours) => ours < theirs,
                None => self.nodes.len() < NAMES_MAX,
            };
            if is_better {
                self.nodes.insert(name.clone(), theirs.clone());
                news = true;
            }
        }
        news
    }

    fn change(&mut self, name: &NodeName, to: impl FnOnce(u64) -> Member) -> bool {
        let known = self.nodes.get(name);
        let counter = known.map_or(0, |member| member.counter);
        let mut changed = to(counter);
        if known == Some(&changed) {
            return false;
        }
        changed.counter = counter.saturating_add(1);
        self.nodes.insert(name.clone(), changed);
        true
    }
}

impl Member {
    /// Where it listens for masters.
    pub const fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

const fn master() -> Role {
    Role::Master
}

const fn port() -> u16 {
    PORT
}

const fn within(what: &'static str, actual: usize, limit: usize) -> Result<(), MembersError> {
    if actual <= limit {
        return Ok(());
    }
    Err(MembersError::Size {
        what,
        actual,
        limit,
    })
}

impl Fault for MembersError {
    fn code(&self) -> &'static str {
        "MEMBERS_FORMAT"
    }

    fn blame(&self) -> Blame {
        Blame::Input
    }

    fn hint(&self) -> Option<String> {
        Some(format!("copy {FILE} of another master here"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NodeName {
        text.parse().unwrap()
    }

    fn at(last: u8) -> SocketAddr {
        ([10, 0, 0, last], PORT).into()
    }

    fn merged(parts: &[&Members]) -> Members {
        let mut all = Members::default();
        for part in parts {
            all.merge(part);
        }
        all
    }

    #[test]
    fn two_masters_that_admit_at_once_end_with_both() {
        let mut one = Members::default();
        one.admit(&name("m1"), at(1));
        let mut two = one.clone();
        assert!(one.admit(&name("m2"), at(2)));
        assert!(two.admit(&name("m3"), at(3)));
        assert!(one.merge(&two));
        assert!(!one.merge(&two));
        let names: Vec<&str> = one.present().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["m1", "m2", "m3"]);
    }

    #[test]
    fn the_order_of_merging_decides_nothing() {
        let mut first = Members::default();
        first.admit(&name("m1"), at(1));
        let (mut gone, mut moved) = (first.clone(), first.clone());
        gone.remove(&name("m1"), Role::Master);
        moved.admit(&name("m1"), at(9));
        let all = merged(&[&first, &gone, &moved]);
        assert_eq!(all, merged(&[&moved, &gone, &first]));
        assert!(all.is_removed(&name("m1")));
        assert_eq!(all.present().count(), 0);
    }

    #[test]
    fn what_is_removed_stays_and_may_come_again() {
        let mut members = Members::default();
        members.admit(&name("m1"), at(1));
        let before = members.clone();
        assert!(members.remove(&name("m1"), Role::Master));
        assert!(!members.merge(&before));
        assert!(!members.remove(&name("m1"), Role::Master));
        assert!(members.admit(&name("m1"), at(1)));
        assert!(!members.is_removed(&name("m1")));
    }

    #[test]
    fn a_master_to_be_is_none_yet_and_an_invitation_unmakes_none() {
        let mut members = Members::default();
        assert!(members.invite(&name("m2")) && !members.invite(&name("m2")));
        assert_eq!(
            (members.joining().count(), members.present().count()),
            (1, 0)
        );
        assert!(members.admit(&name("m2"), at(2)));
        assert!(!members.invite(&name("m2")));
        assert_eq!(
            (members.joining().count(), members.present().count()),
            (0, 1)
        );
        members.remove(&name("m2"), Role::Master);
        assert!(members.invite(&name("m2")) && !members.is_removed(&name("m2")));
    }

    #[test]
    fn the_file_is_read_as_it_was_written() {
        let mut members = Members::default();
        members.admit(&name("m1"), at(1));
        members.remove(&name("w1"), Role::Worker);
        let bytes = members.to_bytes().unwrap();
        assert_eq!(Members::parse(&bytes).unwrap(), members);
        let short = br#"{"nodes":{"m1":{"counter":1,"state":"present","address":"10.0.0.1"}}}"#;
        let short = Members::parse(short).unwrap();
        assert_eq!(short.present().next().unwrap().1.socket(), at(1));
    }

    #[test]
    fn a_list_without_end_is_refused() {
        let error = Members::parse(&vec![b' '; BYTES_MAX + 1]).unwrap_err();
        assert!(matches!(error, MembersError::Size { .. }), "{error}");
    }
}
