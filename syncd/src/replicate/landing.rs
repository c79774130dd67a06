//! From bytes that have arrived to blobs that are published.
//!
//! A pieced blob: pieces are verified and written as they come; behind them one task hashes the gapless front, another
//! makes what is written durable; neither ever holds up the network. When the last piece is there, it is published.
//! Small blobs: whole in memory, published in batches behind one sync.

use std::sync::Arc;
use std::time::Duration;

use bundle::Digest;
use bundle::pieces::PieceList;
use store::Bitmap;
use store::Fs;
use store::StoreError;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc;

use crate::contents::ContentBlob;
use crate::node::Landing;
use crate::node::Node;
use crate::replicate::event::Event;
use crate::replicate::event::Outcome;
use crate::replicate::plan::Request;

/// Pieces hashed in one go: long enough to be cheap, short enough to share a core.
const HASH_PIECES: u64 = 4;

/// How often a checkpoint may become due while nothing arrives.
const CHECKPOINT_LOOK: Duration = Duration::from_millis(500);

/// Small blobs of one batch.
const BATCH_FILES_MAX: usize = store::limits::BATCH_FILES_MAX;

/// Bytes of one batch.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// After a batch that failed, so many blobs are stored one by one, so that the bad one delays no other again.
const ALONE_AFTER_FAILURE: usize = 2 * BATCH_FILES_MAX;

/// Opens the partial of a pieced blob where an earlier run stopped.
pub(crate) async fn open<F: Fs>(
    node: Arc<Node<F>>,
    blob: ContentBlob,
    events: mpsc::Sender<Event>,
) {
    let from = node.clone();
    let opened = node.offload.run(move || open_partial(&from, &blob)).await;
    let event = Event::Opened {
        blob: blob.digest,
        result: opened,
    };
    let _engine_gone = events.send(event).await;
}

fn open_partial<F: Fs>(node: &Node<F>, blob: &ContentBlob) -> Result<Option<Bitmap>, StoreError> {
    let digest = blob.digest;
    let list = match blob.list {
        None => None,
        Some(list) => {
            let bytes = node.store.read_blob(&list, blob.cut.list_bytes())?;
            let parsed = parse_list(&bytes, &list, blob);
            Some(parsed.map_err(|why| StoreError::Corrupt {
                object: format!("piece list {list} of blob {digest}"),
                why,
            })?)
        }
    };
    let Some(partial) = node.store.partial(&digest, blob.cut, list)? else {
        return Ok(None);
    };
    let pieces = partial.pieces();
    for piece in pieces.iter() {
        node.holdings.verify_piece(digest, pieces.len(), piece);
    }
    node.open_landing(partial);
    Ok(Some(pieces))
}

/// Parses a piece list that was read from the disk, where it may have rotted since it was published.
fn parse_list(bytes: &[u8], digest: &Digest, blob: &ContentBlob) -> Result<PieceList, String> {
    let actual = Digest::of(bytes);
    if actual != *digest {
        return Err(format!("its bytes hash to {actual}"));
    }
    let list = PieceList::parse(bytes).map_err(|error| error.to_string())?;
    if list.cut() != blob.cut {
        return Err(format!("it is cut as {:?}", list.cut()));
    }
    Ok(list)
}

/// Hashes the gapless front of a partial as it grows.
pub(crate) async fn hash<F: Fs>(
    node: Arc<Node<F>>,
    landing: Landing<F>,
    events: mpsc::Sender<Event>,
) {
    loop {
        let partial = landing.partial.clone();
        match node.offload.run(move || partial.advance(HASH_PIECES)).await {
            Ok(0) => landing.wrote.notified().await,
            Ok(_more) => {}
            Err(error) => return broken(&landing, error, &events).await,
        }
    }
}

/// Makes what has landed durable, as often as it is due.
pub(crate) async fn checkpoint<F: Fs>(
    node: Arc<Node<F>>,
    landing: Landing<F>,
    events: mpsc::Sender<Event>,
) {
    loop {
        tokio::time::sleep(CHECKPOINT_LOOK).await;
        let partial = landing.partial.clone();
        let now = node.uptime();
        let done = node.offload.run(move || partial.checkpoint_if_due(now));
        if let Err(error) = done.await {
            return broken(&landing, error, &events).await;
        }
    }
}

async fn broken<F: Fs>(landing: &Landing<F>, error: StoreError, events: &mpsc::Sender<Event>) {
    if matches!(error, StoreError::Closed { .. }) {
        // Published or given up in between: whoever did it tells.
        return;
    }
    let event = Event::Broken {
        blob: landing.partial.digest(),
        error,
    };
    let _engine_gone = events.send(event).await;
}

/// Publishes a blob whose last piece has landed.
pub(crate) async fn publish<F: Fs>(
    node: Arc<Node<F>>,
    landing: Landing<F>,
    events: mpsc::Sender<Event>,
) {
    let blob = landing.partial.digest();
    let partial = landing.partial;
    let published = node.offload.run(move || partial.publish()).await;
    let event = Event::Published {
        blob,
        result: published.map(|_new_or_present| ()),
    };
    let _engine_gone = events.send(event).await;
}

/// A small blob that has arrived.
#[derive(Debug)]
pub(crate) struct Small {
    pub(crate) request: Request,
    pub(crate) bytes: Vec<u8>,
    /// Its place in the budget of bytes that are not written yet.
    pub(crate) room: OwnedSemaphorePermit,
}

/// Stores small blobs, as many at once as have arrived while the last ones were stored.
pub(crate) async fn batch<F: Fs>(
    node: Arc<Node<F>>,
    mut arrived: mpsc::Receiver<Small>,
    events: mpsc::Sender<Event>,
) {
    let mut alone = 0_usize;
    while let Some(first) = arrived.recv().await {
        let mut bytes = first.bytes.len();
        let mut batch = vec![first];
        while alone == 0 && batch.len() < BATCH_FILES_MAX && bytes < BATCH_BYTES_MAX {
            let Ok(next) = arrived.try_recv() else {
                break;
            };
            bytes += next.bytes.len();
            batch.push(next);
        }
        alone = alone.saturating_sub(1);
        if !store_batch(&node, batch, &events).await {
            alone = ALONE_AFTER_FAILURE;
        }
    }
}

/// Stores one batch and settles its requests; false when the disk failed.
async fn store_batch<F: Fs>(
    node: &Arc<Node<F>>,
    batch: Vec<Small>,
    events: &mpsc::Sender<Event>,
) -> bool {
    let mut requests = Vec::new();
    let mut blobs = Vec::new();
    let mut rooms = Vec::new();
    for small in batch {
        requests.push(small.request);
        blobs.push((small.request.blob, small.bytes));
        rooms.push(small.room);
    }
    let store = node.store.clone();
    let stored = node.offload.run(move || store.put_batch(blobs)).await;
    drop(rooms);
    let (refused, failure) = match stored {
        Ok(outcome) => (outcome.refused, None),
        Err(error) => (Vec::new(), Some(Arc::new(error))),
    };
    for request in requests {
        let outcome = match &failure {
            Some(error) => Outcome::Disk(error.clone()),
            None if refused.contains(&request.blob) => Outcome::Wrong,
            None => {
                node.holdings.publish(request.blob);
                node.counters.published(1);
                Outcome::Done
            }
        };
        let _engine_gone = events.send(Event::Settled { request, outcome }).await;
    }
    failure.is_none()
}
