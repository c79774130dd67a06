//! Commands and a daemon's socket, with a played engine behind it.

use std::os::unix::fs::PermissionsExt;

use bundle::fault::Fault;
use tokio::sync::oneshot;

use super::*;
use crate::handle::Ask;
use crate::handle::WaitCopies;
use crate::view::tests::status as some_status;

/// A daemon on a thread of its own, whose engine is played by `engine`.
struct Daemon {
    directory: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Daemon {
    fn start<F>(engine: impl FnOnce(mpsc::Receiver<Ask>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/syncd.sock");
        let (stop, stopped) = oneshot::channel::<()>();
        let (bound, is_bound) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let socket = ControlSocket::bind(&path).unwrap();
                bound.send(()).unwrap();
                let (handle, asks) = Handle::new();
                let served = socket.serve(router(handle), async {
                    let _dropped = stopped.await;
                });
                let (served, ()) = tokio::join!(served, engine(asks));
                served.unwrap();
            });
        });
        is_bound.recv().unwrap();
        Self {
            directory,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("run/syncd.sock")
    }

    fn client(&self) -> Client {
        Client::new(&self.path()).unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn a_command_reads_the_status_over_a_private_socket() {
    let daemon = Daemon::start(async |mut asks| {
        while let Some(ask) = asks.recv().await {
            if let Ask::Status(answer) = ask {
                answer.send(some_status()).unwrap();
                return;
            }
        }
    });
    assert_eq!(daemon.client().status().unwrap(), some_status());
    let mode = std::fs::metadata(daemon.path())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn waiting_tells_every_count_and_ends_with_enough() {
    let copies = |complete| Copies {
        complete,
        wanted: 2,
        members: 3,
    };
    let daemon = Daemon::start(async move |mut asks| {
        let Some(Ask::WaitCopies(WaitCopies {
            content,
            wait,
            progress,
            done,
        })) = asks.recv().await
        else {
            panic!("something else was asked");
        };
        assert_eq!((content, wait), (Digest::of(b"shop"), Wait::Majority));
        progress.unwrap().send(copies(1)).await.unwrap();
        // The reader has the first count before the last one comes.
        tokio::task::yield_now().await;
        done.send(copies(2)).unwrap();
    });
    let mut told = Vec::new();
    let client = daemon.client();
    let last = client.wait_copies(&Digest::of(b"shop"), Wait::Majority, &mut |progress| {
        told.push(progress.complete);
    });
    assert_eq!(last.unwrap().complete, 2);
    assert_eq!(told.last(), Some(&2));
}

#[test]
fn a_daemon_that_ends_while_one_waits_is_no_success() {
    let daemon = Daemon::start(async |mut asks| drop(asks.recv().await));
    let error = daemon
        .client()
        .wait_copies(&Digest::of(b"shop"), Wait::All, &mut |_| {})
        .unwrap_err();
    assert_eq!(error.code(), "CONTROL_BROKEN");
}

#[test]
fn a_stopped_engine_is_told_as_such() {
    let daemon = Daemon::start(async |asks| drop(asks));
    assert_eq!(
        daemon.client().rescan().unwrap_err().code(),
        "CONTROL_REFUSED"
    );
}

#[test]
fn nobody_there_is_its_own_error() {
    let directory = tempfile::tempdir().unwrap();
    let client = Client::new(&directory.path().join("syncd.sock")).unwrap();
    assert_eq!(client.status().unwrap_err().code(), "CONTROL_ABSENT");
}

#[tokio::test]
async fn one_daemon_a_socket_and_a_dead_ones_socket_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("syncd.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let first = ControlSocket::bind(&path).unwrap();
    assert_eq!(
        ControlSocket::bind(&path).unwrap_err().code(),
        "CONTROL_TAKEN"
    );
    drop(first);
    assert!(!path.exists());
    ControlSocket::bind(&path).unwrap();
}
