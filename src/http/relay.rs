//! One request to the origin and its answer back: heads written anew, bodies decoded and framed anew, nothing buffered
//! beyond what one read brought.
//!
//! A request whose body is still coming is sent and answered at the same time; an answer that is over before the body is
//! ends the connection, since nobody can tell the rest of the body from a next request (D-H14).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use super::body::{BodyError, BodyReader, Framing, LAST_CHUNK, push_piece};
use super::buffer::Buffer;
use super::counters::OriginFailure;
use super::gate::Gate;
use super::head::response::Persistence;
use super::head::{Field, Progress, ResponseHead, ResponseParser, Version, list};
use super::origin::{OriginConnection, Route};
use super::stream::{ClientStream, send_all};
use super::timer::Timer;

/// Interim answers (1xx) to one request; 100 and 103 come once or twice.
pub(super) const INTERIM_MAX: usize = 16;

/// Octets of a body for which a client may be waited for as long as for silence (`http.stream-timeout-seconds`): some 100 a
/// second by default. A body in drops holds a connection to the origin otherwise, for as long as it likes.
const UPLOAD_OCTETS_MIN: usize = 30_000;

/// What the answer to a request depends on, once the request's head is gone.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The request is HEAD.
    pub is_head: bool,
    /// Sending it twice is as good as once.
    pub is_idempotent: bool,
    /// The client's version.
    pub version: Version,
    /// The client's connection may stay.
    pub keeps: bool,
    /// The request's body.
    pub framing: Framing,
    /// The client asked for another protocol that we pass on.
    pub wants_upgrade: bool,
    /// Greatest answer body; none for ordinary requests.
    pub body_max: Option<u64>,
    /// An offer of HTTP/3 is not passed on.
    pub hides_http3: bool,
}

impl Plan {
    fn persistence(&self, keeps: bool) -> Persistence {
        persistence(keeps, self.version)
    }
}

/// How an answer says whether the connection stays.
pub fn persistence(keeps: bool, version: Version) -> Persistence {
    match (keeps, version) {
        (false, _) => Persistence::Close,
        (true, Version::Http10) => Persistence::KeepHttp10,
        (true, Version::Http11) => Persistence::KeepHttp11,
    }
}

/// What a relayed request leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relayed {
    /// Answered; the flags say whether client and origin connection take another request.
    Answered {
        /// The client's.
        client_keeps: bool,
        /// The origin's.
        origin_keeps: bool,
    },
    /// The origin sent 101 and it was passed on: another protocol from here.
    Upgraded,
}

/// Why a request was not answered, or not wholly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayError {
    /// The client's body is none.
    Body(BodyError),
    /// The client went away, or does not read.
    Client,
    /// The origin failed.
    Origin(OriginFailure),
}

/// The client's side of a relay.
pub struct ClientSide<'a, S> {
    /// The connection.
    pub stream: &'a mut S,
    /// Octets read and not used; the request's head is gone from it.
    pub input: &'a mut Buffer,
    /// The request's head as it goes to the origin.
    pub request: &'a mut Vec<u8>,
    /// Room for answers.
    pub out: &'a mut Vec<u8>,
    /// The connection's timer.
    pub timer: &'a mut Timer,
    /// Whose origin it goes to.
    pub route: Route<'a>,
}

/// What both directions of a relay tell each other.
#[derive(Debug, Default)]
struct Progressed {
    /// The whole request is with the origin.
    uploaded: AtomicBool,
    /// Nothing more of the request is sent, whether or not the origin took all of it.
    upload_over: AtomicBool,
    /// Some of the answer is with the client, so that no other can be sent.
    answered: AtomicBool,
}

/// The result of [`relay`].
pub struct Outcome {
    /// How it ended.
    pub result: Result<Relayed, RelayError>,
    /// True when some of an answer was sent.
    pub is_answered: bool,
    /// True when the whole request was read.
    pub is_uploaded: bool,
}

/// Sends a request to the origin and its answer to the client.
///
/// A kept connection that turns out to be closed is replaced once, for requests that may be sent again
/// (RFC 9110 section 9.2.2).
pub async fn relay(
    gate: &Gate,
    client: &mut ClientSide<'_, impl ClientStream>,
    origin: &mut Option<OriginConnection>,
    plan: &Plan,
) -> Outcome {
    let progressed = Progressed::default();
    let result = relay_counted(gate, client, origin, plan, &progressed).await;
    let is_uploaded = progressed.uploaded.load(Ordering::Relaxed);
    let is_clean = matches!(result, Ok(Relayed::Answered { origin_keeps: true, .. } | Relayed::Upgraded));
    if !is_clean || !is_uploaded {
        *origin = None;
    }
    Outcome { result, is_answered: progressed.answered.load(Ordering::Relaxed), is_uploaded }
}

