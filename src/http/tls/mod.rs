//! TLS that is passed on unopened: the hello is read, its name judged, and the octets go on as they came, or nowhere.
//!
//! ```text
//! octets ─ hello ─▶ name ─▶ gate (judge) ─▶ origin ─ answer ─▶ both ways, unread
//!                    │         │                        └ HelloRetryRequest: the second hello must name the same
//!                    │         └▶ alert │ reset │ silence
//!                    └ a certificate is for it ─▶ terminate
//! ```
//!
//! No octet goes to the origin before the verdict, and none after the hello before the origin has answered it: a second
//! hello on its heels would be read by the origin alone (D-T11). What cannot be read, cannot be judged or leads nowhere is
//! refused; nothing fails open. A hello without a name, or with an address for one, is judged as the address (D-T4).
//!
//! What this cannot see, since it opens nothing: the inner name under Encrypted ClientHello (D-T16), the hosts of requests
//! (D-T17, D-T18), a renegotiation (D-T12).
//!
//! Limits: `Settings::hello_octets_max`, `hello_timeout`, `stream_timeout`, and the constants beside what they bound.

pub mod counters;
mod pipes;
mod tunnel;
mod ways;

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

pub use counters::Counters;
pub use pipes::Pipes;

use super::accepted::Accepted;
use super::buffer::Buffer;
use super::counters::OriginFailure;
use super::entry::Arrival;
use super::gate::{Asked, Decision, Gate};
use super::hello::retry::{self, Answer};
use super::hello::{Alert, Foreign, Hello, HelloError, Reader, Reading};
use super::host::HostName;
use super::origin::{self, Carries, Connected, Ends, Route};
use super::settings::{Settings, TlsBlock};
use super::terminate;
use crate::model::Via;
use counters::{Outcome, Retry};

/// Octets of the stream for one octet of a hello: it may come in records of one octet each (D-T2).
const STREAM_PER_OCTET: usize = 6;
/// Octets that may stand between two hellos, and behind the first.
const BETWEEN_OCTETS_MAX: usize = 64 << 10;
/// Octets read of the origin's answer at a time: a flight with two certificates fits.
const ANSWER_OCTETS: usize = 8 << 10;
/// How long a refused connection is read on, so that the alert is not lost in a reset.
const LINGER: Duration = Duration::from_secs(2);
/// How much of it.
const LINGER_OCTETS_MAX: usize = 256 << 10;

/// The protocol of a certificate authority's check (RFC 8737 section 6.2).
const ACME_PROTOCOL: &[u8] = b"acme-tls/1";

/// Octets that must fit into a connection's buffer while hellos are looked for.
pub fn stream_octets_max(settings: &Settings) -> usize {
    settings.hello_octets_max.saturating_mul(STREAM_PER_OCTET).saturating_add(BETWEEN_OCTETS_MAX)
}

/// What the first octets of a connection come to, without a wait.
#[expect(clippy::large_enum_variant, reason = "one at a time, on its way to the task")]
pub(super) enum Opening {
    /// A whole hello, whose connection goes on.
    Judged(Judged),
    /// A whole hello, refused: the client sends nothing before it is answered.
    Refused(Refusal),
    /// No whole hello, or one whose connection ends here. Nothing is counted yet.
    Unread,
}

/// A hello that was found, and what was decided of it.
pub(super) struct Judged {
    named: Named,
    decision: Decision,
    reader: Reader,
    goes_on: bool,
}

/// The end of a connection that is refused.
pub(super) enum Refusal {
    /// With an alert.
    Alert(Alert),
    /// With a reset.
    Reset,
}

impl Refusal {
    /// Ends the connection.
    pub fn carry_out(self, accepted: Accepted) {
        match self {
            Self::Alert(alert) => accepted.end_with(&alert.record()),
            Self::Reset => accepted.reset(),
        }
    }
}

