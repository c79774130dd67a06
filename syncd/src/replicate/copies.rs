//! Who has what for certain: waits for copies, the status, and whether a node can be lost.
//!
//! A peer counts as a copy of a content when it answers, and has said in its current boot that the record and every
//! referenced blob are published. Publishing is durable before it is said.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use api::sync::ContentKind;
use api::sync::ContentStatus;
use api::sync::Copy;
use api::sync::NodeName;
use api::sync::NodeStatus;
use api::sync::OnlyHere;
use api::sync::PeerStatus;
use api::sync::Status;
use api::sync::TransferStatus;
use api::sync::Trouble;
use bundle::Digest;
use store::Fs;
use tokio::time::Instant;

use super::Engine;
use super::peer;
use super::want::State;
use crate::contents::Content;
use crate::env::Net;
use crate::handle::Copies;
use crate::handle::WaitCopies;

/// Somebody who waits for copies.
#[derive(Debug)]
pub(super) struct Waiting {
    ask: WaitCopies,
    told: Option<Copies>,
}

impl Waiting {
    pub(super) const fn new(ask: WaitCopies) -> Self {
        Self { ask, told: None }
    }
}

impl<F: Fs, N: Net> Engine<F, N> {
    /// Answers those whose copies are complete, and tells the others how far it is.
    pub(super) fn settle_waiting(&mut self) {
        if !self.copies_changed || self.waiting.is_empty() {
            return;
        }
        self.copies_changed = false;
        let mut open = Vec::new();
        for mut waiting in std::mem::take(&mut self.waiting) {
            let copies = self.copies(&waiting.ask);
            if copies.complete >= copies.wanted {
                // Who asked may be gone.
                let _gone = waiting.ask.done.send(copies);
                continue;
            }
            if waiting.told != Some(copies) {
                waiting.told = Some(copies);
                let progress = waiting.ask.progress.as_ref();
                let _slow = progress.map(|progress| progress.try_send(copies));
            }
            if !waiting.ask.done.is_closed() {
                open.push(waiting);
            }
        }
        self.waiting = open;
    }

    fn copies(&self, ask: &WaitCopies) -> Copies {
        let members = self.others().count() + 1;
        let records = self.records_of(&ask.content);
        let content = self
            .contents
            .values()
            .find(|content| content.id == ask.content);
        let complete = content.map_or(0, |content| {
            let peers = self.others().filter(|peer| {
                peer.is_up() && !peer.records.is_disjoint(&records) && peer.lacks(content).0 == 0
            });
            let here = peer::lacks(&self.node.holdings.blobs(), content).0 == 0;
            peers.count() + usize::from(here)
        });
        Copies {
            complete,
            wanted: ask.wait.copies(members),
            members,
        }
    }

    /// The records of one content; imports at two nodes may have made two.
    fn records_of(&self, id: &Digest) -> BTreeSet<Digest> {
        let records = self.contents.iter();
        let records = records.filter(|(record, content)| content.id == *id || *record == id);
        records.map(|(record, _content)| *record).collect()
    }

    /// What this node knows of the cluster.
    pub(super) fn status(&self) -> Status {
        let blobs = self.node.holdings.blobs();
        let contents = self.by_id();
        Status {
            stamp: self.node.holdings.summary().stamp,
            peers: self.peer_statuses(),
            contents: contents
                .values()
                .map(|content| self.content_status(content, &blobs))
                .collect(),
            nodes: self.node_statuses(&contents, &blobs),
            transfers: self.transfers(),
            troubles: self.troubles(),
            counters: self.node.counters.snapshot(),
        }
    }

    /// Each content once, bundles first, newest first.
    fn by_id(&self) -> BTreeMap<(u8, std::cmp::Reverse<store::record::Order>, Digest), &Content> {
        let rank = |kind| match kind {
            ContentKind::Bundle => 0,
            ContentKind::License => 1,
            ContentKind::Root | ContentKind::Revocations => 2,
            ContentKind::Control => 3,
        };
        let contents = self.contents.values();
        contents
            .map(|content| {
                let key = (
                    rank(content.kind),
                    std::cmp::Reverse(content.order),
                    content.id,
                );
                (key, content)
            })
            .collect()
    }

    fn peer_statuses(&self) -> Vec<PeerStatus> {
        let mut peers: Vec<_> = self.others().map(|peer| self.peer_status(peer)).collect();
        peers.sort_by(|one, other| one.name.cmp(&other.name));
        peers
    }

    fn peer_status(&self, peer: &super::Peer) -> PeerStatus {
        let here = self.node.holdings.records();
        let mut sizes = BTreeMap::new();
        for blob in self.contents.values().flat_map(|content| &content.blobs) {
            sizes.insert(blob.digest, blob.cut.length);
        }
        let lacking = sizes.iter().filter(|(blob, _)| !peer.blobs.contains(blob));
        PeerStatus {
            name: peer.name.clone(),
            link: peer.link.clone(),
            silent_ms: peer.answered.map(|at| millis(at.elapsed())),
            lag_bytes: lacking.map(|(_, size)| size).sum(),
            lag_records: u64::try_from(here.difference(&peer.records).count()).unwrap_or(u64::MAX),
        }
    }

