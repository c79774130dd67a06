//! Fetches records from a peer, judges each for this node, and merges the good ones into the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::sync::NodeName;
use bundle::Digest;
use bundle::fault::Fault as _;
use store::Fs;
use store::Record;
use store::records::Put;
use tokio::sync::mpsc;

use crate::contents::Judge;
use crate::contents::Refusal;
use crate::env::Net;
use crate::node::Node;
use crate::replicate::event::Event;
use crate::replicate::scan;
use crate::wire::client::Connection;
use crate::wire::client::WireError;

/// What became of wanted records.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    /// In the store, or replaced there by newer ones: not to be asked for again.
    pub(crate) settled: Vec<Digest>,
    /// Not accepted.
    pub(crate) refused: BTreeMap<Digest, Refusal>,
    /// Kept beside another one of the same place and other bytes: somebody signed two things.
    pub(crate) conflicts: Vec<(Digest, String)>,
    /// The store could not take one; it will be tried again.
    pub(crate) failed: Option<store::StoreError>,
}

/// Where records come from.
#[derive(Debug)]
pub(crate) struct Fetch<F: Fs, N> {
    pub(crate) node: Arc<Node<F>>,
    pub(crate) net: Arc<N>,
    pub(crate) judge: Arc<dyn Judge>,
    pub(crate) peer: NodeName,
    pub(crate) source: usize,
    pub(crate) idle: Duration,
    pub(crate) events: mpsc::Sender<Event>,
}

impl<F: Fs, N: Net> Fetch<F, N> {
    /// Fetches as many of the wanted records as one answer holds.
    pub(crate) async fn run(self, want: Vec<Digest>) {
        let result = self.fetch(want).await;
        let source = self.source;
        let _engine_gone = self.events.send(Event::Merged { source, result }).await;
    }

    async fn fetch(&self, want: Vec<Digest>) -> Result<Merged, WireError> {
        let mut connection = Connection::open(&*self.net, &self.peer, self.idle).await?;
        let answer = connection.records(want.clone()).await?;
        let node = self.node.clone();
        let judge = self.judge.clone();
        let merge = move || merge(&node, &*judge, &want, &answer);
        Ok(self.node.offload.run(merge).await)
    }
}

/// Judges and merges what a peer sent; nothing but what was wanted counts.
fn merge<F: Fs>(node: &Node<F>, judge: &dyn Judge, want: &[Digest], answer: &[u8]) -> Merged {
    let mut merged = Merged::default();
    let mut records = Vec::new();
    for bytes in frames(answer) {
        match Record::parse(bytes) {
            Ok(record) if want.contains(&record.digest()) => records.push(Arc::new(record)),
            Ok(_not_wanted) => {}
            Err(error) => {
                let refusal = Refusal {
                    code: error.code(),
                    text: error.to_string(),
                };
                merged.refused.insert(Digest::of(bytes), refusal);
            }
        }
    }
    for record in scan::ordered(records) {
        let digest = record.digest();
        if record.incarnation != node.store.incarnation() {
            let refusal = Refusal {
                code: "RECORD_FOREIGN",
                text: format!("it is of cluster incarnation {}", record.incarnation),
            };
            merged.refused.insert(digest, refusal);
            continue;
        }
        if let Err(refusal) = judge.judge(&record) {
            merged.refused.insert(digest, refusal);
            continue;
        }
        match node.store.put_record(&record) {
            Ok(put) => {
                merged.settled.push(digest);
                if put == Put::Conflict {
                    merged.conflicts.push((digest, record.id.clone()));
                }
            }
            Err(error) => merged.failed = Some(error),
        }
    }
    merged
}

/// Cuts an answer at its lengths; a torn tail is left out.
fn frames(mut answer: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = answer.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (frame, rest) = rest.split_at_checked(length)?;
        answer = rest;
        Some(frame)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_or_overlong_frame_ends_the_answer() {
        let read = |bytes: &[u8]| frames(bytes).map(<[u8]>::to_vec).collect::<Vec<_>>();
        let good = [
            &2_u32.to_be_bytes()[..],
            b"ab",
            &0_u32.to_be_bytes(),
            &1_u32.to_be_bytes(),
            b"c",
        ];
        assert_eq!(
            read(&good.concat()),
            [b"ab".to_vec(), vec![], b"c".to_vec()]
        );
        assert_eq!(
            read(&[&u32::MAX.to_be_bytes()[..], b"ab"].concat()),
            Vec::<Vec<u8>>::new()
        );
        assert_eq!(
            read(&[&2_u32.to_be_bytes()[..], b"a"].concat()),
            Vec::<Vec<u8>>::new()
        );
        assert_eq!(read(&[0, 0]), Vec::<Vec<u8>>::new());
    }
}
