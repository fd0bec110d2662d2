//! A QUIC gate on port 0 before an origin that keeps every datagram it gets, and clients that send what they are told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use icpgate::http::Settings;
use icpgate::http::flows::counters::{Dropped, FlightOutcome, FlowCounters, PathEnd};
use icpgate::http::quic::header::{self, Packet};
use icpgate::http::quic::{Long, Version};
use icpgate::policy::{Rules, View};
use rustls::Side;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::fixture;
use super::http::{HttpGate, PATIENCE};
use super::quic::{DCID, Plain, SCID, crypto, opened_by_client};
use super::tls::Sketch;

/// A server's connection ID.
pub const SERVER: [u8; 8] = [0xab, 0xcd, 0xef, 1, 2, 3, 4, 5];
/// Filed and accessed here, and not filed.
pub const FILED: &str = "here.cn";
pub const UNFILED: &str = "nofile.cn";

/// A running gate.
pub struct QuicGate {
    pub http: HttpGate,
    pub addr: SocketAddr,
    pub origin: QuicOrigin,
}

impl QuicGate {
    /// The fixture under default rules.
    pub async fn start() -> Self {
        Self::with(fixture::view(Rules::default()), |_| {}).await
    }

    /// `view` before an origin, with settings changed by `change`.
    pub async fn with(view: View, change: impl FnOnce(&mut Settings)) -> Self {
        let origin = QuicOrigin::start().await;
        let set = |settings: &mut Settings| {
            settings.quic_listen = vec!["127.0.0.1:0".parse().expect("an address")];
            settings.fixed_quic = Some(origin.addr);
            change(settings);
        };
        let http = HttpGate::with(view, set).await;
        let addr = http.quic[0];
        Self { http, addr, origin }
    }

    pub fn quic(&self) -> &FlowCounters {
        &self.http.counters.quic
    }

    /// A client on a port of its own.
    pub async fn client(&self) -> QuicClient {
        QuicClient::to(self.addr).await
    }

    /// A client whose flow has passed and whose address is proven; the server is called [`SERVER`].
    pub async fn established(&self) -> (QuicClient, SocketAddr) {
        self.established_as(&SERVER).await
    }

    /// The same with a server of this name.
    pub async fn established_as(&self, server: &[u8]) -> (QuicClient, SocketAddr) {
        let client = self.client().await;
        let before = self.origin.count();
        client.send(&hello(FILED).sealed()).await;
        let path = self.origin.nth(before).await.0;
        self.origin.send(path, &server_hello(server)).await;
        client.recv().await;
        client.send(&handshake(server, &SCID)).await;
        self.origin.nth(before + 1).await;
        (client, path)
    }

    /// Another connection on a client's socket, from its hello to a Handshake packet; gives its path.
    pub async fn connect_on(&self, client: &QuicClient, name: &str, dcid: &[u8], server: &[u8]) -> SocketAddr {
        let before = self.origin.count();
        client.send(&Plain { dcid: dcid.to_vec(), scid: dcid.to_vec(), ..hello(name) }.sealed()).await;
        let path = self.origin.nth(before).await.0;
        self.origin.send(path, &server_hello_to(dcid, dcid, server)).await;
        client.recv().await;
        client.send(&handshake(server, dcid)).await;
        self.origin.nth(before + 1).await;
        path
    }

    /// Waits until a flight had this outcome so often.
    pub async fn until_flights(&self, outcome: FlightOutcome, count: u64) {
        self.until(&format!("{count} of {outcome:?}"), || self.quic().flights(outcome) == count).await;
    }

    /// Waits until so many datagrams were dropped for a reason.
    pub async fn until_dropped(&self, why: Dropped, count: u64) {
        self.until(&format!("{count} of {why:?}"), || self.quic().dropped(why) == count).await;
    }

    /// Waits until so many paths ended for a reason.
    pub async fn until_ended(&self, why: PathEnd, count: u64) {
        self.until(&format!("{count} of {why:?}"), || self.quic().ends(why) == count).await;
    }

    /// Looks again and again, until patience ends.
    pub async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < PATIENCE, "waited for: {what}: {:?}", self.quic());
            tokio::task::yield_now().await;
        }
    }

    /// The origin has seen exactly these datagrams, and sees the next filed flight: nothing else is on its way.
    pub async fn origin_saw(&self, expected: &[Vec<u8>]) {
        let last = Plain { dcid: vec![0x77; 12], ..hello(FILED) }.sealed();
        self.client().await.send(&last).await;
        self.until("the last flight", || self.origin.datagrams().last() == Some(&last)).await;
        let mut seen = self.origin.datagrams();
        seen.pop();
        assert!(seen == expected, "the origin saw {} datagrams, expected {}", seen.len(), expected.len());
    }
}

//--- Clients ---------------------------------------------------------------------------------------------------------

/// A client's socket.
pub struct QuicClient {
    socket: UdpSocket,
}

impl QuicClient {
    pub async fn to(gate: SocketAddr) -> Self {
        let any: SocketAddr = if gate.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" }.parse().expect("an address");
        let socket = UdpSocket::bind(any).await.expect("a socket");
        socket.connect(gate).await.expect("a peer");
        Self { socket }
    }

    pub async fn send(&self, datagram: &[u8]) {
        self.socket.send(datagram).await.expect("sends");
    }

