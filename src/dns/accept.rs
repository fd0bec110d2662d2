//! Listening sockets of TCP and what is inside it: the accept loop, with the limits on connections.
//!
//! An error of `accept` is counted and never ends a listener. A handshake is done by the connection's own task, so that who
//! is slow at it keeps nobody else waiting.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::handler::{Client, Gate};
use super::proxied::{self, Front};
use super::send::Transport;
use super::settings::Settings;
use super::{https, secure, stream};
use crate::clients::{ClientPlace, Clients};
use crate::drain::{DrainWatch, Phase};

/// Time for a header and a query that may be on their way when the drain begins.
const SENT_BEFORE_MAX: Duration = Duration::from_secs(1);
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

/// A place among all for a connection whose client is not known yet.
struct Unclaimed(OwnedSemaphorePermit);

/// What a connection that was accepted has of them.
enum Held {
    /// All.
    Claimed(Place),
    /// The client is still to be told by a proxy.
    Unclaimed(Unclaimed),
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
        self.enter_unclaimed(gate).and_then(|place| self.claim(gate, place, peer.ip()))
    }

    /// A place for a connection that is yet to say who it is for; none is counted as refused.
    fn enter_unclaimed(&self, gate: &Gate) -> Option<Unclaimed> {
        counted(gate, self.free.clone().try_acquire_owned().ok().map(Unclaimed))
    }

    /// The place with the client's own; one too many is counted as refused.
    fn claim(&self, gate: &Gate, place: Unclaimed, client: IpAddr) -> Option<Place> {
        counted(gate, self.clients.enter(client).map(|client| Place { _free: place.0, _client: client }))
    }
}

/// A place, or a connection that is counted as refused.
fn counted<T>(gate: &Gate, place: Option<T>) -> Option<T> {
    if place.is_none() {
        gate.counters().connections_refused.increment();
    }
    place
}

/// Accepts connections until the drain, then waits for those that are open.
pub async fn serve(
    gate: Arc<Gate>,
    listener: TcpListener,
    (transport, front): (Transport, Front),
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
        if front == Front::Proxies && !proxied::is_listed(&gate, peer) {
            continue;
        }
        let place = match front {
            Front::Clients => limits.enter(&gate, peer).map(Held::Claimed),
            Front::Proxies => limits.enter_unclaimed(&gate).map(Held::Unclaimed),
        };
        let Some(place) = place else { continue };
        let (gate, limits, drain) = (gate.clone(), limits.clone(), drain.clone());
        connections.spawn(async move {
            let _open = gate.counters().connections.enter();
            match place {
                Held::Claimed(_held) => {
                    let client = Client::new(peer, stream.local_addr().ok(), transport);
                    serve_connection(&gate, stream, client, drain).await;
                }
                Held::Unclaimed(place) => serve_proxied(&gate, stream, peer, (place, &limits), drain).await,
            }
        });
    }
    // Who comes now is refused at once and goes elsewhere, instead of waiting for nobody.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves a connection of the proxy at `peer` for the client that its header names, in a place of this client.
async fn serve_proxied(
    gate: &Arc<Gate>,
    mut stream: TcpStream,
    peer: SocketAddr,
    (place, limits): (Unclaimed, &Limits),
    mut drain: DrainWatch,
) {
    let client = {
        let mut reading = std::pin::pin!(proxied::read(gate, &mut stream, peer));
        tokio::select! {
            biased;
            client = &mut reading => client,
            // What was sent before the drain is read.
            () = drain.reached(Phase::Draining) => timeout(SENT_BEFORE_MAX, reading).await.unwrap_or_default(),
        }
    };
    let Some(client) = client else { return };
    let Some(_held) = limits.claim(gate, place, client.addr) else { return };
    serve_connection(gate, stream, client, drain).await;
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
