//! Listening sockets of TCP and what is inside it: the accept loop, with the limits on connections.
//!
//! An error of `accept` is counted and never ends a listener. A handshake is done by the connection's own task, so that who
//! is slow at it keeps nobody else waiting.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::handler::{Client, Gate};
use super::send::Transport;
use super::settings::Settings;
use super::{https, secure, stream};
use crate::clients::{ClientPlace, Clients};
use crate::drain::{DrainWatch, Phase};

/// Pause after a failed `accept`, so that a lack of descriptors is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections now, in all and by client, whatever their transport.
pub struct Limits {
    free: Arc<Semaphore>,
    clients: Arc<Clients>,
}

/// A connection's place; dropping it counts it out.
pub struct Place {
    _free: OwnedSemaphorePermit,
    _client: ClientPlace,
}

impl Limits {
    /// None yet.
    pub fn new(settings: &Settings) -> Self {
        Self {
            free: Arc::new(Semaphore::new(settings.tcp_connections_max)),
            clients: Clients::new(settings.tcp_connections_per_client_max),
        }
    }

    /// A place for a connection of `peer`; none is counted as refused.
    pub fn enter(&self, gate: &Gate, peer: SocketAddr) -> Option<Place> {
        let enter = || {
            let free = self.free.clone().try_acquire_owned().ok()?;
            Some(Place { _free: free, _client: self.clients.enter(peer.ip())? })
        };
        let res = enter();
        if res.is_none() {
            gate.counters().connections_refused.increment();
        }
        res
    }
}

/// Accepts connections until the drain, then waits for those that are open.
pub async fn serve(
    gate: Arc<Gate>,
    listener: TcpListener,
    transport: Transport,
    limits: Arc<Limits>,
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
            // ECONNABORTED, EMFILE: the listener stays (peers: a failed accept once ended a server).
            gate.counters().socket_errors.increment();
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Some(place) = limits.enter(&gate, peer) else { continue };
        let (gate, drain) = (gate.clone(), drain.clone());
        connections.spawn(async move {
            let _held = place;
            let _open = gate.counters().connections.enter();
            serve_connection(&gate, stream, Client { addr: peer.ip(), transport }, drain).await;
        });
    }
    // Who comes now is refused at once and goes elsewhere, instead of waiting for nobody.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve_connection(gate: &Arc<Gate>, stream: TcpStream, client: Client, mut drain: DrainWatch) {
    // Small answers leave at once.
    let _ = stream.set_nodelay(true);
    if !client.transport.is_encrypted() {
        return stream::serve(gate, stream, client, drain).await;
    }
    let stream = tokio::select! {
        stream = secure::shake_hands(gate, stream, client.transport) => stream,
        () = drain.reached(Phase::Draining) => return,
    };
    let Some(stream) = stream else { return };
    match client.transport {
        Transport::Https => https::serve(gate, stream, client, drain).await,
        _ => stream::serve(gate, stream, client, drain).await,
    }
}
