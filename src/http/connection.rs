//! One client connection: its requests one after the other, each read, judged, answered.

use std::cell::Cell;
use std::future::pending;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::body::{BodyError, Framing};
use super::buffer::Buffer;
use super::changes::Turning;
use super::counters::{OriginFailure, RequestOutcome};
use super::draining::Draining;
use super::entry::Arrival;
use super::gate::{Asked, Blocked, Decision, Gate, PageRequest};
use super::head::{Field, HeadError, Method, Progress, RequestParser};
use super::host::{HostError, HostName, address_text};
use super::http2;
use super::negotiate::{Format, Language};
use super::origin::{Carries, OriginConnection, Route, head_limits};
use super::party::Party;
use super::relay::{ClientSide, Outcome, Plan, RelayError, Relayed, persistence, relay};
use super::reply::Answer;
use super::stream::{ClientStream, send_all, write_now};
use super::timer::Timer;
use super::tunnel;
use crate::drain::{DrainWatch, Phase};

/// Greatest answer to an ACME challenge; a key authorisation has under 200 octets (RFC 8555 section 8.1).
pub(super) const ACME_ANSWER_OCTETS_MAX: u64 = 16 << 10;
/// How long a closing connection is read on, so that the last answer is not lost in a reset (RFC 9112 section 9.6).
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// How much of it.
pub(super) const LINGER_OCTETS_MAX: usize = 1 << 20;

thread_local! {
    /// Where a page stands while it is sent.
    static DESK: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Serves the requests that come over a connection, plain or out of TLS, until it ends.
pub(super) async fn serve<S: ClientStream>(gate: &Arc<Gate>, arrival: Arrival<S>) {
    Connection::new(gate, arrival).serve_all(gate).await;
}

/// What follows a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// The end, at once.
    Close,
    /// HTTP/2, whose preface is the first thing that was read.
    Http2,
    /// The end, once the client has had time to read the answer.
    Linger,
    /// The next request.
    Next,
}

/// How reading a head ended.
enum HeadRead {
    /// The connection ended, idle or cut.
    End,
    /// It is no head.
    Refused(HeadError),
    /// It took too long.
    Slow,
    /// It is whole.
    Whole,
}

/// The state of one connection.
struct Connection<'a, S> {
    gate: &'a Gate,
    stream: S,
    party: Party,
    input: Buffer,
    parser: RequestParser,
    request: Vec<u8>,
    out: Vec<u8>,
    timer: Timer,
    host: HostMemo,
    origin: Option<OriginConnection>,
    drain: DrainWatch,
    draining: Draining,
    turning: Turning,
    served: u32,
}

impl<'a, S: ClientStream> Connection<'a, S> {
    fn new(gate: &'a Gate, arrival: Arrival<S>) -> Self {
        let Arrival { stream, party, input, timer, drain, draining } = arrival;
        Self {
            gate,
            stream,
            party,
            input,
            parser: RequestParser::new(head_limits(gate.settings())),
            request: Vec::with_capacity(1024),
            out: Vec::with_capacity(4096),
            timer,
            host: HostMemo::default(),
            origin: None,
            draining,
            drain,
            turning: Turning::new(gate.changes()),
            served: 0,
        }
    }

    /// Every request, one after the other; or those of HTTP/2, if that is how the connection begins.
    async fn serve_all(mut self, gate: &Arc<Gate>) {
        loop {
            match self.serve_one().await {
                After::Next => self.input.settle(),
                After::Close | After::Linger => return,
                After::Http2 => break,
            }
        }
        // A large state of its own, of which connections of HTTP/1 should not have to carry any.
        let Self { stream, party, input, timer, drain, draining, .. } = self;
        Box::pin(http2::serve(gate, Arrival { stream, party, input, timer, drain, draining })).await;
    }

    /// One request from its first octet to the end of its answer.
    async fn serve_one(&mut self) -> After {
        let after = match self.read_head().await {
            HeadRead::End => {
                self.leave().await;
                After::Close
            }
            HeadRead::Refused(HeadError::Http2) if self.begins_http2() => After::Http2,
            HeadRead::Refused(error) => self.refuse(error).await,
            HeadRead::Slow => {
                self.gate.counters().slow_heads.increment();
                self.gate.counters().request(RequestOutcome::Refused);
                self.reply_short(408, "the request head took too long", false, false).await
            }
            HeadRead::Whole => {
                self.served += 1;
                self.answer().await
            }
        };
        if after == After::Linger {
            self.linger().await;
        }
        after
    }