async fn relay_counted(
    gate: &Gate,
    client: &mut ClientSide<'_, impl ClientStream>,
    origin: &mut Option<OriginConnection>,
    plan: &Plan,
    progressed: &Progressed,
) -> Result<Relayed, RelayError> {
    let mut body = BodyReader::new(plan.framing);
    let is_chunked = plan.framing == Framing::Chunked;
    push_ready(&mut body, is_chunked, client.input, client.request).map_err(RelayError::Body)?;
    if origin.as_ref().is_some_and(|kept| !kept.is_idle() || !kept.serves(client.route.host)) {
        *origin = None;
    }
    let mut may_retry = origin.is_some() && plan.is_idempotent && body.is_done();
    loop {
        let connection = match origin {
            Some(kept) => kept,
            None => {
                let opened = OriginConnection::open(gate, &client.route, client.timer).await;
                origin.insert(opened.map_err(RelayError::Origin)?)
            }
        };
        let result = if body.is_done() {
            progressed.uploaded.store(true, Ordering::Relaxed);
            progressed.upload_over.store(true, Ordering::Relaxed);
            whole_request(gate, client, connection, plan, progressed).await
        } else {
            streamed_request(gate, client, connection, plan, &mut body, progressed).await
        };
        match result {
            Err(RelayError::Origin(OriginFailure::Silent)) if may_retry => {
                gate.counters().origin_retries.increment();
                may_retry = false;
                *origin = None;
            }
            result => return result,
        }
    }
}

/// A request that is all there: sent in one go, then its answer is awaited.
async fn whole_request(
    gate: &Gate,
    client: &mut ClientSide<'_, impl ClientStream>,
    origin: &mut OriginConnection,
    plan: &Plan,
    progressed: &Progressed,
) -> Result<Relayed, RelayError> {
    let limit = gate.settings().stream_timeout;
    let sent = client.timer.within(limit, origin.stream.write_all(client.request)).await;
    // A write that fails may still be answered: an origin that refuses the body says so and closes.
    if sent.is_err() {
        return Err(RelayError::Origin(OriginFailure::Slow));
    }
    let OriginConnection { stream, input, parser, .. } = origin;
    let mut answer = Answer { gate, plan, progressed, input, parser, out: client.out, timer: client.timer };
    answer.pass(stream, client.stream).await
}

/// A request whose body is still coming: sent and answered at the same time.
async fn streamed_request(
    gate: &Gate,
    client: &mut ClientSide<'_, impl ClientStream>,
    origin: &mut OriginConnection,
    plan: &Plan,
    body: &mut BodyReader,
    progressed: &Progressed,
) -> Result<Relayed, RelayError> {
    let OriginConnection { stream, input, parser, .. } = origin;
    let (mut origin_reader, mut origin_writer) = stream.split();
    let (mut client_reader, mut client_writer) = client.stream.halves();
    let mut upload = Upload {
        gate,
        body,
        is_chunked: plan.framing == Framing::Chunked,
        input: client.input,
        out: client.request,
        timer: Timer::new(gate.settings().stream_timeout),
    };
    let mut answer = Answer { gate, plan, progressed, input, parser, out: client.out, timer: client.timer };
    let uploading = async {
        let res = upload.pass(&mut client_reader, &mut origin_writer).await;
        progressed.uploaded.store(res.is_ok(), Ordering::Relaxed);
        progressed.upload_over.store(true, Ordering::Relaxed);
        res
    };
    let answering = answer.pass(&mut origin_reader, &mut client_writer);
    tokio::pin!(uploading, answering);
    let mut is_uploading = true;
    loop {
        tokio::select! {
            result = &mut uploading, if is_uploading => match result {
                // The origin closed its side early: its answer, if any, is on its way.
                Ok(()) | Err(RelayError::Origin(OriginFailure::Silent)) => is_uploading = false,
                Err(error) => return Err(error),
            },
            result = &mut answering => return result,
        }
    }
}

/// Appends what has arrived of a body to what will be sent.
fn push_ready(body: &mut BodyReader, is_chunked: bool, input: &mut Buffer, out: &mut Vec<u8>) -> Result<(), BodyError> {
    while !input.is_empty() && !body.is_done() {
        let taken = body.take(input.filled())?;
        push_piece(is_chunked, &input.filled()[taken.data], out);
        input.consume(taken.consumed);
    }
    if is_chunked && body.is_done() {
        out.extend_from_slice(LAST_CHUNK);
    }
    Ok(())
}

