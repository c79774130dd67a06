//! Turmoil's network as the engine's: names are hosts, and who connects is known by its address.

use std::io;
use std::net::Ipv4Addr;

use api::sync::NodeName;
use turmoil::net::TcpListener;
use turmoil::net::TcpStream;

use crate::env::Net;

/// The port of every node.
const PORT: u16 = 7443;

pub(super) struct SimNet {
    listener: TcpListener,
}

impl SimNet {
    pub(super) async fn bind() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
        Ok(Self { listener })
    }
}

impl Net for SimNet {
    type Stream = TcpStream;

    async fn connect(&self, peer: &NodeName) -> io::Result<TcpStream> {
        TcpStream::connect((peer.as_str(), PORT)).await
    }

    async fn accept(&self) -> io::Result<(TcpStream, NodeName)> {
        let (stream, from) = self.listener.accept().await?;
        let name = turmoil::reverse_lookup(from.ip()).ok_or(io::ErrorKind::NotFound)?;
        let name = name.parse().map_err(io::Error::other)?;
        Ok((stream, name))
    }
}

impl std::fmt::Debug for SimNet {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("SimNet")
    }
}