    /// True for HTTP/2 by prior knowledge (RFC 9113 section 3.3): its preface before anything else, and without TLS, where
    /// the handshake agrees on a version.
    fn begins_http2(&self) -> bool {
        self.served == 0 && self.party.secure.is_none() && self.input.filled().starts_with(b"PRI")
    }

    //--- Reading -----------------------------------------------------------------------------------------------------

    async fn read_head(&mut self) -> HeadRead {
        let settings = self.gate.settings();
        // A connection that has asked for nothing yet has the time of a head, not of idleness.
        let idle = if self.served == 0 { settings.head_timeout } else { settings.idle_timeout };
        let mut begun = None;
        self.parser.reset();
        loop {
            if !self.input.is_empty() {
                match self.parser.advance(self.input.filled()) {
                    Ok(Progress::Whole) => return HeadRead::Whole,
                    Ok(Progress::Partial) => {}
                    Err(error) => return HeadRead::Refused(error),
                }
                begun.get_or_insert_with(Instant::now);
            }
            let fill = self.input.fill(&mut self.stream);
            let read = match begun {
                Some(begun) => self.timer.until(|| begun + settings.head_timeout, fill).await,
                None => tokio::select! {
                    biased;
                    read = self.timer.within(idle, fill) => read,
                    () = self.draining.wait() => return HeadRead::End,
                },
            };
            match read {
                Err(_) if begun.is_some() => return HeadRead::Slow,
                Err(_) | Ok(Err(_) | Ok(0)) => return HeadRead::End,
                Ok(Ok(_)) => {}
            }
        }
    }

    //--- Answering ---------------------------------------------------------------------------------------------------

    async fn answer(&mut self) -> After {
        let (head, octets) = (self.parser.head(), self.input.filled());
        let is_plain = matches!(head.method, Method::Get | Method::Head) && !head.framing.has_body();
        let client = self.party.original_client(self.gate, head.values(octets, Field::XForwardedFor));
        let asked_host = match head.host {
            Some(host) => self.host.read(head.host_text.of(host.of(octets))),
            None => {
                self.gate.counters().without_host.increment();
                self.host.reached(self.party.reached())
            }
        };
        let Ok(host) = asked_host else { return self.refuse(HeadError::BadHost).await };
        if matches!(host, HostName::Address(_)) {
            self.gate.counters().address_hosts.increment();
        }
        let via = self.gate.via().as_bytes();
        let is_ours = |value: &[u8]| value.windows(via.len()).any(|part| part == via);
        if head.values(octets, Field::Via).any(is_ours) {
            return self.refuse(HeadError::Loop).await;
        }
        let reached = self.party.reached();
        let plain_path = is_plain.then(|| head.path(octets));
        self.turning.begin();
        let shown = head.host.map_or("", |host| head.host_text.of(host.of(octets)));
        match self.gate.decide(&Asked { host, shown, client, reached, plain_path }) {
            Decision::Pass if !self.party.may_ask_for(self.gate, host) => self.refuse(HeadError::Misdirected).await,
            Decision::Pass => self.pass(None).await,
            Decision::CarveOut => self.pass(Some(ACME_ANSWER_OCTETS_MAX)).await,
            Decision::Block(blocked) => self.block(&blocked, client).await,
            Decision::NotReady => self.not_ready().await,
        }
    }

    /// True when the connection may serve another request after this one.
    fn keeps(&self) -> bool {
        let has_turns = self.served < self.gate.settings().requests_per_connection_max;
        has_turns && self.parser.head().keeps_alive() && self.drain.phase() == Phase::Running
    }

    /// Leaves a request that is answered without the origin: true when the next one can be told from its body.
    fn skip_request(&mut self) -> bool {
        let head = self.parser.head();
        let body = match head.framing {
            Framing::None => 0,
            Framing::Length(length) => usize::try_from(length).unwrap_or(usize::MAX),
            Framing::Chunked | Framing::UntilClose => usize::MAX,
        };
        let whole = head.octets.saturating_add(body);
        let is_there = whole <= self.input.filled().len();
        self.input.consume(if is_there { whole } else { head.octets });
        is_there
    }