    fn content_status(&self, content: &Content, blobs: &BTreeSet<Digest>) -> ContentStatus {
        let records = self.records_of(&content.id);
        let mut copies = BTreeMap::new();
        copies.insert(
            self.settings.node.clone(),
            copy(peer::lacks(blobs, content), true),
        );
        for peer in self.others() {
            let known = !peer.records.is_disjoint(&records);
            let copy = if peer.is_up() {
                copy(peer.lacks(content), known)
            } else {
                Copy::Unknown
            };
            copies.insert(peer.name.clone(), copy);
        }
        ContentStatus {
            id: content.id,
            kind: content.kind,
            title: content.title.clone(),
            sequence: content.order.sequence,
            bytes: content.bytes(),
            blobs: u64::try_from(content.blobs.len()).unwrap_or(u64::MAX),
            copies,
        }
    }

    /// For each member, what nobody else who answers has.
    fn node_statuses<K>(
        &self,
        contents: &BTreeMap<K, &Content>,
        blobs: &BTreeSet<Digest>,
    ) -> Vec<NodeStatus> {
        let here = self.node.holdings.records();
        let mut members: Vec<Member<'_>> = vec![Member {
            name: &self.settings.node,
            blobs,
            records: &here,
            up: true,
        }];
        members.extend(self.others().map(|peer| Member {
            name: &peer.name,
            blobs: &peer.blobs,
            records: &peer.records,
            up: peer.is_up(),
        }));
        members.sort_by_key(|member| member.name);
        let statuses = members.iter().map(|member| {
            let only_here = contents.values();
            let only_here: Vec<OnlyHere> = only_here
                .filter_map(|content| self.only_at(member, &members, content))
                .collect();
            NodeStatus {
                name: member.name.clone(),
                safe_to_lose: only_here.is_empty(),
                only_here,
            }
        });
        statuses.collect()
    }

    /// What of a content would go with a member.
    fn only_at(
        &self,
        lost: &Member<'_>,
        all: &[Member<'_>],
        content: &Content,
    ) -> Option<OnlyHere> {
        let records = self.records_of(&content.id);
        let others: Vec<&Member<'_>> = all
            .iter()
            .filter(|member| member.up && member.name != lost.name)
            .collect();
        let only = content.blobs.iter().filter(|blob| {
            lost.blobs.contains(&blob.digest)
                && !others
                    .iter()
                    .any(|other| other.blobs.contains(&blob.digest))
        });
        let (blobs, bytes) = only.fold((0, 0), |(count, bytes), blob| {
            (count + 1, bytes + blob.cut.length)
        });
        let record_only = !lost.records.is_disjoint(&records)
            && others
                .iter()
                .all(|other| other.records.is_disjoint(&records));
        (blobs > 0 || record_only).then(|| OnlyHere {
            id: content.id,
            title: content.title.clone(),
            blobs,
            bytes,
        })
    }

    fn transfers(&self) -> Vec<TransferStatus> {
        let wants = self.board.wants.iter().filter_map(|want| {
            let wanted = self.wanted.get(&want.blob)?;
            let cut = wanted.blob.cut;
            let bytes = |piece| cut.range(piece).end - cut.range(piece).start;
            let active = wanted.state != State::Waiting || !want.asked.is_empty();
            let sources = self.board.sources.iter().enumerate();
            active.then(|| TransferStatus {
                blob: want.blob,
                bytes: cut.length,
                have_bytes: want.have.iter().map(bytes).sum(),
                sources: sources
                    .filter(|(at, source)| source.reachable && want.holds_any(*at))
                    .map(|(_, source)| source.name.clone())
                    .collect(),
            })
        });
        wants.collect()
    }

    fn troubles(&self) -> Vec<Trouble> {
        let now = Instant::now();
        let blobs = self.wanted.values().filter_map(|wanted| {
            let (code, text) = wanted.trouble.as_ref()?;
            let retry = wanted.retry_at.map(|at| at.saturating_duration_since(now));
            Some(Trouble {
                code: (*code).to_owned(),
                object: Some(wanted.blob.digest),
                peer: None,
                text: text.clone(),
                retry_ms: retry.map_or(0, millis),
            })
        });
        let full_pass = millis(self.full_pass_at.saturating_duration_since(now));
        let records = self.refused.iter().map(|(record, refusal)| Trouble {
            code: refusal.code.to_owned(),
            object: Some(*record),
            peer: None,
            text: refusal.text.clone(),
            retry_ms: full_pass,
        });
        let store = self.scan_trouble.iter().map(|text| Trouble {
            code: "STORE_IO".to_owned(),
            object: None,
            peer: None,
            text: text.clone(),
            retry_ms: 0,
        });
        let alarms = self.alarms.iter().map(|(record, about)| Trouble {
            code: "RECORD_CONFLICT".to_owned(),
            object: Some(*record),
            peer: None,
            text: format!("two different statements about {about} are signed for the same place"),
            retry_ms: 0,
        });
        blobs.chain(records).chain(store).chain(alarms).collect()
    }
}

/// A member as the comparison of copies sees it.
#[derive(Debug)]
struct Member<'a> {
    name: &'a NodeName,
    blobs: &'a BTreeSet<Digest>,
    records: &'a BTreeSet<Digest>,
    up: bool,
}

const fn copy((missing_blobs, missing_bytes): (u64, u64), record: bool) -> Copy {
    if missing_blobs == 0 && record {
        Copy::Complete
    } else {
        Copy::Incomplete {
            missing_blobs,
            missing_bytes,
        }
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