    /// Sends if the system takes it now.
    pub fn try_send(&self, datagram: &[u8]) {
        let _ = self.socket.try_send(datagram);
    }

    pub async fn recv(&self) -> Vec<u8> {
        let mut buf = vec![0; 1 << 16];
        let length =
            timeout(PATIENCE, self.socket.recv(&mut buf)).await.expect("an answer in time").expect("an answer");
        buf.truncate(length);
        buf
    }

    /// What is there already, without waiting.
    pub fn recv_now(&self) -> Option<Vec<u8>> {
        let mut buf = vec![0; 1 << 16];
        let length = self.socket.try_recv(&mut buf).ok()?;
        buf.truncate(length);
        Some(buf)
    }

    /// The code that the gate closes with, the flight's connection ID being [`DCID`].
    pub async fn closed(&self, version: Version) -> u16 {
        close_code(version, &DCID, &self.recv().await)
    }
}

/// The code of a CONNECTION_CLOSE in a server Initial.
pub fn close_code(version: Version, dcid: &[u8], reply: &[u8]) -> u16 {
    let Ok(Packet::Long(Long { number_at, .. })) = header::read(reply) else { panic!("no long header") };
    let (_, frames) = opened_by_client(version, dcid, reply, number_at);
    let [0x1c, high, low, ..] = frames[..] else { panic!("no close: {frames:?}") };
    u16::from_be_bytes([high & 0x3f, low])
}

/// A whole hello for a name in one Initial.
pub fn hello(name: &str) -> Plain {
    Plain::new(crypto(0, &Sketch::new(name).message()))
}

/// The server's first Initial, acknowledging [`hello`], under a connection ID of its choice.
pub fn server_hello(server: &[u8]) -> Vec<u8> {
    server_hello_to(&DCID, &SCID, server)
}

/// The same for a hello to another connection ID, from another.
pub fn server_hello_to(dcid: &[u8], scid: &[u8], server: &[u8]) -> Vec<u8> {
    let mut plain = Plain::new([&[2, 0, 0, 0, 0][..], &crypto(0, b"server hello")].concat());
    (plain.side, plain.keys_of) = (Side::Server, Some(dcid.to_vec()));
    (plain.dcid, plain.scid) = (scid.to_vec(), server.to_vec());
    plain.sealed()
}

/// A packet of version 1 with a long header whose type is in `kind`, without protection.
fn long(kind: u8, dcid: &[u8], scid: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut res = vec![0xc0 | (kind << 4), 0, 0, 0, 1];
    for cid in [dcid, scid] {
        res.push(u8::try_from(cid.len()).expect("a short connection ID"));
        res.extend_from_slice(cid);
    }
    let length = u16::try_from(payload.len()).expect("a short payload");
    res.extend_from_slice(&(0x4000 | length).to_be_bytes());
    res.extend_from_slice(payload);
    res
}

/// A 0-RTT packet; what is in it nobody can read.
pub fn early(dcid: &[u8], mark: u8) -> Vec<u8> {
    long(1, dcid, &SCID, &[mark; 200])
}

/// A Handshake packet.
pub fn handshake(dcid: &[u8], scid: &[u8]) -> Vec<u8> {
    long(2, dcid, scid, &[0xee; 60])
}

/// A short header.
pub fn short(dcid: &[u8], mark: u8) -> Vec<u8> {
    [&[0x41][..], dcid, &[mark; 40]].concat()
}

/// A short header whose fixed bit is 0.
pub fn short_unfixed(dcid: &[u8], mark: u8) -> Vec<u8> {
    [&[0x01][..], dcid, &[mark; 40]].concat()
}

//--- Origin ----------------------------------------------------------------------------------------------------------

/// A datagram, and where it came from.
type Seen = (SocketAddr, Vec<u8>);

/// An origin that keeps what it gets.
#[derive(Clone)]
pub struct QuicOrigin {
    pub addr: SocketAddr,
    socket: Arc<UdpSocket>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl QuicOrigin {
    pub async fn start() -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a socket"));
        let res = Self { addr: socket.local_addr().expect("an address"), socket, seen: Arc::default() };
        let origin = res.clone();
        tokio::spawn(async move {
            let mut buf = vec![0; 1 << 16];
            while let Ok((length, from)) = origin.socket.recv_from(&mut buf).await {
                origin.seen.lock().expect("no panic inside").push((from, buf[..length].to_vec()));
            }
        });
        res
    }

    /// Everything so far, each with where it came from.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic inside").clone()
    }

    pub fn datagrams(&self) -> Vec<Vec<u8>> {
        self.seen().into_iter().map(|(_, datagram)| datagram).collect()
    }

    pub fn count(&self) -> usize {
        self.seen.lock().expect("no panic inside").len()
    }

    /// The datagram at this place, once it is there.
    pub async fn nth(&self, at: usize) -> (SocketAddr, Vec<u8>) {
        let begun = Instant::now();
        loop {
            if let Some(seen) = self.seen.lock().expect("no panic inside").get(at) {
                return seen.clone();
            }
            assert!(begun.elapsed() < PATIENCE, "waited for datagram {at}, {} are there", self.count());
            tokio::task::yield_now().await;
        }
    }

    pub async fn send(&self, to: SocketAddr, datagram: &[u8]) {
        self.socket.send_to(datagram, to).await.expect("sends");
    }
}
