//! Queries that a proxy hands on with the PROXY protocol, version 2: who asked is who the header says.
//!
//! Over UDP a header stands before each query, over TCP one before all of a connection. It is believed from listed proxies
//! only (`dns.proxy-protocol.from`, D-T19). From anybody else, and without a header, nothing is looked at and nothing is
//! answered: a listener of its own has no clients. What is dropped here is counted, and is no query.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::handler::{Client, Gate};
use super::send::Transport;
use crate::proxy_header::{self, BINARY_FIXED_OCTETS, BINARY_OCTETS_MAX, ProxyHeader, ProxyHeaderError};

/// Time for the header of a connection: a proxy sends it at once, and three seconds cover a segment that is lost
/// (specification, section 2).
const HEADER_WAIT_MAX: Duration = Duration::from_secs(5);

/// Who sends to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// Whoever asks.
    Clients,
    /// Proxies, for whoever asks them.
    Proxies,
}

/// What became of a PROXY header, or of what came in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderOutcome {
    /// It names a client.
    Client,
    /// The proxy speaks for itself (`LOCAL`, or a family without addresses of ours).
    Own,
    /// There is none.
    Absent,
    /// It cannot be read, or is cut off.
    Malformed,
    /// It did not come in time.
    Slow,
    /// The sender is no listed proxy.
    Unlisted,
}

impl HeaderOutcome {
    /// Every outcome, for counters.
    pub const ALL: [Self; 6] = [Self::Client, Self::Own, Self::Absent, Self::Malformed, Self::Slow, Self::Unlisted];

    /// The label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Own => "own",
            Self::Absent => "absent",
            Self::Malformed => "malformed",
            Self::Slow => "slow",
            Self::Unlisted => "unlisted",
        }
    }
}

/// Who asks, and the query behind the header of a datagram from `peer`; `None` where it is dropped.
pub fn open<'a>(gate: &Gate, datagram: &'a [u8], peer: SocketAddr) -> Option<(Client, &'a [u8])> {
    if !is_listed(gate, peer) {
        return None;
    }
    let (outcome, res) = match proxy_header::read_binary(datagram) {
        Ok(ProxyHeader::Whole { octets, addrs }) => {
            let (outcome, client) = speaker(addrs, peer, Transport::Udp);
            (outcome, datagram.get(octets..).map(|query| (client, query)))
        }
        Ok(ProxyHeader::Absent) => (HeaderOutcome::Absent, None),
        Ok(ProxyHeader::Partial) | Err(ProxyHeaderError) => (HeaderOutcome::Malformed, None),
    };
    gate.counters().proxy_header(outcome);
    res
}

/// True when `peer` is a listed proxy; another is counted.
pub fn is_listed(gate: &Gate, peer: SocketAddr) -> bool {
    let addr = peer.ip().to_canonical();
    let res = gate.settings().proxy_protocol.from.iter().any(|net| net.contains(&addr));
    if !res {
        gate.counters().proxy_header(HeaderOutcome::Unlisted);
    }
    res
}

/// Reads the header of a connection from `peer`, and nothing behind it: who asks, or `None` where the connection ends.
pub async fn read(gate: &Gate, stream: &mut TcpStream, peer: SocketAddr) -> Option<Client> {
    let (outcome, res) = match timeout(HEADER_WAIT_MAX, read_header(stream)).await {
        Ok(Ok(addrs)) => {
            let (outcome, client) = speaker(addrs, peer, Transport::Tcp);
            (outcome, Some(client))
        }
        Ok(Err(outcome)) => (outcome, None),
        Err(_) => (HeaderOutcome::Slow, None),
    };
    gate.counters().proxy_header(outcome);
    res
}

async fn read_header(stream: &mut TcpStream) -> Result<Option<(SocketAddr, SocketAddr)>, HeaderOutcome> {
    let mut octets = vec![0; BINARY_FIXED_OCTETS];
    stream.read_exact(&mut octets).await.map_err(|_| HeaderOutcome::Absent)?;
    // The first look tells whether its length is one.
    if proxy_header::read_binary(&octets) == Ok(ProxyHeader::Absent) {
        return Err(HeaderOutcome::Absent);
    }
    let length = usize::from(u16::from_be_bytes([octets[14], octets[15]]));
    if length > BINARY_OCTETS_MAX {
        return Err(HeaderOutcome::Malformed);
    }
    octets.resize(BINARY_FIXED_OCTETS + length, 0);
    stream.read_exact(&mut octets[BINARY_FIXED_OCTETS..]).await.map_err(|_| HeaderOutcome::Malformed)?;
    match proxy_header::read_binary(&octets) {
        Ok(ProxyHeader::Whole { addrs, .. }) => Ok(addrs),
        Ok(ProxyHeader::Absent | ProxyHeader::Partial) | Err(ProxyHeaderError) => Err(HeaderOutcome::Malformed),
    }
}

/// Who asks by a header from `peer`; lists and limits know an IPv4 address as such, however the proxy carries it.
fn speaker(addrs: Option<(SocketAddr, SocketAddr)>, peer: SocketAddr, transport: Transport) -> (HeaderOutcome, Client) {
    let canonical = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
    match addrs {
        Some((source, reached)) => {
            (HeaderOutcome::Client, Client::new(canonical(source), Some(canonical(reached)), transport))
        }
        None => (HeaderOutcome::Own, Client::new(canonical(peer), None, transport)),
    }
}
