//! Sockets of the DNS plane: UDP with one socket per core, TCP, and the encrypted transports.
//!
//! A socket that cannot be had fails the start; later errors of sockets are counted and never end a listener.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::accept::{self, Limits};
use super::dnstap::{LAST_WORDS, Output, Tap};
use super::handler::Gate;
use super::proxied::Front;
use super::quic::{self, Endpoint};
use super::secure::Servers;
use super::send::Transport;
use super::settings::Settings;
use super::upstream::Upstreams;
use super::zones::Zones;
use super::{Counters, udp};
use crate::credentials::CertificateError;
use crate::drain::{DrainWatch, Phase};
use crate::policy::{SharedView, Sink};
use crate::sockets::{SocketId, Sockets, with_own_udp_port};

/// Tries to find a port free for both UDP and TCP when the system chooses.
const PORT_TRIES_MAX: usize = 32;
/// Receive buffer of a UDP socket: a burst of 20,000 queries.
const UDP_BUFFER_OCTETS: usize = 4 << 20;

/// Why the plane could not be set up.
#[derive(Debug, Error)]
pub enum BindError {
    /// A certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
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
    proxied_udp: Vec<UdpSocket>,
    proxied_tcp: Vec<TcpListener>,
    tls: Vec<TcpListener>,
    https: Vec<TcpListener>,
    quic: Vec<Endpoint>,
    /// What writes dnstap, and the word that ends it.
    tap: Option<(Output, oneshot::Sender<()>)>,
}

impl Plane {
    /// Loads the zones, prepares the upstreams and binds every socket.
    pub async fn bind(
        mut settings: Settings,
        view: SharedView,
        sink: Sink,
        counters: Arc<Counters>,
        sockets: &Sockets,
    ) -> Result<Self, BindError> {
        let zones = Zones::load(&settings.zones).await?;
        let upstreams = Upstreams::new(&settings).map_err(|error| BindError::Upstream(error.to_string()))?;
        let servers = Servers::load(&settings)?;
        let udp_sockets = settings.udp_sockets.max(1);
        let (udp, tcp) = bind_pairs(&settings.listen, "dns", udp_sockets, sockets)?;
        let (proxied_udp, proxied_tcp) =
            bind_pairs(&settings.proxy_protocol.listen, "dns proxied", udp_sockets, sockets)?;
        let bind_all = |addrs: &[SocketAddr], plane| -> Result<Vec<TcpListener>, BindError> {
            addrs.iter().map(|&addr| bind_stream(addr, plane, sockets)).collect()
        };
        let (tls, https) = (bind_all(&settings.tls.listen, "dns tls")?, bind_all(&settings.https.listen, "dns https")?);
        let failed = |addr| move |source| BindError::Socket { addr, transport: "udp", source };
        let quic = settings.quic.listen.iter().map(|&addr| Endpoint::bind(addr).map_err(failed(addr)));
        let quic = quic.collect::<Result<Vec<_>, _>>()?;
        // Ports chosen by the system are known only now.
        settings.tls.listen = addrs_of(&tls);
        settings.https.listen = addrs_of(&https);
        settings.quic.listen = quic.iter().map(Endpoint::addr).collect();
        let (mut tap, mut output) = (None, None);
        if let Some(dnstap) = settings.dnstap.clone() {
            let (sender, frames) = Tap::new(dnstap.clone(), counters.clone());
            let (end, ended) = oneshot::channel();
            (tap, output) = (Some(sender), Some((Output::new(dnstap, frames, counters.clone(), ended), end)));
        }
        let gate = Gate::new(settings, view, sink, counters, zones, upstreams, servers).tapped(tap);
        let (gate, tap) = (Arc::new(gate), output);
        Ok(Self { gate, udp, tcp, proxied_udp, proxied_tcp, tls, https, quic, tap })
    }

    /// The plane without its sockets, to replace zones and read health.
    pub fn gate(&self) -> Arc<Gate> {
        self.gate.clone()
    }

