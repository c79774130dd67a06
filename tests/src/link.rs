//! A TCP link between two programs that counts what passes, has a bandwidth, and can be cut.

use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;

/// One direction of a node's network: all links that share it share its bandwidth.
#[derive(Debug)]
pub struct Lane {
    bytes_per_second: u64,
    free_at: Mutex<Option<Instant>>,
}

impl Lane {
    /// A lane of this bandwidth.
    pub fn new(bytes_per_second: u64) -> Arc<Self> {
        Arc::new(Self {
            bytes_per_second: bytes_per_second.max(1),
            free_at: Mutex::new(None),
        })
    }

    /// Takes room for these bytes; gives when they are through.
    fn take(&self, bytes: u64) -> Instant {
        let takes =
            Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / self.bytes_per_second);
        let now = Instant::now();
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let until = free_at.map_or(now, |at| at.max(now)) + takes;
        *free_at = Some(until);
        until
    }
}

/// What a link leads to and what it allows.
#[derive(Clone, Debug)]
pub struct LinkPlan {
    /// Where its bytes come out.
    pub target: SocketAddr,
    /// Lanes of the bytes from the target to whoever connected.
    pub from_target: Vec<Arc<Lane>>,
    /// Lanes of the bytes to the target.
    pub to_target: Vec<Arc<Lane>>,
}

/// A link that listens on loopback until it is dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    plan: LinkPlan,
    from_target: AtomicU64,
    to_target: AtomicU64,
    is_cut: AtomicBool,
    is_closed: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

/// Bytes that move at once; small, so that a bandwidth is smooth.
const BUFFER_BYTES: usize = 64 << 10;

impl Link {
    /// Opens a link to `plan.target`, which need not be there yet.
    pub fn open(plan: LinkPlan) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            plan,
            from_target: AtomicU64::new(0),
            to_target: AtomicU64::new(0),
            is_cut: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            streams: Mutex::new(Vec::new()),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Ok(Self { address, shared })
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes so far from the target to whoever connected.
    pub fn bytes_from_target(&self) -> u64 {
        self.shared.from_target.load(Ordering::Relaxed)
    }

    /// Bytes so far to the target.
    pub fn bytes_to_target(&self) -> u64 {
        self.shared.to_target.load(Ordering::Relaxed)
    }

    /// Ends all connections and refuses new ones.
    pub fn cut(&self) {
        self.shared.is_cut.store(true, Ordering::SeqCst);
        self.shared.end_streams();
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.shared.is_cut.store(false, Ordering::SeqCst);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the accepting thread, which then ends; nobody else can listen on its port before that.
        let _woken = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn end_streams(&self) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in streams.drain(..) {
            let _ended = stream.shutdown(Shutdown::Both);
        }
    }

    fn keep(&self, stream: &TcpStream) -> io::Result<()> {
        let stream = stream.try_clone()?;
        self.streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(stream);
        Ok(())
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.is_closed.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        if !shared.is_cut.load(Ordering::SeqCst) {
            // A target that is not there: whoever connected sees its connection end.
            let _refused = connect(stream, shared);
        }
    }
}

fn connect(near: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let far = TcpStream::connect(shared.plan.target)?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    shared.keep(&near)?;
    shared.keep(&far)?;
    let (near_too, far_too) = (near.try_clone()?, far.try_clone()?);
    let (here, there) = (Arc::clone(shared), Arc::clone(shared));
    thread::spawn(move || pass(near, far, &here.to_target, &here.plan.to_target));
    thread::spawn(move || {
        pass(
            far_too,
            near_too,
            &there.from_target,
            &there.plan.from_target,
        );
    });
    Ok(())
}

/// Moves bytes until one side ends, then ends the other.
fn pass(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64, lanes: &[Arc<Lane>]) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(size @ 1..) = from.read(&mut buffer) {
        let bytes = u64::try_from(size).unwrap_or_default();
        if let Some(until) = lanes.iter().map(|lane| lane.take(bytes)).max() {
            thread::sleep(until.saturating_duration_since(Instant::now()));
        }
        count.fetch_add(bytes, Ordering::Relaxed);
        if to
            .write_all(buffer.get(..size).unwrap_or_default())
            .is_err()
        {
            break;
        }
    }
    let _ended = to.shutdown(Shutdown::Write);
    let _ended = from.shutdown(Shutdown::Read);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_counts_what_passes_and_a_cut_ends_it() -> Result<()> {
        let target = TcpListener::bind(("127.0.0.1", 0))?;
        let link = Link::open(LinkPlan {
            target: target.local_addr()?,
            from_target: Vec::new(),
            to_target: Vec::new(),
        })?;
        let mut near = TcpStream::connect(link.address())?;
        let (mut far, _) = target.accept()?;
        near.write_all(b"question")?;
        far.read_exact(&mut [0; 8])?;
        far.write_all(b"the answer")?;
        near.read_exact(&mut [0; 10])?;
        assert_eq!((link.bytes_to_target(), link.bytes_from_target()), (8, 10));
        link.cut();
        assert_eq!(near.read(&mut [0; 1]).unwrap_or(0), 0);
        Ok(())
    }
}