//--- Upload ----------------------------------------------------------------------------------------------------------

/// The request's way to the origin.
struct Upload<'a> {
    gate: &'a Gate,
    body: &'a mut BodyReader,
    is_chunked: bool,
    input: &'a mut Buffer,
    out: &'a mut Vec<u8>,
    timer: Timer,
}

impl Upload<'_> {
    async fn pass(
        &mut self,
        client: &mut (impl AsyncRead + Unpin),
        origin: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), RelayError> {
        let limit = self.gate.settings().stream_timeout;
        let mut pace = Pace::default();
        loop {
            match self.timer.within(limit, origin.write_all(self.out)).await {
                Err(_) => return Err(RelayError::Origin(OriginFailure::Slow)),
                Ok(Err(_)) => return Err(RelayError::Origin(OriginFailure::Silent)),
                Ok(Ok(())) => self.out.clear(),
            }
            if self.body.is_done() {
                return Ok(());
            }
            if let BodyReader::Length(left) = self.body {
                self.input.widen(*left);
            }
            let (begun, left) = (Instant::now(), limit.saturating_sub(pace.waited));
            match self.timer.until(|| begun + left, self.input.fill(client)).await {
                Err(_) | Ok(Err(_)) => return Err(RelayError::Client),
                Ok(Ok(0)) => return Err(RelayError::Body(BodyError::Truncated)),
                Ok(Ok(count)) => pace.came(count, begun.elapsed()),
            }
            push_ready(self.body, self.is_chunked, self.input, self.out).map_err(RelayError::Body)?;
        }
    }
}

/// How fast a body comes: octets and the time waited for them, since the last [`UPLOAD_OCTETS_MIN`] were together.
#[derive(Debug, Default)]
pub(super) struct Pace {
    octets: usize,
    /// The time waited for them.
    pub waited: Duration,
}

impl Pace {
    /// So much came after a wait.
    pub fn came(&mut self, octets: usize, waited: Duration) {
        self.octets += octets;
        self.waited += waited;
        if self.octets >= UPLOAD_OCTETS_MIN {
            *self = Self::default();
        }
    }
}

//--- Answer ----------------------------------------------------------------------------------------------------------

/// The answer's way to the client.
struct Answer<'a> {
    gate: &'a Gate,
    plan: &'a Plan,
    progressed: &'a Progressed,
    input: &'a mut Buffer,
    parser: &'a mut ResponseParser,
    out: &'a mut Vec<u8>,
    timer: &'a mut Timer,
}