    /// The addresses it listens on; UDP and TCP share each.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        addrs_of(&self.tcp)
    }

    /// The addresses it listens on for proxies; UDP and TCP share each.
    pub fn proxied_addrs(&self) -> Vec<SocketAddr> {
        addrs_of(&self.proxied_tcp)
    }

    /// The addresses it listens on with DNS over TLS.
    pub fn tls_addrs(&self) -> Vec<SocketAddr> {
        addrs_of(&self.tls)
    }

    /// The addresses it listens on with DNS over HTTPS.
    pub fn https_addrs(&self) -> Vec<SocketAddr> {
        addrs_of(&self.https)
    }

    /// The addresses it listens on with DNS over QUIC.
    pub fn quic_addrs(&self) -> Vec<SocketAddr> {
        self.quic.iter().map(Endpoint::addr).collect()
    }

    /// True with a socket of any kind.
    pub fn is_listening(&self) -> bool {
        let streams = [&self.tcp, &self.proxied_tcp, &self.tls, &self.https];
        streams.iter().any(|listeners| !listeners.is_empty()) || !self.quic.is_empty()
    }

    /// Serves until the drain is over: no new work after `Draining`, everything ends at `Stopped`.
    ///
    /// Panics if a listener did: a plane that has lost one of its sockets must not look alive.
    pub async fn run(self, mut drain: DrainWatch) {
        let mut tasks = JoinSet::new();
        let tap = self.tap.map(|(output, end)| (JoinSet::from_iter([output.run()]), end));
        for (front, sockets) in [(Front::Clients, self.udp), (Front::Proxies, self.proxied_udp)] {
            for socket in sockets {
                tasks.spawn(udp::serve(self.gate.clone(), socket, front, drain.clone()));
            }
        }
        tasks.spawn(self.gate.clone().refresh(drain.clone()));
        let limits = Arc::new(Limits::new(self.gate.settings()));
        let all = [
            (Transport::Tcp, Front::Clients, self.tcp),
            (Transport::Tcp, Front::Proxies, self.proxied_tcp),
            (Transport::Tls, Front::Clients, self.tls),
            (Transport::Https, Front::Clients, self.https),
        ];
        for (transport, front, listeners) in all {
            for listener in listeners {
                let (gate, limits) = (self.gate.clone(), limits.clone());
                tasks.spawn(accept::serve(gate, listener, (transport, front), limits, drain.clone()));
            }
        }
        for endpoint in self.quic {
            tasks.spawn(quic::serve(self.gate.clone(), endpoint, limits.clone(), drain.clone()));
        }
        tokio::select! {
            () = join_all(&mut tasks) => {}
            () = drain.reached(Phase::Stopped) => tasks.abort_all(),
        }
        if let Some((mut writing, end)) = tap {
            // What was answered last is written too, as far as the reader takes it.
            drop(end);
            let _ = timeout(2 * LAST_WORDS, writing.join_next()).await;
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

fn addrs_of(listeners: &[TcpListener]) -> Vec<SocketAddr> {
    listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
}

/// A listener that was taken over, or a new one.
fn bind_stream(addr: SocketAddr, plane: &'static str, sockets: &Sockets) -> Result<TcpListener, BindError> {
    let id = SocketId { plane, transport: "tcp", addr };
    let inherited = sockets.inherit(id).map(|socket| TcpListener::from_std(socket.into()));
    let listener = inherited.unwrap_or_else(|| bind_tcp(addr));
    let listener = listener.map_err(|source| BindError::Socket { addr, transport: "tcp", source })?;
    sockets.offer(id, &listener);
    Ok(listener)
}

/// Sockets for both UDP and TCP at each of `addrs`.
fn bind_pairs(
    addrs: &[SocketAddr],
    plane: &'static str,
    udp_sockets: usize,
    sockets: &Sockets,
) -> Result<(Vec<UdpSocket>, Vec<TcpListener>), BindError> {
    let (mut udp, mut tcp) = (Vec::new(), Vec::new());
    for &addr in addrs {
        let (each, listener) = bind_pair(addr, plane, udp_sockets, sockets)?;
        udp.extend(each);
        tcp.push(listener);
    }
    Ok((udp, tcp))
}

fn bind_pair(
    addr: SocketAddr,
    plane: &'static str,
    udp_sockets: usize,
    sockets: &Sockets,
) -> Result<(Vec<UdpSocket>, TcpListener), BindError> {
    let id = |transport| SocketId { plane, transport, addr };
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

pub(super) fn bind_udp(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket(addr, Type::DGRAM, Protocol::UDP)?;
    socket.set_reuse_port(true)?;
    // The system may grant less; that is its limit to set.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER_OCTETS);
    socket.bind(&with_own_udp_port(addr)?.into())?;
    Ok(socket.into())
}

fn bind_tcp(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(addr, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}
