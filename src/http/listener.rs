//! Sockets of the HTTP plane, with the limits on connections.
//!
//! An error of `accept` is counted and never ends a listener. A connection over a limit is closed at once and counted:
//! the gate never fails open (D-H25).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Counters;
use super::accepted::Listener;
use super::certificates::Certificates;
use super::entry;
use super::flows::udp::Udp;
use super::flows::{self, FlowGate};
use super::gate::Gate;
use super::origin::ResolverError;
use super::page::{PageError, Pages};
use super::settings::Settings;
use crate::clients::Clients;
use crate::credentials::CertificateError;
use crate::drain::{DrainWatch, Phase};
use crate::policy::{SharedView, Sink};
use crate::sockets::{SocketId, Sockets};

/// Pause after a failed `accept`, so that a lack of descriptors is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections the system holds for us between two accepts.
const BACKLOG: i32 = 1024;

/// Why the plane could not be set up.
#[derive(Debug, Error)]
pub enum BindError {
    /// A certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The block page cannot be rendered.
    #[error(transparent)]
    Page(#[from] PageError),
    /// The name servers of origins cannot be asked.
    #[error("http.resolvers: {0}")]
    Resolver(#[from] ResolverError),
    /// A socket could not be had.
    #[error("cannot listen on {transport} {addr}: {source}")]
    Socket {
        /// The address.
        addr: SocketAddr,
        /// `tcp` or `udp`.
        transport: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

/// The HTTP plane with its sockets.
pub struct Plane {
    gate: Arc<Gate>,
    /// Those for plain HTTP first, then those for TLS; all take both.
    listeners: Vec<Listener>,
    quic: Vec<Vec<Arc<Udp>>>,
}

impl Plane {
    /// Loads the pages and binds every socket.
    pub async fn bind(
        mut settings: Settings,
        view: SharedView,
        sink: Sink,
        counters: Arc<Counters>,
        sockets: &Sockets,
    ) -> Result<Self, BindError> {
        let pages = Pages::load(settings.block.pages.as_deref())?;
        let certificates = Certificates::load(&settings.certificates)?;
        let reach = if settings.transparent { Reach::Any } else { Reach::Own };
        let mut listeners = Vec::with_capacity(settings.listen.len() + settings.tls_listen.len());
        for addr in settings.listen.iter_mut().chain(&mut settings.tls_listen) {
            let failed = |source| BindError::Socket { addr: *addr, transport: "tcp", source };
            // One that takes connections to any address is another kind of socket.
            let plane = if settings.transparent { "http transparent" } else { "http" };
            let id = SocketId { plane, transport: "tcp", addr: *addr };
            let inherited = sockets.inherit(id).map(|socket| Ok(socket.into()));
            let socket = inherited.unwrap_or_else(|| bind(*addr, reach)).map_err(failed)?;
            sockets.offer(id, &socket);
            let listener = Listener::new(socket, settings.transparent).map_err(failed)?;
            // A port chosen by the system is known only now.
            *addr = listener.local_addr().map_err(failed)?;
            listeners.push(listener);
        }
        let quic = settings
            .quic_listen
            .iter()
            .map(|&addr| {
                let failed = |source| BindError::Socket { addr, transport: "udp", source };
                flows::sockets::bind(addr, sockets).map_err(failed)
            })
            .collect::<Result<_, _>>()?;
        let gate = Gate::new(settings, view, sink, counters, pages)?;
        gate.replace_certificates(certificates);
        Ok(Self { gate: Arc::new(gate), listeners, quic })
    }

    /// The plane without its sockets, to replace pages.
    pub fn gate(&self) -> Arc<Gate> {
        self.gate.clone()
    }

    /// The addresses it listens on for plain HTTP.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.gate.settings().listen.clone()
    }

    /// The addresses it listens on for TLS.
    pub fn tls_addrs(&self) -> Vec<SocketAddr> {
        self.gate.settings().tls_listen.clone()
    }

    /// The addresses it listens on for QUIC.
    pub fn quic_addrs(&self) -> Vec<SocketAddr> {
        self.quic.iter().filter_map(|listeners| listeners.first()).map(|listener| listener.addr()).collect()
    }

    /// True with a socket of any kind.
    pub fn is_listening(&self) -> bool {
        !self.listeners.is_empty() || !self.quic.is_empty()
    }

    /// Serves until the drain is over: no new connection after `Draining`, requests in work are finished, everything
    /// ends at `Stopped`.
    pub async fn run(self, mut drain: DrainWatch) {
        let settings = self.gate.settings();
        let free = Arc::new(Semaphore::new(settings.connections_max));
        let clients = Clients::new(settings.connections_per_client_max);
        let mut tasks = JoinSet::new();
        let (gate, watched) = (self.gate.clone(), drain.clone());
        let watching = tokio::spawn(async move { gate.watch_changes(watched).await });
        for listener in self.listeners {
            tasks.spawn(accept(self.gate.clone(), listener, free.clone(), clients.clone(), drain.clone()));
        }
        if !self.quic.is_empty() {
            // One client, one limit: its TCP connections and its QUIC flows count together.
            let flows = Arc::new(FlowGate::new(self.gate.clone(), clients.clone()));
            tasks.spawn(flows::sockets::run(flows, self.quic.concat(), drain.clone()));
        }
        tokio::select! {
            () = async { while tasks.join_next().await.is_some() {} } => {}
            () = drain.reached(Phase::Stopped) => tasks.abort_all(),
        }
        watching.abort();
    }
}

/// Whose connections a socket takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Those to any address that the system's rules send here (TPROXY).
    Any,
    /// Those to its own.
    Own,
}

/// A listening socket; IPv6 ones take IPv6 only, so that an IPv4 address is never met in disguise.
pub(super) fn bind(addr: SocketAddr, reach: Reach) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if reach == Reach::Any {
        // The option of IPv4 does it for sockets of IPv6 as well: the system has one mark for both.
        socket.set_ip_transparent_v4(true).map_err(without_rights)?;
    }
    socket.set_reuse_address(true)?;
    // Connections have it from their listener: small answers leave at once.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Says which right is missing.
fn without_rights(error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return error;
    }
    io::Error::new(error.kind(), "http.transparent needs CAP_NET_ADMIN or CAP_NET_RAW")
}

async fn accept(
    gate: Arc<Gate>,
    listener: Listener,
    free: Arc<Semaphore>,
    clients: Arc<Clients>,
    mut drain: DrainWatch,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.reached(Phase::Draining) => break,
        };
        while connections.try_join_next().is_some() {}
        let Ok(accepted) = accepted else {
            // ECONNABORTED, EMFILE: the listener stays.
            gate.counters().socket_errors.increment();
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let permit = free.clone().try_acquire_owned().ok();
        // A listed proxy stands for all its clients, each of which is counted for itself.
        let peer = accepted.peer.ip();
        let is_listed = gate.settings().lists(peer);
        let place = if is_listed { None } else { clients.enter(peer) };
        let (Some(permit), true) = (permit, is_listed || place.is_some()) else {
            gate.counters().connections_refused.increment();
            continue;
        };
        let (gate, clients, drain) = (gate.clone(), clients.clone(), drain.clone());
        connections.spawn(async move {
            let _held = permit;
            let counters = gate.clone();
            let _open = counters.counters().connections.enter();
            entry::serve(gate, accepted, place, &clients, drain).await;
        });
    }
    // Who comes now is refused at once and goes elsewhere, instead of waiting for nobody.
    drop(listener);
    while connections.join_next().await.is_some() {}
}
