//! DNS over QUIC (RFC 9250): one query a stream, two octets of length before each message.
//!
//! The handshake of a connection is done by its own task. Before it has a place a client has to show that its
//! address is its own (Retry, RFC 9000 section 8.1.2). Connections stay with the address that was accepted: who may ask is
//! told by it. The state of connections cannot change hands: a gate that takes over begins anew, and this one ends its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Incoming, ReadToEndError, RecvStream, SendStream, TransportConfig, VarInt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::accept::{Limits, Place};
use super::counters::Handshake;
use super::handler::{Client, Gate, Taken};
use super::listener::bind_udp;
use super::question;
use super::secure::{HANDSHAKE_MAX, Server};
use super::send::Transport;
use super::settings::Settings;
use super::wire::MESSAGE_OCTETS_MAX;
use crate::drain::{DrainWatch, Phase};

/// Queries of a connection in work at a time; for more the client waits.
const STREAMS_MAX: u32 = 100;
/// Octets of one query with its length.
const STREAM_OCTETS_MAX: usize = MESSAGE_OCTETS_MAX + 2;
/// Octets of queries of a connection that may wait here: a few whole messages.
const CONNECTION_WINDOW: u32 = 256 << 10;
/// Octets of answers of a connection that wait for the client.
const SEND_WINDOW: u64 = 1 << 20;
/// Time for the words of an end to leave.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Codes of ends (RFC 9250 section 8.4).
mod code {
    use quinn::VarInt;

    pub const NO_ERROR: VarInt = VarInt::from_u32(0);
    pub const INTERNAL_ERROR: VarInt = VarInt::from_u32(1);
    pub const PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
}

/// A socket of QUIC.
pub struct Endpoint {
    endpoint: quinn::Endpoint,
    addr: SocketAddr,
}

impl Endpoint {
    /// Binds its socket. It takes no connection before [`serve`].
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = bind_udp(addr)?;
        let addr = socket.local_addr()?;
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = quinn::Endpoint::new(quinn::EndpointConfig::default(), None, socket, runtime)?;
        Ok(Self { endpoint, addr })
    }

    /// Its address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// What connections are accepted with; made for each certificate.
fn config(server: &Server, settings: &Settings) -> Option<quinn::ServerConfig> {
    let crypto = QuicServerConfig::try_from(server.config.clone()).ok()?;
    let mut res = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    // A connection with a query in work is not idle.
    let idle = settings.tcp_idle.max(settings.resolve_timeout);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(STREAMS_MAX.into())
        .max_concurrent_uni_streams(0u32.into())
        .stream_receive_window(u32::try_from(STREAM_OCTETS_MAX).map_or(VarInt::MAX, VarInt::from_u32))
        .receive_window(CONNECTION_WINDOW.into())
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(idle.try_into().ok());
    res.transport_config(Arc::new(transport)).migration(false);
    Some(res)
}

/// The configuration for the certificate of the moment, made once for each.
struct Configs {
    gate: Arc<Gate>,
    known: Option<(Arc<rustls::ServerConfig>, Arc<quinn::ServerConfig>)>,
}

impl Configs {
    /// That for a connection that comes now.
    fn current(&mut self) -> Option<Arc<quinn::ServerConfig>> {
        let servers = self.gate.servers();
        let server = servers.get(Transport::Quic)?;
        if self.known.as_ref().is_none_or(|(used, _)| !Arc::ptr_eq(used, &server.config)) {
            // A certificate that cannot be used is no reason to drop the one that can.
            let made = config(server, self.gate.settings());
            self.known = made.map(|made| (server.config.clone(), Arc::new(made))).or(self.known.take());
        }
        self.known.as_ref().map(|(_, made)| made.clone())
    }
}

/// Accepts connections until the drain, then finishes what is in work and ends them.
pub async fn serve(gate: Arc<Gate>, endpoint: Endpoint, limits: Arc<Limits>, mut drain: DrainWatch) {
    let endpoint = endpoint.endpoint;
    let mut connections = JoinSet::new();
    let mut configs = Configs { gate: gate.clone(), known: None };
    // Its key signs the words of a Retry; connections are accepted with the newest.
    endpoint.set_server_config(configs.current().map(|config| (*config).clone()));
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            () = drain.reached(Phase::Draining) => break,
        };
        while connections.try_join_next().is_some() {}
        // The socket is closed by nobody but us.
        let Some(incoming) = incoming else { break };
        if incoming.may_retry() {
            // The client comes again, with a word of ours: a place is for an address that answers reach, or anybody could
            // take those of another.
            let _ = incoming.retry();
            continue;
        }
        let Some(config) = configs.current() else { continue };
        let Some(place) = limits.enter(&gate, incoming.remote_address()) else {
            incoming.refuse();
            continue;
        };
        connections.spawn(serve_connection(gate.clone(), (incoming, config), place, drain.clone()));
    }
    // Who comes now is refused at once and goes elsewhere.
    endpoint.set_server_config(None);
    while connections.join_next().await.is_some() {}
    let _ = timeout(LAST_WORDS, endpoint.wait_idle()).await;
}