    async fn block(&mut self, blocked: &Blocked, client: IpAddr) -> After {
        self.gate.counters().request(RequestOutcome::Blocked);
        let keeps = self.keeps();
        let (head, octets) = (self.parser.head(), self.input.filled());
        let version = head.version;
        let is_grpc = head.values(octets, Field::ContentType).any(|value| value.starts_with(b"application/grpc"));
        let shown = head.host.map_or_else(String::new, |host| head.host_text.of(host.of(octets)).to_owned());
        let language = Language::choose(head.values(octets, Field::AcceptLanguage));
        let format = if is_grpc { Format::Text } else { Format::choose(head.values(octets, Field::Accept)) };
        let head_only = head.method == Method::Head;
        let keeps = self.skip_request() && keeps;
        let Some(host) = self.host.last() else { return After::Close };
        let request = PageRequest { host, shown: &shown, client, language, format };
        let answer = self.gate.block_answer(blocked, &request);
        match self.write_at_once(|out| answer.write(persistence(keeps, version), head_only, out)).await {
            Ok(()) => self.send(keeps).await,
            Err(_) => After::Close,
        }
    }

    async fn not_ready(&mut self) -> After {
        self.gate.counters().request(RequestOutcome::NotReady);
        let keeps = self.keeps();
        let (version, head_only) = (self.parser.head().version, self.parser.head().method == Method::Head);
        let keeps = self.skip_request() && keeps;
        self.out.clear();
        self.gate.not_ready_answer().write(persistence(keeps, version), head_only, &mut self.out);
        self.send(keeps).await
    }

    /// Answers what is no request, and ends the connection: nobody knows where the next one would begin.
    async fn refuse(&mut self, error: HeadError) -> After {
        self.gate.counters().head_error(error);
        tracing::debug!(%error, "refused a request");
        if error.is_silent() {
            return After::Close;
        }
        self.reply_short(error.status(), &error.to_string(), false, false).await
    }

    async fn reply_short(&mut self, status: u16, why: &str, keeps: bool, head_only: bool) -> After {
        self.out.clear();
        let persistence = persistence(keeps, self.parser.head().version);
        Answer::short(status, self.gate.now(), why).write(persistence, head_only, &mut self.out);
        self.send(keeps).await
    }

    /// Gives the client what `write` writes, as far as it is taken at once; the rest stands in `out` then.
    ///
    /// A page has some kilobytes. In one place a thread they are near the processor when the system copies them; in the
    /// buffers of many connections in turn they would not be, and each would keep its memory.
    async fn write_at_once(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        // Nothing waits until it is put back, so it is the same thread's.
        let mut desk = DESK.take();
        desk.clear();
        write(&mut desk);
        let taken = write_now(&mut self.stream, &desk).await;
        self.out.clear();
        self.out.extend_from_slice(desk.get(*taken.as_ref().unwrap_or(&0)..).unwrap_or_default());
        DESK.set(desk);
        taken.map(drop)
    }

    /// Sends what stands in `out`.
    async fn send(&mut self, keeps: bool) -> After {
        let limit = self.gate.settings().stream_timeout;
        match self.timer.within(limit, send_all(&mut self.stream, &self.out)).await {
            Ok(Ok(())) if keeps => After::Next,
            Ok(Ok(())) => After::Linger,
            Ok(Err(_)) | Err(_) => After::Close,
        }
    }

    /// Ends a connection that is between two requests: over TLS nobody could tell it from a cut otherwise (RFC 8446
    /// section 6.1).
    async fn leave(&mut self) {
        if self.party.secure.is_some() {
            // A client that takes nothing need not be told.
            let _ = self.timer.within(LINGER, self.stream.shutdown()).await;
        }
    }

    /// Says that nothing more comes, and reads what is still on its way.
    async fn linger(&mut self) {
        if self.stream.shutdown().await.is_err() {
            return;
        }
        let until = Instant::now() + LINGER;
        let mut waste = [0; 4096];
        let mut left = LINGER_OCTETS_MAX;
        while let Ok(Ok(count @ 1..)) = self.timer.until(|| until, self.stream.read(&mut waste)).await {
            left = left.saturating_sub(count);
            if left == 0 {
                return;
            }
        }
    }

    //--- Passing on --------------------------------------------------------------------------------------------------

