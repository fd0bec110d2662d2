//! Sockets of the HTTP plane, with the limits on connections.
//!
//! An error of `accept` is counted and never ends a listener. A connection over a limit is closed at once and counted:
//! the gate never fails open (D-H25).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Counters;
use super::connection;
use super::gate::Gate;
use super::page::{PageError, Pages};
use super::settings::Settings;
use crate::drain::{DrainWatch, Phase};
use crate::model::one_client;
use crate::policy::{SharedView, Sink};

/// Pause after a failed `accept`, so that a lack of descriptors is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections the system holds for us between two accepts.
const BACKLOG: i32 = 1024;

/// Why the plane could not be set up.
#[derive(Debug, Error)]
pub enum BindError {
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
        let listeners = settings
            .listen
            .iter()
            .map(|&addr| bind(addr).map_err(|source| BindError::Socket { addr, source }))
            .collect::<Result<_, _>>()?;
        Ok(Self { gate: Arc::new(Gate::new(settings, view, sink, counters, pages)), listeners })
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
        let limits = Arc::new(Limits::new(self.gate.settings()));
        let mut tasks = JoinSet::new();
        for listener in self.listeners {
            tasks.spawn(accept(self.gate.clone(), listener, limits.clone(), drain.clone()));
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

/// Connections now, in all and by client.
pub(super) struct Limits {
    free: Arc<Semaphore>,
    by_client: DashMap<IpAddr, usize>,
    per_client_max: usize,
}

impl Limits {
    fn new(settings: &Settings) -> Self {
        Self {
            free: Arc::new(Semaphore::new(settings.connections_max)),
            by_client: DashMap::new(),
            per_client_max: settings.connections_per_client_max,
        }
    }

    /// Counts a client's connection in, unless it has too many.
    pub(super) fn enter(self: &Arc<Self>, client: IpAddr) -> Option<ClientPlace> {
        let client = one_client(client);
        let mut count = self.by_client.entry(client).or_insert(0);
        if *count >= self.per_client_max {
            return None;
        }
        *count += 1;
        Some(ClientPlace { limits: self.clone(), client })
    }
}

/// One connection of one client; dropping it, also when its task is aborted, counts it out.
pub(super) struct ClientPlace {
    limits: Arc<Limits>,
    client: IpAddr,
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        self.limits.by_client.remove_if_mut(&self.client, |_, count| {
            *count = count.saturating_sub(1);
            *count == 0
        });
    }
}

async fn accept(gate: Arc<Gate>, listener: TcpListener, limits: Arc<Limits>, mut drain: DrainWatch) {
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
        let permit = limits.free.clone().try_acquire_owned().ok();
        // A listed proxy stands for all its clients, each of which is counted for itself.
        let is_listed = gate.settings().lists(peer.ip());
        let place = if is_listed { None } else { limits.enter(peer.ip().to_canonical()) };
        let (Some(permit), true) = (permit, is_listed || place.is_some()) else {
            gate.counters().connections_refused.increment();
            continue;
        };
        let (gate, limits, drain) = (gate.clone(), limits.clone(), drain.clone());
        connections.spawn(async move {
            let _held = permit;
            let counters = gate.clone();
            let _open = counters.counters().connections.enter();
            connection::serve(gate, stream, peer, place, &limits, drain).await;
        });
    }
    // Who comes now is refused at once and goes elsewhere, instead of waiting for nobody.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_64_are_one_client() {
        let limits = Arc::new(Limits::new(&Settings {
            connections_per_client_max: 1,
            ..Settings::new(SocketAddr::from(([127, 0, 0, 1], 1)))
        }));
        let enter = |addr: &str| limits.enter(addr.parse().expect("an address"));
        let first = enter("2001:db8::1");
        assert!(first.is_some());
        assert!(enter("2001:db8::2").is_none());
        assert!(enter("2001:db8:0:1::1").is_some());
        assert!(enter("192.0.2.1").is_some());
        drop(first);
        assert!(enter("2001:db8::2").is_some());
    }
}