/// A connection that nobody has accepted yet, and what it is accepted with.
type Offered = (Incoming, Arc<quinn::ServerConfig>);

async fn serve_connection(gate: Arc<Gate>, (incoming, config): Offered, place: Place, mut drain: DrainWatch) {
    let _held = place;
    let _open = gate.counters().connections.enter();
    let client = Client::new(incoming.remote_address(), None, Transport::Quic);
    let connection = tokio::select! {
        connection = shake_hands(&gate, incoming, config) => connection,
        () = drain.reached(Phase::Draining) => return,
    };
    let Some(connection) = connection else { return };
    let mut streams = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept_bi() => accepted,
            Some(_) = streams.join_next() => continue,
            () = drain.reached(Phase::Draining) => break,
        };
        // The client ended it, was idle for too long, or broke a rule of QUIC.
        let Ok((send, receive)) = accepted else { return };
        streams.spawn(serve_stream(gate.clone(), connection.clone(), send, receive, client));
    }
    while streams.join_next().await.is_some() {}
    connection.close(code::NO_ERROR, b"");
}

async fn shake_hands(gate: &Gate, incoming: Incoming, config: Arc<quinn::ServerConfig>) -> Option<Connection> {
    // A hello that cannot be agreed with is refused at once.
    let shaking = async { incoming.accept_with(config)?.await };
    let (outcome, res) = match timeout(HANDSHAKE_MAX, shaking).await {
        Ok(Ok(connection)) => (Handshake::Done, Some(connection)),
        Ok(Err(_)) => (Handshake::Failed, None),
        Err(_) => (Handshake::Slow, None),
    };
    gate.counters().handshake(Transport::Quic, outcome);
    res
}

/// Answers one query.
async fn serve_stream(
    gate: Arc<Gate>,
    connection: Connection,
    mut send: SendStream,
    mut receive: RecvStream,
    client: Client,
) {
    let idle = gate.settings().tcp_idle;
    let packet = match timeout(idle, receive.read_to_end(STREAM_OCTETS_MAX)).await {
        Ok(Ok(octets)) => query(&octets).map(<[u8]>::to_vec),
        Ok(Err(ReadToEndError::TooLong)) => None,
        // The client gave it up, or does not go on.
        Ok(Err(ReadToEndError::Read(_))) | Err(_) => return drop(send.reset(code::INTERNAL_ERROR)),
    };
    let Some(packet) = packet else {
        gate.counters().quic_protocol_errors.increment();
        return connection.close(code::PROTOCOL_ERROR, b"");
    };
    let message = match gate.take(&packet, client) {
        Taken::Answered(message) => Some(message),
        Taken::Dropped => None,
        Taken::Waiting(query) => tokio::select! {
            // The query is begun in any case, and counted.
            biased;
            message = gate.resolve(&query, client) => message,
            // The client does not want it any more.
            _ = send.stopped() => return,
        },
    };
    let Some((message, length)) = message.and_then(|message| u16::try_from(message.len()).ok().map(|n| (message, n)))
    else {
        return drop(send.reset(code::INTERNAL_ERROR));
    };
    let answered = async {
        send.write_all(&[&length.to_be_bytes()[..], &message].concat()).await.ok()?;
        send.finish().ok()?;
        // Until the client has it: a stream that is given up earlier may lose its end with the connection.
        send.stopped().await.ok()
    };
    // A client that does not read is gone after the idle time.
    let _ = timeout(idle, answered).await;
}

/// The query in a whole stream; `None` where the client breaks the rules (RFC 9250 section 4.2, section 4.3.3, section 5.5.2).
fn query(octets: &[u8]) -> Option<&[u8]> {
    let (length, message) = octets.split_first_chunk::<2>()?;
    if usize::from(u16::from_be_bytes(*length)) != message.len() {
        return None;
    }
    // "the DNS Message ID MUST be set to 0" (section 4.2.1).
    let is_numbered = message.get(..2).is_some_and(|id| id != [0, 0]);
    let edns = question::decode(message).ok().and_then(|query| query.edns);
    let keeps_alive = edns.is_some_and(|edns| edns.asks.keepalive);
    (!is_numbered && !keeps_alive).then_some(message)
}
