//! Sockets of the DNS plane: UDP with one socket per core, TCP with pipelining, both with limits.
//!
//! An error of `accept`, receive or send is counted and never ends a listener. Answers over TCP leave in the order they
//! are ready (RFC 7766 section 6.2.1.1).

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Counters;
use super::handler::{Client, Gate, Taken};
use super::send::Transport;
use super::settings::Settings;
use super::udp;
use super::upstream::Upstreams;
use super::zones::Zones;
use crate::clients::Clients;
use crate::drain::{DrainWatch, Phase};
use crate::policy::{SharedView, Sink};
use crate::sockets::{SocketId, Sockets};

/// Queries of one TCP connection in work at a time; more wait in the socket.
const PIPELINE_MAX: usize = 64;
/// Tries to find a port free for both UDP and TCP when the system chooses.
const PORT_TRIES_MAX: usize = 32;
/// Pause after a failed `accept`, so that a lack of descriptors is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Receive buffer of a UDP socket: a burst of 20,000 queries.
const UDP_BUFFER_OCTETS: usize = 4 << 20;

/// Why the plane could not be set up.
#[derive(Debug, Error)]
pub enum BindError {
    /// A socket could not be had.
    #[error("cannot listen on {transport} {addr}: {source}")]
    Socket {
        /// The address.
        addr: SocketAddr,
        /// `udp` or `tcp`.
        transport: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The upstreams cannot be used as configured.
    #[error("upstreams: {0}")]
    Upstream(String),
    /// A zone cannot be served.
    #[error("zones: {0}")]
    Zone(#[from] super::zones::ZoneError),
}

/// The DNS plane with its sockets.
pub struct Plane {
    gate: Arc<Gate>,
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
}

impl Plane {
    /// Loads the zones, prepares the upstreams and binds every socket.
    pub async fn bind(
        settings: Settings,
        view: SharedView,
        sink: Sink,
        counters: Arc<Counters>,
        sockets: &Sockets,
    ) -> Result<Self, BindError> {
        let zones = Zones::load(&settings.zones).await?;
        let upstreams = Upstreams::new(&settings).map_err(|error| BindError::Upstream(error.to_string()))?;
        let (mut udp, mut tcp) = (Vec::new(), Vec::new());
        for &addr in &settings.listen {
            let (each, listener) = bind_pair(addr, settings.udp_sockets.max(1), sockets)?;
            udp.extend(each);
            tcp.push(listener);
        }
        let gate = Arc::new(Gate::new(settings, view, sink, counters, zones, upstreams));
        Ok(Self { gate, udp, tcp })
    }

    /// The plane without its sockets, to replace zones and read health.
    pub fn gate(&self) -> Arc<Gate> {
        self.gate.clone()
    }

    /// The addresses it listens on; UDP and TCP share each.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.tcp.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Serves until the drain is over: no new work after `Draining`, everything ends at `Stopped`.
    ///
    /// Panics if a listener did: a plane that has lost one of its sockets must not look alive.
    pub async fn run(self, mut drain: DrainWatch) {
        let mut tasks = JoinSet::new();
        for socket in self.udp {
            tasks.spawn(udp::serve(self.gate.clone(), socket, drain.clone()));
        }
        let limits = Arc::new(Limits::new(self.gate.settings()));
        for listener in self.tcp {
            tasks.spawn(serve_tcp(self.gate.clone(), listener, limits.clone(), drain.clone()));
        }
        tokio::select! {
            () = join_all(&mut tasks) => {}
            () = drain.reached(Phase::Stopped) => tasks.abort_all(),
        }
    }
}

/// Waits for every listener; passes a panic on.
async fn join_all(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

fn bind_pair(
    addr: SocketAddr,
    udp_sockets: usize,
    sockets: &Sockets,
) -> Result<(Vec<UdpSocket>, TcpListener), BindError> {
    let id = |transport| SocketId { plane: "dns", transport, addr };
    let failed = |source| BindError::Socket { addr, transport: "udp", source };
    let bind =
        |at| sockets.inherit(id("udp")).map_or_else(|| bind_udp(at), |socket| Ok(socket.into())).and_then(udp::prepare);
    let mut tries = 0;
    loop {
        let first = bind(addr).map_err(failed)?;
        let bound = first.local_addr().map_err(failed)?;
        let inherited = sockets.inherit(id("tcp")).map(|socket| TcpListener::from_std(socket.into()));
        match inherited.unwrap_or_else(|| bind_tcp(bound)) {
            Ok(listener) => {
                sockets.offer(id("tcp"), &listener);
                let mut res = vec![first];
                while res.len() < udp_sockets {
                    res.push(bind(bound).map_err(failed)?);
                }
                for socket in &res {
                    sockets.offer(id("udp"), socket);
                }
                return Ok((res, listener));
            }
            // The system chose a port whose TCP twin is taken.
            Err(_) if addr.port() == 0 && tries < PORT_TRIES_MAX => tries += 1,
            Err(source) => return Err(BindError::Socket { addr, transport: "tcp", source }),
        }
    }
}

fn socket(addr: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn bind_udp(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket(addr, Type::DGRAM, Protocol::UDP)?;
    socket.set_reuse_port(true)?;
    // The system may grant less; that is its limit to set.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER_OCTETS);
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

fn bind_tcp(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(addr, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

//--- TCP -------------------------------------------------------------------------------------------------------------

/// Connections now, in all and by client.
struct Limits {
    free: Arc<Semaphore>,
    clients: Arc<Clients>,
    idle: Duration,
}

impl Limits {
    fn new(settings: &Settings) -> Self {
        Self {
            free: Arc::new(Semaphore::new(settings.tcp_connections_max)),
            clients: Clients::new(settings.tcp_connections_per_client_max),
            idle: settings.tcp_idle,
        }
    }
}

async fn serve_tcp(gate: Arc<Gate>, listener: TcpListener, limits: Arc<Limits>, mut drain: DrainWatch) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.reached(Phase::Draining) => break,
        };
        while connections.try_join_next().is_some() {}
        let Ok((stream, peer)) = accepted else {
            // ECONNABORTED, EMFILE: the listener stays (peers: a failed accept once ended a server).
            gate.counters().socket_errors.increment();
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let permit = limits.free.clone().try_acquire_owned();
        let Ok(permit) = permit else {
            gate.counters().connections_refused.increment();
            continue;
        };
        let Some(place) = limits.clients.enter(peer.ip()) else {
            gate.counters().connections_refused.increment();
            continue;
        };
        let (gate, limits, drain) = (gate.clone(), limits.clone(), drain.clone());
        connections.spawn(async move {
            let _held = (permit, place);
            let _open = gate.counters().connections.enter();
            serve_connection(&gate, stream, peer, limits.idle, drain).await;
        });
    }
    // Who comes now is refused at once and goes elsewhere, instead of waiting for nobody.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve_connection(
    gate: &Arc<Gate>,
    stream: TcpStream,
    peer: SocketAddr,
    idle: Duration,
    mut drain: DrainWatch,
) {
    // Small answers leave at once.
    let _ = stream.set_nodelay(true);
    let (mut reader, writer) = stream.into_split();
    let (answers, to_write) = mpsc::channel(PIPELINE_MAX);
    let writing = tokio::spawn(write_answers(writer, to_write, idle));
    let places = Arc::new(Semaphore::new(PIPELINE_MAX));
    let client = Client { addr: peer.ip(), transport: Transport::Tcp };
    loop {
        let packet = tokio::select! {
            packet = timeout(idle, read_message(&mut reader)) => packet,
            () = drain.reached(Phase::Draining) => break,
        };
        let Ok(Ok(packet)) = packet else { break };
        let Ok(place) = places.clone().acquire_owned().await else { break };
        match gate.take(&packet, client) {
            Taken::Answered(message) => {
                if answers.send(message).await.is_err() {
                    break;
                }
            }
            Taken::Dropped => break,
            Taken::Waiting(query) => {
                let (gate, answers) = (gate.clone(), answers.clone());
                tokio::spawn(async move {
                    let _place = place;
                    if let Some(message) = gate.resolve(&query, client).await {
                        // The connection may have ended meanwhile.
                        let _ = answers.send(message).await;
                    }
                });
            }
        }
    }
    drop(answers);
    // Answers still in work are written; each has its own deadline.
    let _ = writing.await;
}

async fn read_message(reader: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let length = reader.read_u16().await?;
    let mut res = vec![0; usize::from(length)];
    reader.read_exact(&mut res).await?;
    Ok(res)
}

async fn write_answers(mut writer: OwnedWriteHalf, mut answers: mpsc::Receiver<Vec<u8>>, idle: Duration) {
    while let Some(message) = answers.recv().await {
        let Ok(length) = u16::try_from(message.len()) else { continue };
        let mut framed = Vec::with_capacity(message.len() + 2);
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(&message);
        // A client that does not read is gone after the idle time.
        if !matches!(timeout(idle, writer.write_all(&framed)).await, Ok(Ok(()))) {
            return;
        }
    }
}
