//! The first octets of a TCP connection: whose it is, and which protocol it speaks.
//!
//! Every listener takes plain HTTP and TLS, and what comes decides, not the port (D-H26, D-H27): a handshake record is TLS
//! and judged by its hello, all else is read as a request and judged by its host. Nothing is passed on unread.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::buffer::Buffer;
use super::connection;
use super::gate::Gate;
use super::origin::Ends;
use super::proxy_header::{self, ProxyHeader};
use super::timer::Timer;
use super::tls;
use crate::clients::{ClientPlace, Clients};
use crate::drain::{DrainWatch, Phase};

/// A connection whose first octets are there.
pub(super) struct Arrival {
    pub stream: TcpStream,
    /// Who talks to whom.
    pub ends: Ends,
    /// True when the peer is a proxy whose word is taken.
    pub peer_is_listed: bool,
    /// Octets read and not used.
    pub input: Buffer,
    pub timer: Timer,
    pub drain: DrainWatch,
    pub draining: Draining,
}

/// Serves a connection until it ends.
///
/// `place` is the client's among its connections; a listed proxy's client is counted once the proxy has named it.
pub(super) async fn serve(
    gate: Arc<Gate>,
    stream: TcpStream,
    peer: SocketAddr,
    place: Option<ClientPlace>,
    clients: &Arc<Clients>,
    drain: DrainWatch,
) {
    // Small answers leave at once; a failure costs time only.
    let _ = stream.set_nodelay(true);
    let Ok(mut arrival) = Arrival::new(&gate, stream, peer, drain) else { return };
    if arrival.peer_is_listed && !arrival.read_proxy_header(&gate).await {
        return;
    }
    let client = arrival.ends.client.ip();
    let is_named = client != peer.ip().to_canonical();
    let held = if is_named { clients.enter(client) } else { place };
    if is_named && held.is_none() {
        gate.counters().connections_refused.increment();
        return;
    }
    if !arrival.read_first(&gate).await {
        return;
    }
    if gate.outgoing().contains(peer) {
        gate.counters().loops.increment();
        return;
    }
    if tls::begins(arrival.input.filled()) {
        tls::serve(&gate, arrival).await;
    } else {
        connection::serve(&gate, arrival).await;
    }
}

impl Arrival {
    fn new(gate: &Gate, stream: TcpStream, peer: SocketAddr, drain: DrainWatch) -> io::Result<Self> {
        let settings = gate.settings();
        Ok(Self {
            ends: Ends::new(settings, &stream, peer)?,
            stream,
            peer_is_listed: settings.lists(peer.ip()),
            input: Buffer::new(settings.head_bytes_max.max(tls::stream_octets_max(settings))),
            timer: Timer::new(settings.idle_timeout),
            draining: Draining::new(drain.clone()),
            drain,
        })
    }

    /// Reads what a listed proxy sends first; false when it is a PROXY header and broken, or nothing came.
    async fn read_proxy_header(&mut self, gate: &Gate) -> bool {
        let begun = Instant::now();
        loop {
            match proxy_header::read(self.input.filled()) {
                Ok(ProxyHeader::Absent) => return true,
                Ok(ProxyHeader::Partial) => {}
                Ok(ProxyHeader::Whole { octets, addrs }) => {
                    gate.counters().proxy_headers.increment();
                    if let Some((source, destination)) = addrs {
                        self.ends.client = SocketAddr::new(source.ip().to_canonical(), source.port());
                        self.ends.reached = destination;
                    }
                    self.input.consume(octets);
                    return true;
                }
                Err(_) => {
                    gate.counters().proxy_header_errors.increment();
                    return false;
                }
            }
            let limit = gate.settings().head_timeout;
            let fill = self.input.fill(&mut self.stream);
            match self.timer.until(|| begun + limit, fill).await {
                Err(_) | Ok(Err(_) | Ok(0)) => return false,
                Ok(Ok(_)) => {}
            }
        }
    }

    /// Waits for the first octets; false when none come.
    ///
    /// A connection that has asked for nothing yet has the time of a head, not of idleness.
    async fn read_first(&mut self, gate: &Gate) -> bool {
        if !self.input.is_empty() {
            return true;
        }
        let fill = self.input.fill(&mut self.stream);
        tokio::select! {
            biased;
            read = self.timer.within(gate.settings().head_timeout, fill) => matches!(read, Ok(Ok(1..))),
            () = self.draining.wait() => false,
        }
    }
}

//--- Draining --------------------------------------------------------------------------------------------------------

/// The wait for the drain, registered once for all requests of a connection.
pub(super) struct Draining {
    wait: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_over: bool,
}

impl Draining {
    fn new(mut drain: DrainWatch) -> Self {
        Self { wait: Box::pin(async move { drain.reached(Phase::Draining).await }), is_over: false }
    }

    /// Returns once the drain has begun, each time it is asked.
    pub async fn wait(&mut self) {
        poll_fn(|context| {
            if !self.is_over && self.wait.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.is_over = true;
            Poll::Ready(())
        })
        .await;
    }
}