impl Answer<'_> {
    async fn pass(
        &mut self,
        origin: &mut (impl AsyncRead + Unpin),
        client: &mut (impl AsyncWrite + Unpin),
    ) -> Result<Relayed, RelayError> {
        let asked_at = Instant::now();
        for _ in 0..INTERIM_MAX {
            self.read_head(origin).await?;
            let head = self.parser.head();
            if !head.is_interim() {
                self.gate.counters().origin_times.observe(asked_at.elapsed());
                return self.pass_final(origin, client).await;
            }
            // RFC 9110 section 15.2: an interim answer is nothing to a client of HTTP/1.0.
            self.out.clear();
            if self.plan.version == Version::Http11 {
                head.write(self.input.filled(), Framing::None, Persistence::KeepHttp11, false, self.out);
            }
            let octets = head.octets;
            self.input.consume(octets);
            self.flush(client).await?;
        }
        Err(RelayError::Origin(OriginFailure::Head))
    }

    async fn read_head(&mut self, origin: &mut (impl AsyncRead + Unpin)) -> Result<(), RelayError> {
        let limit = self.gate.settings().response_timeout;
        let failed = |failure| Err(RelayError::Origin(failure));
        self.parser.reset();
        loop {
            if !self.input.is_empty() {
                match self.parser.advance(self.input.filled()) {
                    Ok(Progress::Whole) => return Ok(()),
                    Ok(Progress::Partial) => {}
                    Err(_) => return failed(OriginFailure::Head),
                }
            }
            match self.timer.within(limit, self.input.fill(origin)).await {
                // The clock of the answer runs from the end of the request.
                Err(_) if !self.progressed.upload_over.load(Ordering::Relaxed) => {}
                Err(_) => return failed(OriginFailure::Slow),
                Ok(Ok(0) | Err(_)) if self.input.is_empty() => return failed(OriginFailure::Silent),
                Ok(Ok(0) | Err(_)) => return failed(OriginFailure::Head),
                Ok(Ok(_)) => {}
            }
        }
    }

    /// Passes a final head and its body on.
    async fn pass_final(
        &mut self,
        origin: &mut (impl AsyncRead + Unpin),
        client: &mut (impl AsyncWrite + Unpin),
    ) -> Result<Relayed, RelayError> {
        let (head, plan) = (self.parser.head(), self.plan);
        self.out.clear();
        if head.status == 101 {
            if !plan.wants_upgrade
                || !self.progressed.uploaded.load(Ordering::Relaxed)
                || !names_clean_protocol(head, self.input.filled())
            {
                return Err(RelayError::Origin(OriginFailure::Head));
            }
            head.write(self.input.filled(), Framing::None, Persistence::Upgrade, false, self.out);
            let octets = head.octets;
            self.input.consume(octets);
            self.flush(client).await?;
            return Ok(Relayed::Upgraded);
        }
        let framing = head.body(plan.is_head);
        let is_open_ended = matches!(framing, Framing::Chunked | Framing::UntilClose);
        let is_chunked = is_open_ended && plan.version == Version::Http11;
        let keeps = plan.keeps && self.progressed.uploaded.load(Ordering::Relaxed) && (is_chunked || !is_open_ended);
        let sent_framing = match framing {
            // What a body would have been: RFC 9110 section 8.6 allows its length in answers to HEAD and in 304.
            Framing::None if head.status != 204 => announced_length(head),
            Framing::None => Framing::None,
            Framing::Length(length) => Framing::Length(length),
            Framing::Chunked | Framing::UntilClose if is_chunked => Framing::Chunked,
            Framing::Chunked | Framing::UntilClose => Framing::None,
        };
        let origin_keeps = head.keeps_alive() && framing != Framing::UntilClose;
        head.write(self.input.filled(), sent_framing, plan.persistence(keeps), plan.hides_http3, self.out);
        let octets = head.octets;
        self.input.consume(octets);
        self.pass_body(framing, is_chunked, origin, client).await?;
        Ok(Relayed::Answered { client_keeps: keeps, origin_keeps: origin_keeps && self.input.is_empty() })
    }

    /// Passes the body on; the head waits in `out` for its first octets.
    async fn pass_body(
        &mut self,
        framing: Framing,
        is_chunked: bool,
        origin: &mut (impl AsyncRead + Unpin),
        client: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), RelayError> {
        let failed = |failure| Err(RelayError::Origin(failure));
        let limit = self.gate.settings().stream_timeout;
        let mut room = self.plan.body_max.unwrap_or(u64::MAX);
        let mut body = BodyReader::new(framing);
        loop {
            while !self.input.is_empty() && !body.is_done() {
                let Ok(taken) = body.take(self.input.filled()) else { return failed(OriginFailure::Body) };
                let Some(left) = room.checked_sub(taken.data.len() as u64) else {
                    return failed(OriginFailure::TooLong);
                };
                room = left;
                push_piece(is_chunked, &self.input.filled()[taken.data], self.out);
                self.input.consume(taken.consumed);
            }
            if body.is_done() {
                break;
            }
            self.flush(client).await?;
            if let BodyReader::Length(left) = body {
                self.input.widen(left);
            }
            match self.timer.within(limit, self.input.fill(origin)).await {
                Err(_) => return failed(OriginFailure::Slow),
                Ok(Ok(0)) if framing == Framing::UntilClose => break,
                Ok(Ok(0) | Err(_)) => return failed(OriginFailure::Body),
                Ok(Ok(_)) => {}
            }
        }
        if is_chunked {
            self.out.extend_from_slice(LAST_CHUNK);
        }
        self.flush(client).await
    }

    async fn flush(&mut self, client: &mut (impl AsyncWrite + Unpin)) -> Result<(), RelayError> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.progressed.answered.store(true, Ordering::Relaxed);
        let limit = self.gate.settings().stream_timeout;
        match self.timer.within(limit, send_all(client, self.out)).await {
            Ok(Ok(())) => self.out.clear(),
            Ok(Err(_)) | Err(_) => return Err(RelayError::Client),
        }
        Ok(())
    }
}

/// The length of the body that there would have been.
pub(super) fn announced_length(head: &ResponseHead) -> Framing {
    match head.framing {
        Framing::Length(length) => Framing::Length(length),
        Framing::Chunked | Framing::None | Framing::UntilClose => Framing::None,
    }
}

/// True when the origin switches to a protocol that we would have passed on.
fn names_clean_protocol(head: &ResponseHead, octets: &[u8]) -> bool {
    let mut protocols = head.values(octets, Field::Upgrade).flat_map(list).peekable();
    protocols.peek().is_some() && protocols.all(super::head::request::may_upgrade_to)
}