/// Judges a connection by its first octets, if a whole hello stands in them.
pub(super) fn open(gate: &Gate, ends: &Ends, octets: &[u8]) -> Opening {
    let mut reader = Reader::new(gate.settings().hello_octets_max);
    let Reading::Hello(hello) = reader.read(octets) else { return Opening::Unread };
    let named = Named::of(&hello, ends);
    if gate.certificates().server_for(&named.host).is_some() {
        return Opening::Unread;
    }
    gate.counters().tls.found(&hello, 1);
    let has_early_data = hello.has_early_data;
    let goes_on = has_early_data || reader.end() < octets.len();
    let decision = decide(gate, ends, &named);
    let refusal = match (&decision, gate.settings().block.tls) {
        (Decision::Block(_), TlsBlock::Alert) => Some((Outcome::Blocked, Refusal::Alert(Alert::UnrecognizedName))),
        (Decision::Block(_), TlsBlock::Reset) => Some((Outcome::Blocked, Refusal::Reset)),
        (Decision::NotReady, _) => Some((Outcome::NotReady, Refusal::Alert(Alert::InternalError))),
        (Decision::Block(_), TlsBlock::Drop) | (Decision::Pass | Decision::CarveOut, _) => None,
    };
    match refusal.filter(|_| !goes_on) {
        Some((outcome, refusal)) => {
            gate.counters().tls.connection(outcome);
            Opening::Refused(refusal)
        }
        None => Opening::Judged(Judged { named, decision, reader, goes_on }),
    }
}

/// Serves a connection until it ends; `judged` where its hello was found already.
pub(super) async fn serve(gate: &Arc<Gate>, arrival: Arrival, judged: Option<Judged>) {
    if let Some(Judged { named, decision, reader, goes_on }) = judged {
        return Connection { gate, arrival, reader, goes_on }.carry_out(&named, decision).await;
    }
    let reader = Reader::new(gate.settings().hello_octets_max);
    let mut connection = Connection { gate, arrival, reader, goes_on: true };
    let named = match connection.read_hello().await {
        Ok(named) => named,
        Err(stop) => {
            gate.counters().tls.connection(stop.outcome());
            return connection.refuse_unread(stop).await;
        }
    };
    // Looked up in a statement of its own, so that no connection holds the certificates of its day.
    let server = gate.certificates().server_for(&named.host);
    let Some(server) = server.filter(|_| !connection.is_for_the_origin(&named)) else {
        let decision = decide(gate, &connection.arrival.party.ends, &named);
        return connection.carry_out(&named, decision).await;
    };
    // Judged by the requests inside, so that who asks for a blocked name is shown why.
    gate.counters().tls.connection(Outcome::Terminated);
    // A large state of its own, of which connections that are passed on should not have to carry any.
    Box::pin(terminate::serve(gate, server, connection.arrival)).await;
}

/// What a hello asks for.
struct Named {
    host: HostName,
    /// The name as written, where it is none that a registry can hold.
    shown: Option<Box<str>>,
    /// The hello is a certificate authority's, which checks control of the name: it offers that protocol and no other
    /// (RFC 8737 section 3).
    is_acme: bool,
}

impl Named {
    /// The name in the open; without one the address reached stands for it.
    fn of(hello: &Hello<'_>, ends: &Ends) -> Self {
        let is_acme = hello.protocols().eq([ACME_PROTOCOL]);
        match &hello.server_name {
            None => Self { host: HostName::Address(ends.reached.ip().to_canonical()), shown: None, is_acme },
            Some(name) => Self {
                shown: (name.host == HostName::Invalid).then(|| name.text.into()),
                host: name.host.clone(),
                is_acme,
            },
        }
    }
}

/// Judges a connection by the name in its hello.
fn decide(gate: &Gate, ends: &Ends, named: &Named) -> Decision {
    let (client, reached) = (ends.client.ip(), ends.reached.ip().to_canonical());
    let shown = named.shown.as_deref().unwrap_or_default();
    gate.decide_via(Via::Tls, &Asked { host: &named.host, shown, client, reached, plain_path: None })
}

/// Why no hello was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Cut,
    Foreign(Foreign),
    Malformed(HelloError),
    Slow,
    TooLong,
}

impl Stop {
    fn outcome(self) -> Outcome {
        match self {
            Self::Cut => Outcome::Cut,
            Self::Foreign(_) | Self::Malformed(_) | Self::TooLong => Outcome::Refused,
            Self::Slow => Outcome::Slow,
        }
    }
}

/// The state of one connection.
struct Connection<'a> {
    gate: &'a Gate,
    arrival: Arrival,
    reader: Reader,
    /// False where the client has sent its hello and nothing behind it, and will send nothing before it is answered.
    goes_on: bool,
}

