//! `syncd`: makes the cluster's authority and this node's certificate, and is told when the store has changed.

use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use api::join::Role;
use api::sync::NodeName;

use crate::machine::Call;
use crate::machine::Machine;
use crate::machine::ProgramError;

/// Where everything of a node's own is.
pub(crate) const DIRECTORY: &str = "/etc/sealift";

/// The daemon's socket for local commands.
const CONTROL: &str = "/run/sealift/syncd.sock";

/// How long a daemon on this machine may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Makes the authority of the cluster whose store this is.
pub(crate) fn make_authority(machine: &Machine, cluster: &str) -> Result<(), ProgramError> {
    machine
        .run(&Call::new(
            "syncd",
            ["ca", "init", "--out", DIRECTORY, "--cluster", cluster],
        ))
        .map(drop)
}

/// Makes this node's key and certificate.
pub(crate) fn issue(machine: &Machine, node: &NodeName, role: Role) -> Result<(), ProgramError> {
    let role = match role {
        Role::Master => "master",
        Role::Worker => "worker",
    };
    let call = Call::new(
        "syncd",
        [
            "ca", "issue", "--ca", DIRECTORY, "--out", DIRECTORY, "--role", role,
        ],
    )
    .arg(node);
    machine.run(&call).map(drop)
}

/// Makes the store of the cluster whose authority's certificate is here.
pub(crate) fn make_store(machine: &Machine) -> Result<(), ProgramError> {
    machine.run(&Call::new("syncd", ["init"])).map(drop)
}

/// Tells the daemon, if it runs, to look at its store again.
pub(crate) fn rescan(machine: &Machine) -> io::Result<()> {
    let mut stream = match UnixStream::connect(machine.path(CONTROL)) {
        Ok(stream) => stream,
        // Nobody is there: the daemon will look when it starts.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(
        b"POST /v1/rescan HTTP/1.1\r\nHost: syncd\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    )?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    if answer.ends_with(b"204") {
        return Ok(());
    }
    Err(io::Error::other("syncd did not take the order"))
}

/// Whether something listens on a port of this machine.
pub(crate) fn listens(address: IpAddr, port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::new(address, port), Duration::from_secs(1)).is_ok()
}
