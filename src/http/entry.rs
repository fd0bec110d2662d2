//! The first octets of a TCP connection: whose it is, and which protocol it speaks.
//!
//! Every listener takes plain HTTP and TLS, and what comes decides, not the port (D-H26, D-H27): a handshake record is TLS
//! and judged by its hello, or by the requests inside where a certificate is for its name; all else is read as a request and
//! judged by its host, HTTP/2 by its preface. Nothing is passed on unread.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::accepted::{Accepted, First};
use super::buffer::Buffer;
use super::connection;
use super::draining::Draining;
use super::gate::Gate;
use super::origin::Ends;
use super::party::Party;
use super::timer::Timer;
use super::tls::{self, Opening, Refusal};
use crate::clients::{ClientPlace, Clients};
use crate::drain::DrainWatch;
use crate::proxy_header::{self, ProxyHeader};

/// A connection whose first octets are there.
pub(super) struct Arrival<S = TcpStream> {
    pub stream: S,
    /// Whose it is.
    pub party: Party,
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
    accepted: Accepted,
    place: Option<ClientPlace>,
    clients: &Arc<Clients>,
    drain: DrainWatch,
) {
    let Ok(ends) = Ends::new(gate.settings(), &accepted) else { return };
    match begin(&gate, &accepted, &ends) {
        Begun::Over => {}
        Begun::Refused(refusal) => refusal.carry_out(accepted),
        // Boxed: its state is large, and a connection that is refused at once should not carry it.
        Begun::GoesOn(known) => Box::pin(go_on(gate, accepted, ends, known, place, clients, drain)).await,
    }
}

/// How a connection stands after a first look at what is there.
#[expect(clippy::large_enum_variant, reason = "one at a time, on its way to the task")]
enum Begun {
    GoesOn(Known),
    Over,
    Refused(Refusal),
}

/// What a first look at a connection brought.
#[derive(Default)]
struct Known {
    octets: Vec<u8>,
    /// The hello in the octets, and what was decided of it.
    hello: Option<tls::Judged>,
}

/// Looks at what has come already, without a wait.
fn begin(gate: &Gate, accepted: &Accepted, ends: &Ends) -> Begun {
    // A listed proxy first says whose connection it is.
    if gate.settings().lists(accepted.peer.ip()) {
        return Begun::GoesOn(Known::default());
    }
    let first = accepted.read(|octets| {
        if is_loop(gate, accepted.peer) {
            return Begun::Over;
        }
        match tls::begins(octets).then(|| tls::open(gate, ends, octets)) {
            Some(Opening::Refused(refusal)) => Begun::Refused(refusal),
            Some(Opening::Judged(hello)) => Begun::GoesOn(Known { octets: octets.to_vec(), hello: Some(hello) }),
            Some(Opening::Unread) | None => Begun::GoesOn(Known { octets: octets.to_vec(), hello: None }),
        }
    });
    match first {
        First::Ended => Begun::Over,
        First::Nothing => Begun::GoesOn(Known::default()),
        First::Octets(begun) => begun,
    }
}

/// True, and counted, for a connection of our own that came back.
fn is_loop(gate: &Gate, peer: SocketAddr) -> bool {
    let is_own = gate.outgoing().contains(peer);
    if is_own {
        gate.counters().loops.increment();
    }
    is_own
}

/// Serves a connection that could not be answered at once.
async fn go_on(
    gate: Arc<Gate>,
    accepted: Accepted,
    ends: Ends,
    known: Known,
    place: Option<ClientPlace>,
    clients: &Arc<Clients>,
    drain: DrainWatch,
) {
    let peer = accepted.peer;
    let Ok(mut arrival) = Arrival::new(&gate, accepted, ends, &known.octets, drain) else { return };
    if let Some(hello) = known.hello {
        return tls::serve(&gate, arrival, Some(hello)).await;
    }
    if arrival.party.is_listed && !arrival.read_proxy_header(&gate).await {
        return;
    }
    let client = arrival.party.client();
    let is_named = client != peer.ip().to_canonical();
    let held = if is_named { clients.enter(client) } else { place };
    if is_named && held.is_none() {
        gate.counters().connections_refused.increment();
        return;
    }
    if !arrival.read_first(&gate).await || is_loop(&gate, peer) {
        return;
    }
    if tls::begins(arrival.input.filled()) {
        tls::serve(&gate, arrival, None).await;
    } else {
        // Boxed: TLS that is passed on should not carry its state.
        Box::pin(connection::serve(&gate, arrival)).await;
    }
}

impl Arrival {
    fn new(gate: &Gate, accepted: Accepted, ends: Ends, octets: &[u8], drain: DrainWatch) -> io::Result<Self> {
        let settings = gate.settings();
        let octets_max = settings.head_bytes_max.max(tls::stream_octets_max(settings));
        Ok(Self {
            party: Party::new(settings, accepted.peer, ends),
            stream: accepted.register()?,
            input: Buffer::with(octets_max, octets),
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
                        self.party.speaks_for(source, destination);
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
