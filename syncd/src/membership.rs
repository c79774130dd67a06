//! Who the masters of the site are: one list, durable on every node, told from peer to peer.
//!
//! 1. The list is read from its file at the start, and again when the file changes or the daemon gets SIGHUP.
//! 2. Peers of the configuration count as present, too, unless the list says that they were removed.
//! 3. A machine that gets a master's certificate is listed as joining: it is let in to fetch, and counts for nothing yet.
//! 4. Every change is written durably, then everybody who follows the [`Roster`] learns of it, and peers are told
//!    (`gossip`); what peers know better is merged.
//!
//! What it must never do: take a name out of the list, or let a list that it can't read pass for an empty one.

mod gossip;
mod learn;
#[cfg(test)]
mod tests;
mod upkeep;

pub use gossip::gossip;
pub use gossip::routes;
pub(crate) use learn::learn;
pub use upkeep::keep_endpoint;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use api::join::Role;
use api::members;
use api::members::Members;
use api::members::MembersError;
use api::sync::NodeName;
use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use program::FileError;
use program::durable;
use tokio::sync::watch;

use crate::config::Config;
use crate::config::Peer;

/// How often the file is looked at.
const POLL: Duration = Duration::from_secs(2);

/// The list and its file.
#[derive(Debug)]
pub struct Membership {
    me: NodeName,
    file: PathBuf,
    /// Peers of the configuration.
    by_hand: Vec<Peer>,
    list: Mutex<Members>,
    roster: watch::Sender<Arc<Roster>>,
}

/// The members, as those see them who call members or let them in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// The other masters and where they listen, `host:port`.
    peers: BTreeMap<NodeName, String>,
    members: Members,
}

/// The list can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// The disk's fault.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is damaged.
    #[error("{} is no list of members", file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: MembersError,
    },
}

impl Roster {
    /// Masters that are known by hand alone.
    pub fn of_peers(peers: &[Peer]) -> Self {
        Self::new(None, peers, Members::default())
    }

    /// The masters of a list.
    #[cfg(test)]
    pub(crate) fn of_members(members: Members) -> Self {
        Self::new(None, &[], members)
    }

    fn new(me: Option<&NodeName>, by_hand: &[Peer], members: Members) -> Self {
        let listed = members.present();
        let listed = listed.map(|(name, member)| (name.clone(), member.socket().to_string()));
        let mut peers: BTreeMap<NodeName, String> = listed.collect();
        for peer in by_hand {
            if !members.is_removed(&peer.name) {
                peers.insert(peer.name.clone(), peer.address.clone());
            }
        }
        if let Some(me) = me {
            peers.remove(me);
        }
        Self { peers, members }
    }

    /// The other masters, by name.
    pub fn peers(&self) -> impl Iterator<Item = &NodeName> {
        self.peers.keys()
    }

    /// Where another master listens.
    pub fn address(&self, peer: &NodeName) -> Option<&str> {
        self.peers.get(peer).map(String::as_str)
    }

    /// Everything that is known.
    pub const fn members(&self) -> &Members {
        &self.members
    }

    /// Masters to be, who may fetch what this node has, and are not listened to.
    pub fn guests(&self) -> impl Iterator<Item = &NodeName> {
        self.members
            .joining()
            .filter(|name| !self.peers.contains_key(name))
    }

    /// Whether a certificate of this name and role is let in: masters that are listed, workers unless they were removed.
    pub fn lets_in(&self, name: &NodeName, role: Role) -> bool {
        match role {
            Role::Master => self.peers.contains_key(name) || self.guests().any(|one| one == name),
            Role::Worker => !self.members.is_removed(name),
        }
    }
}

impl Membership {
    /// Reads the list; one that is not there is empty.
    pub fn load(config: &Config) -> Result<Arc<Self>, MembershipError> {
        let membership = Self {
            me: config.node.clone(),
            file: config.members.clone(),
            by_hand: config.peers.clone(),
            list: Mutex::default(),
            roster: watch::Sender::default(),
        };
        let members = membership.read()?;
        // Also where there is none: the configuration may name peers.
        membership.tell(&members);
        *membership.list() = members;
        Ok(Arc::new(membership))
    }