impl Connection<'_> {
    fn counters(&self) -> &Counters {
        &self.gate.counters().tls
    }

    /// True for a check of control that only the origin can answer, which keeps the key for it, and that may reach it though
    /// a certificate here is for the name.
    fn is_for_the_origin(&self, named: &Named) -> bool {
        let settings = self.gate.settings();
        named.is_acme && settings.acme_carve_out && settings.fixed_tls.is_some()
    }

    //--- Reading -----------------------------------------------------------------------------------------------------

    /// Reads the first hello.
    async fn read_hello(&mut self) -> Result<Named, Stop> {
        let begun = Instant::now();
        // One has brought the first octets.
        let mut reads = 1;
        loop {
            match self.reader.read(self.arrival.input.filled()) {
                Reading::Hello(hello) => {
                    self.gate.counters().tls.found(&hello, reads);
                    let has_early_data = hello.has_early_data;
                    let named = Named::of(&hello, &self.arrival.party.ends);
                    self.goes_on = has_early_data || self.reader.end() < self.arrival.input.filled().len();
                    return Ok(named);
                }
                Reading::Malformed(error) => return Err(Stop::Malformed(error)),
                Reading::NeedMore => {}
                Reading::NotTls(foreign) => return Err(Stop::Foreign(foreign)),
                Reading::TooLong => return Err(Stop::TooLong),
            }
            self.fill(begun).await?;
            reads += 1;
        }
    }

    /// Reads the second hello, with whatever stands before it.
    async fn read_second(&mut self) -> Result<Named, Stop> {
        let begun = Instant::now();
        loop {
            match self.reader.read(self.arrival.input.filled()) {
                Reading::Hello(hello) => return Ok(Named::of(&hello, &self.arrival.party.ends)),
                Reading::Malformed(error) => return Err(Stop::Malformed(error)),
                Reading::NeedMore => {}
                Reading::NotTls(foreign) => return Err(Stop::Foreign(foreign)),
                Reading::TooLong => return Err(Stop::TooLong),
            }
            self.fill(begun).await?;
        }
    }

    /// Reads once, within the time of a hello.
    async fn fill(&mut self, begun: Instant) -> Result<(), Stop> {
        let settings = self.gate.settings();
        let Arrival { stream, input, timer, .. } = &mut self.arrival;
        if input.filled().len() >= stream_octets_max(settings) {
            return Err(Stop::TooLong);
        }
        match timer.until(|| begun + settings.hello_timeout, input.fill(stream)).await {
            Err(_) => Err(Stop::Slow),
            Ok(Err(_) | Ok(0)) => Err(Stop::Cut),
            Ok(Ok(_)) => Ok(()),
        }
    }

    //--- Refusing ----------------------------------------------------------------------------------------------------

    /// Ends a connection whose hello was not read.
    async fn refuse_unread(&mut self, stop: Stop) {
        tracing::debug!(?stop, "refused a TLS connection");
        match stop {
            Stop::Cut | Stop::Slow => {}
            Stop::Foreign(foreign) => self.counters().foreign(foreign),
            Stop::Malformed(error) => {
                self.counters().fault(error.fault);
                self.alert(error.alert()).await;
            }
            Stop::TooLong => {
                self.counters().too_long();
                self.alert(Alert::IllegalParameter).await;
            }
        }
    }

    /// Ends a connection whose name is blocked.
    async fn block(&mut self) {
        match self.gate.settings().block.tls {
            TlsBlock::Alert => self.alert(Alert::UnrecognizedName).await,
            TlsBlock::Drop => self.waste(self.gate.settings().hello_timeout, usize::MAX).await,
            // A failure means that the peer has reset it already.
            TlsBlock::Reset => drop(self.arrival.stream.set_zero_linger()),
        }
    }

    /// Sends an alert and leaves the client the time to read it.
    async fn alert(&mut self, alert: Alert) {
        let Arrival { stream, timer, .. } = &mut self.arrival;
        // Seven octets into an empty socket: a wait only where the runtime has not yet heard that it is one.
        let sent = timer.within(LINGER, stream.write_all(&alert.record())).await;
        // Only octets that nobody reads make a reset of the end.
        if !matches!(sent, Ok(Ok(()))) || !self.goes_on || stream.shutdown().await.is_err() {
            return;
        }
        self.waste(LINGER, LINGER_OCTETS_MAX).await;
    }

    /// Reads and forgets until the client ends, the time is over or it was too much.
    async fn waste(&mut self, time: Duration, octets_max: usize) {
        let Arrival { stream, timer, .. } = &mut self.arrival;
        let until = Instant::now() + time;
        let mut waste = [0; 1024];
        let mut left = octets_max;
        while let Ok(Ok(count @ 1..)) = timer.until(|| until, stream.read(&mut waste)).await {
            left = left.saturating_sub(count);
            if left == 0 {
                return;
            }
        }
    }

    //--- Passing on --------------------------------------------------------------------------------------------------

    /// Acts on the verdict.
    async fn carry_out(&mut self, named: &Named, decision: Decision) {
        match decision {
            // The carve-out is one of requests.
            // Boxed: a connection that is refused should not carry its state.
            Decision::Pass | Decision::CarveOut => Box::pin(self.pass(named)).await,
            Decision::Block(blocked) => {
                // Nothing that waits holds the data of its day.
                drop(blocked);
                self.counters().connection(Outcome::Blocked);
                self.block().await;
            }
            Decision::NotReady => {
                self.counters().connection(Outcome::NotReady);
                self.alert(Alert::InternalError).await;
            }
        }
    }

    /// Sends the hello to the origin and passes on what follows.
    async fn pass(&mut self, named: &Named) {
        let route = Route { host: &named.host, ends: &self.arrival.party.ends, carries: Carries::Tls };
        let mut origin = match origin::connect(self.gate, &route, &mut self.arrival.timer).await {
            Ok(origin) => origin,
            Err(failure) => return self.origin_failed(failure).await,
        };
        let answer = match self.exchange_hellos(&mut origin).await {
            Ok(answer) => answer,
            Err(failure) => return self.origin_failed(failure).await,
        };
        self.counters().connection(Outcome::Passed);
        if self.give_answer(&answer).await.is_none() {
            return;
        }
        if retry::answer(&answer) == Answer::Retry && !self.second_hello(named).await {
            return;
        }
        let waiting = self.arrival.input.filled().to_vec();
        // Tunnels last; what the opening needed does not.
        self.arrival.input = Buffer::empty();
        self.reader = Reader::default();
        drop(answer);
        tunnel::pass(self.gate, &named.host, &mut self.arrival, &mut origin.stream, waiting).await;
    }

    async fn origin_failed(&mut self, failure: OriginFailure) {
        self.counters().connection(Outcome::OriginFailed);
        self.counters().origin_failure(failure);
        self.alert(Alert::InternalError).await;
    }

    /// Sends the hello, and nothing behind it; what the origin says to it, as far as it tells whether a second one follows.
    async fn exchange_hellos(&mut self, origin: &mut Connected) -> Result<Vec<u8>, OriginFailure> {
        let settings = self.gate.settings();
        let Arrival { input, timer, .. } = &mut self.arrival;
        let end = self.reader.end();
        let hello = &input.filled()[..end];
        match timer.within(settings.stream_timeout, origin.stream.write_all(hello)).await {
            Err(_) => return Err(OriginFailure::Slow),
            Ok(Err(_)) => return Err(OriginFailure::Silent),
            Ok(Ok(())) => {}
        }
        input.consume(end);
        let mut answer = Vec::with_capacity(ANSWER_OCTETS);
        while retry::answer(&answer) == Answer::NeedMore {
            match timer.within(settings.response_timeout, origin.stream.read_buf(&mut answer)).await {
                Err(_) => return Err(OriginFailure::Slow),
                // Its end is passed on as such, unless it said nothing at all.
                Ok(Ok(0) | Err(_)) if answer.is_empty() => return Err(OriginFailure::Silent),
                Ok(Ok(0) | Err(_)) => break,
                Ok(Ok(_)) => {}
            }
        }
        Ok(answer)
    }

    /// Passes the origin's answer to the client; `None` when it is gone.
    async fn give_answer(&mut self, answer: &[u8]) -> Option<()> {
        let Arrival { stream, timer, .. } = &mut self.arrival;
        let sent = timer.within(self.gate.settings().stream_timeout, stream.write_all(answer)).await;
        sent.ok()?.ok()
    }

    /// After a HelloRetryRequest: true once the second hello is there and names what the first did (D-T11).
    async fn second_hello(&mut self, named: &Named) -> bool {
        let end = self.reader.end();
        self.goes_on = true;
        self.reader.expect_second();
        // The first is gone from the buffer.
        self.reader.forget(end);
        match self.read_second().await {
            // One that was let through to the origin as a check of control must still be one.
            Ok(second) if second.host == named.host && (second.is_acme || !named.is_acme) => {
                self.counters().retry(Retry::SameName);
                true
            }
            Ok(_) => {
                self.counters().retry(Retry::OtherName);
                self.alert(Alert::IllegalParameter).await;
                false
            }
            Err(stop) => {
                self.counters().retry(Retry::Unread);
                self.refuse_unread(stop).await;
                false
            }
        }
    }
}

/// True for first octets that are to be read as TLS: a handshake record, or an octet that begins no text (SSL 2).
pub(super) fn begins(octets: &[u8]) -> bool {
    const HANDSHAKE: u8 = 22;
    octets.first().is_some_and(|first| *first == HANDSHAKE || *first >= 0x80)
}
