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
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Counters;
use super::certificates::{CertificateError, Certificates};
use super::connection;
use super::gate::Gate;
use super::page::{PageError, Pages};
use super::settings::Settings;
use crate::clients::Clients;
use crate::drain::{DrainWatch, Phase};
use crate::policy::{SharedView, Sink};

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
    /// A socket could not be had.
    #[error("cannot listen on tcp {addr}: {source}")]
    Socket {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// The HTTP plane with its sockets.
pub struct Plane {
    gate: Arc<Gate>,
    listeners: Vec<TcpListener>,
}

impl Plane {
    /// Loads the pages and binds every socket.
    pub async fn bind(
        settings: Settings,
        view: SharedView,
        sink: Sink,
        counters: Arc<Counters>,
    ) -> Result<Self, BindError> {
        let pages = Pages::load(settings.block.pages.as_deref())?;
        let certificates = Certificates::load(&settings.certificates)?;
        let listeners = settings
            .listen
            .iter()
            .map(|&addr| bind(addr).map_err(|source| BindError::Socket { addr, source }))
            .collect::<Result<_, _>>()?;
        let gate = Gate::new(settings, view, sink, counters, pages);
        gate.replace_certificates(certificates);
        Ok(Self { gate: Arc::new(gate), listeners })
    }

    /// The plane without its sockets, to replace pages.
    pub fn gate(&self) -> Arc<Gate> {
        self.gate.clone()
    }

    /// The addresses it listens on.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Serves until the drain is over: no new connection after `Draining`, requests in work are finished, everything
    /// ends at `Stopped`.
    pub async fn run(self, mut drain: DrainWatch) {
        let settings = self.gate.settings();
        let free = Arc::new(Semaphore::new(settings.connections_max));
        let clients = Clients::new(settings.connections_per_client_max);
        let mut tasks = JoinSet::new();
        for listener in self.listeners {
            tasks.spawn(accept(self.gate.clone(), listener, free.clone(), clients.clone(), drain.clone()));
        }
        tokio::select! {
            () = async { while tasks.join_next().await.is_some() {} } => {}
            () = drain.reached(Phase::Stopped) => tasks.abort_all(),
        }
    }
}

/// A listening socket; IPv6 ones take IPv6 only, so that an IPv4 address is never met in disguise.
pub(super) fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

async fn accept(
    gate: Arc<Gate>,
    listener: TcpListener,
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
        let Ok((stream, peer)) = accepted else {
            // ECONNABORTED, EMFILE: the listener stays.
            gate.counters().socket_errors.increment();
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let permit = free.clone().try_acquire_owned().ok();
        // A listed proxy stands for all its clients, each of which is counted for itself.
        let is_listed = gate.settings().lists(peer.ip());
        let place = if is_listed { None } else { clients.enter(peer.ip()) };
        let (Some(permit), true) = (permit, is_listed || place.is_some()) else {
            gate.counters().connections_refused.increment();
            continue;
        };
        let (gate, clients, drain) = (gate.clone(), clients.clone(), drain.clone());
        connections.spawn(async move {
            let _held = permit;
            let counters = gate.clone();
            let _open = counters.counters().connections.enter();
            connection::serve(gate, stream, peer, place, &clients, drain).await;
        });
    }
    // Who comes now is refused at once and goes elsewhere, instead of waiting for nobody.
    drop(listener);
    while connections.join_next().await.is_some() {}
}