    /// Passes the request to the origin and its answer back.
    async fn pass(&mut self, body_max: Option<u64>) -> After {
        let keeps = self.keeps();
        let (head, octets) = (self.parser.head(), self.input.filled());
        let plan = Plan {
            is_head: head.method == Method::Head,
            is_idempotent: head.method.is_idempotent(),
            version: head.version,
            keeps,
            framing: head.framing,
            wants_upgrade: body_max.is_none() && head.upgrades(octets).next().is_some(),
            body_max,
            hides_http3: self.party.hides_http3(self.gate),
        };
        self.request.clear();
        let hop = self.party.hop(self.gate);
        match head.host {
            Some(host) => head.write(octets, host.of(octets), &hop, &mut self.request),
            // What was judged is what the origin is asked for.
            None => {
                let reached = address_text(self.party.reached(), self.party.ends.reached.port());
                head.write(octets, reached.as_bytes(), &hop, &mut self.request);
            }
        }
        let head_octets = head.octets;
        self.input.consume(head_octets);
        let Some(host) = self.host.last() else { return After::Close };
        let mut client = ClientSide {
            stream: &mut self.stream,
            input: &mut self.input,
            request: &mut self.request,
            out: &mut self.out,
            timer: &mut self.timer,
            route: Route { host, ends: &self.party.ends, carries: Carries::Http },
        };
        let (gate, turning, reached) = (self.gate, &mut self.turning, self.party.reached());
        let turned = async {
            match body_max {
                None => turning.blocked(gate, host, reached).await,
                // A blocked name's already, and short.
                Some(_) => pending().await,
            }
        };
        let outcome = tokio::select! {
            biased;
            outcome = relay(gate, &mut client, &mut self.origin, &plan) => outcome,
            () = turned => {
                gate.counters().request(RequestOutcome::Blocked);
                // The client must see that the answer was cut.
                return After::Close;
            }
        };
        self.conclude(&plan, outcome).await
    }

    async fn conclude(&mut self, plan: &Plan, outcome: Outcome) -> After {
        let counters = self.gate.counters();
        let passed = if plan.body_max.is_some() { RequestOutcome::CarvedOut } else { RequestOutcome::Proxied };
        match outcome.result {
            Ok(Relayed::Answered { client_keeps: true, .. }) => {
                counters.request(passed);
                After::Next
            }
            Ok(Relayed::Answered { .. }) => {
                counters.request(passed);
                After::Linger
            }
            Ok(Relayed::Upgraded) => {
                counters.request(passed);
                if let (Some(mut origin), Some(host)) = (self.origin.take(), self.host.last()) {
                    let reached = self.party.reached();
                    let turning = &mut self.turning;
                    let mut stream = tunnel::Stream { host, reached, drain: &self.drain, turning };
                    tunnel::pass(self.gate, &mut stream, &mut self.stream, &mut self.input, &mut origin).await;
                }
                After::Close
            }
            Err(RelayError::Body(error)) => {
                counters.body_error(error);
                let is_refused = error == BodyError::Chunk;
                counters.request(if is_refused { RequestOutcome::Refused } else { RequestOutcome::ClientFailed });
                if outcome.is_answered || !is_refused {
                    return After::Close;
                }
                self.reply_short(400, &error.to_string(), false, plan.is_head).await
            }
            Err(RelayError::Client) => {
                counters.request(RequestOutcome::ClientFailed);
                After::Close
            }
            Err(RelayError::Origin(failure)) => self.origin_failed(plan, &outcome, failure).await,
        }
    }

    async fn origin_failed(&mut self, plan: &Plan, outcome: &Outcome, failure: OriginFailure) -> After {
        self.gate.counters().origin_failure(failure);
        self.gate.counters().request(RequestOutcome::OriginFailed);
        if outcome.is_answered {
            // The client must see that the answer was cut: no last chunk, too few octets.
            return After::Close;
        }
        let keeps = plan.keeps && (outcome.is_uploaded || !plan.framing.has_body());
        self.reply_short(failure.status(), failure.what_clients_are_told(), keeps, plan.is_head).await
    }
}

//--- HostMemo --------------------------------------------------------------------------------------------------------

/// The last host read: the requests of one connection mostly ask for one host.
#[derive(Debug, Default)]
struct HostMemo {
    text: String,
    name: Option<HostName>,
}

impl HostMemo {
    /// Reads a host, or remembers it.
    fn read(&mut self, text: &str) -> Result<&HostName, HostError> {
        if self.text != text || self.name.is_none() {
            self.name = None;
            let name = HostName::read(text)?;
            self.text.clear();
            self.text.push_str(text);
            self.name = Some(name);
        }
        self.name.as_ref().ok_or(HostError)
    }

    /// The address a client reached stands for the host it did not name (D-H4).
    fn reached(&mut self, addr: IpAddr) -> Result<&HostName, HostError> {
        self.text.clear();
        Ok(self.name.insert(HostName::Address(addr.to_canonical())))
    }

    /// The host of the request in work.
    fn last(&self) -> Option<&HostName> {
        self.name.as_ref()
    }
}