    /// Follows the members.
    pub fn follow(&self) -> watch::Receiver<Arc<Roster>> {
        self.roster.subscribe()
    }

    /// The members now.
    pub fn roster(&self) -> Arc<Roster> {
        self.roster.borrow().clone()
    }

    /// Takes over what another list knows better, and says whether that was news. Waits for the disk.
    pub fn merge(&self, other: &Members) -> Result<bool, MembershipError> {
        self.change(|list| list.merge(other))
    }

    /// Makes a master a member. Waits for the disk.
    pub fn admit(&self, name: &NodeName, address: SocketAddr) -> Result<bool, MembershipError> {
        self.change(|list| list.admit(name, address))
    }

    /// Lets a master to be fetch what the masters have. Waits for the disk.
    pub fn invite(&self, name: &NodeName) -> Result<bool, MembershipError> {
        self.change(|list| list.invite(name))
    }

    /// Takes a node out for good. Waits for the disk.
    pub fn remove(&self, name: &NodeName, role: Role) -> Result<bool, MembershipError> {
        self.change(|list| list.remove(name, role))
    }

    /// Reads the file again, and puts it right where it lacks something. Waits for the disk.
    pub fn reload(&self) -> Result<bool, MembershipError> {
        // The list stays locked, so that nothing newer is overwritten.
        let mut list = self.list();
        let found = self.read()?;
        let is_news = list.merge(&found);
        self.tell(&list);
        if *list != found {
            self.write(&list)?;
        }
        Ok(is_news)
    }

    /// Looks at the file again and again, for ever; each word of `told` asks for it at once.
    pub async fn watch_file(self: Arc<Self>, mut told: watch::Receiver<u64>) {
        loop {
            let _told_or_due = tokio::time::timeout(POLL, told.changed()).await;
            let membership = self.clone();
            let reloaded = tokio::task::spawn_blocking(move || membership.reload()).await;
            match reloaded {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(code = error.code(), %error, "the list in force stays");
                }
                Err(_ending) => return,
            }
        }
    }

    /// What was changed is in the file before it is in force; when that fails it is in force, and `watch_file` tries again.
    fn change(&self, act: impl FnOnce(&mut Members) -> bool) -> Result<bool, MembershipError> {
        let mut list = self.list();
        if !act(&mut list) {
            return Ok(false);
        }
        let written = self.write(&list);
        self.tell(&list);
        written?;
        Ok(true)
    }

    fn tell(&self, list: &Members) {
        let roster = Arc::new(Roster::new(Some(&self.me), &self.by_hand, list.clone()));
        let is_news = self.roster.send_if_modified(|now| {
            let is_news = *now != roster;
            *now = roster;
            is_news
        });
        if is_news && list.is_removed(&self.me) {
            tracing::warn!(node = %self.me, "this node was removed from the site: reset it, and join it again");
        }
    }

    fn read(&self) -> Result<Members, MembershipError> {
        let bytes = match durable::read_capped(&self.file, members::BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Members::default()),
            Err(error) => return Err(error.into()),
        };
        Members::parse(&bytes).map_err(|source| self.format(source))
    }

    fn write(&self, list: &Members) -> Result<(), MembershipError> {
        let bytes = list.to_bytes().map_err(|source| self.format(source))?;
        Ok(durable::replace(&self.file, &bytes, 0o644)?)
    }

    fn format(&self, source: MembersError) -> MembershipError {
        MembershipError::Format {
            file: self.file.clone(),
            source,
        }
    }

    fn list(&self) -> MutexGuard<'_, Members> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fault for MembershipError {
    fn code(&self) -> &'static str {
        match self {
            Self::File(error) => error.code(),
            Self::Format { source, .. } => source.code(),
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::File(error) => error.blame(),
            Self::Format { source, .. } => source.blame(),
        }
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::File(error) => error.facts(),
            Self::Format { source, .. } => vec![Fact::new("reason", source)],
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
            Self::Format { source, .. } => source.hint(),
        }
    }
}
