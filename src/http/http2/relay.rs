//! A stream passed on: its request to the origin over HTTP/1.1 and the answer back, both at the same time.
//!
//! What waits here is bounded: a request body by the windows, which open again only as the origin takes octets; an answer
//! by one read from the origin, which waits for the client's windows and for room in the connection's queue.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use super::Shared;
use super::places::StreamPlace;
use super::queue::{QUEUE_OCTETS_MAX, Queue};
use crate::http::body::{BodyError, BodyReader, Framing, LAST_CHUNK, push_piece};
use crate::http::buffer::Buffer;
use crate::http::counters::OriginFailure;
use crate::http::gate::Gate;
use crate::http::head::{Field, Progress, ResponseHead, ResponseParser};
use crate::http::origin::{OriginConnection, Route};
use crate::http::relay::{INTERIM_MAX, Pace, RelayError, announced_length};
use crate::http::timer::Timer;

/// What the answer to a request depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamPlan {
    /// The request is HEAD.
    pub is_head: bool,
    /// Sending it twice is as good as once.
    pub is_idempotent: bool,
    /// The request's body.
    pub framing: Framing,
    /// Greatest answer body; none for ordinary requests.
    pub body_max: Option<u64>,
    /// An offer of HTTP/3 is not passed on.
    pub hides_http3: bool,
}

/// Sends a request to the origin and its answer to the client.
///
/// A kept connection that turns out to be closed is replaced once, for requests that may be sent again.
pub(super) async fn pass(
    shared: &Shared,
    route: &Route<'_>,
    plan: &StreamPlan,
    head: &[u8],
    body: &mut RecvStream,
    client: &mut ClientEnd,
) -> Result<(), RelayError> {
    let mut kept = shared.idle.take(route.host);
    loop {
        let may_retry = kept.is_some() && plan.is_idempotent && !plan.framing.has_body();
        let mut origin = match kept.take() {
            Some(kept) => kept,
            None => {
                let mut timer = Timer::new(shared.gate.settings().connect_timeout);
                let opening = OriginConnection::open(&shared.gate, route, &mut timer);
                let opened = client.unless_reset(opening).await?;
                opened.map_err(RelayError::Origin)?
            }
        };
        match exchange(&shared.gate, plan, head, body, client, &mut origin).await {
            Ok(keeps) => {
                if keeps {
                    shared.idle.put(origin);
                }
                return Ok(());
            }
            Err(RelayError::Origin(OriginFailure::Silent)) if may_retry => {
                shared.gate.counters().origin_retries.increment();
            }
            Err(error) => return Err(error),
        }
    }
}

/// One try over one connection; true when the connection may be used again.
async fn exchange(
    gate: &Gate,
    plan: &StreamPlan,
    head: &[u8],
    body: &mut RecvStream,
    client: &mut ClientEnd,
    origin: &mut OriginConnection,
) -> Result<bool, RelayError> {
    let OriginConnection { stream, input, parser, .. } = origin;
    let (mut reader, mut writer) = stream.split();
    let (uploaded, upload_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let limit = gate.settings().stream_timeout;
    let mut upload = Upload { framing: plan.framing, body, timer: Timer::new(limit), limit };
    let timer = Timer::new(gate.settings().response_timeout);
    let mut answer = Answer { gate, plan, upload_over: &upload_over, input, parser, timer, client };
    let uploading = async {
        let res = upload.pass(head, &mut writer).await;
        uploaded.store(res.is_ok(), Ordering::Relaxed);
        upload_over.store(true, Ordering::Relaxed);
        res
    };
    let answering = answer.pass(&mut reader);
    tokio::pin!(uploading, answering);
    let mut is_uploading = true;
    loop {
        tokio::select! {
            biased;
            result = &mut uploading, if is_uploading => match result {
                // The origin closed its side early: its answer, if any, is on its way.
                Ok(()) | Err(RelayError::Origin(OriginFailure::Silent)) => is_uploading = false,
                Err(error) => return Err(error),
            },
            result = &mut answering => return Ok(result? && uploaded.load(Ordering::Relaxed)),
        }
    }
}

//--- Upload ----------------------------------------------------------------------------------------------------------

/// The request's way to the origin.
struct Upload<'a> {
    framing: Framing,
    body: &'a mut RecvStream,
    timer: Timer,
    limit: Duration,
}

impl Upload<'_> {
    async fn pass(&mut self, head: &[u8], origin: &mut (impl AsyncWrite + Unpin)) -> Result<(), RelayError> {
        self.write(head, origin).await?;
        if !self.framing.has_body() {
            return Ok(());
        }
        let mut left = if let Framing::Length(length) = self.framing { length } else { u64::MAX };
        let is_chunked = self.framing == Framing::Chunked;
        let (mut pace, mut piece) = (Pace::default(), Vec::new());
        while let Some(data) = self.next(&mut pace).await? {
            // One octet more would be the beginning of another request to the origin.
            left = left.checked_sub(data.len() as u64).ok_or(RelayError::Body(BodyError::Chunk))?;
            if is_chunked {
                piece.clear();
                push_piece(true, &data, &mut piece);
                self.write(&piece, origin).await?;
            } else {
                self.write(&data, origin).await?;
            }
            // The window opens by what the origin took; on a stream that is gone there is none to open.
            let _ = self.body.flow_control().release_capacity(data.len());
        }
        match self.framing {
            Framing::Chunked => self.write(LAST_CHUNK, origin).await,
            _ if left > 0 => Err(RelayError::Body(BodyError::Truncated)),
            _ => Ok(()),
        }
    }

    /// The next octets of the body; `None` at its end. Trailers are dropped, as those of HTTP/1 are.
    async fn next(&mut self, pace: &mut Pace) -> Result<Option<Bytes>, RelayError> {
        let (begun, left) = (Instant::now(), self.limit.saturating_sub(pace.waited));
        match self.timer.until(|| begun + left, self.body.data()).await {
            Ok(None) => Ok(None),
            Ok(Some(Ok(data))) => {
                pace.came(data.len(), begun.elapsed());
                Ok(Some(data))
            }
            Ok(Some(Err(_))) | Err(_) => Err(RelayError::Client),
        }
    }

    async fn write(&mut self, octets: &[u8], origin: &mut (impl AsyncWrite + Unpin)) -> Result<(), RelayError> {
        match self.timer.within(self.limit, origin.write_all(octets)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(RelayError::Origin(OriginFailure::Silent)),
            Err(_) => Err(RelayError::Origin(OriginFailure::Slow)),
        }
    }
}

//--- Answer ----------------------------------------------------------------------------------------------------------

/// The answer's way to the client.
struct Answer<'a> {
    gate: &'a Gate,
    plan: &'a StreamPlan,
    /// Nothing more of the request is sent.
    upload_over: &'a AtomicBool,
    input: &'a mut Buffer,
    parser: &'a mut ResponseParser,
    timer: Timer,
    client: &'a mut ClientEnd,
}

impl Answer<'_> {
    /// True when the origin keeps the connection.
    async fn pass(&mut self, origin: &mut (impl AsyncRead + Unpin)) -> Result<bool, RelayError> {
        let asked_at = Instant::now();
        // No window holds heads back: together they have the room of one.
        let mut room = self.gate.settings().head_bytes_max;
        for _ in 0..INTERIM_MAX {
            self.read_head(origin).await?;
            let head = self.parser.head();
            if !head.is_interim() {
                self.gate.counters().origin_times.observe(asked_at.elapsed());
                return self.pass_final(origin).await;
            }
            let interim = message(head, self.input.filled(), Framing::None, self.plan.hides_http3)?;
            let octets = head.octets;
            self.input.consume(octets);
            room = room.checked_sub(octets).ok_or(RelayError::Origin(OriginFailure::Head))?;
            self.client.inform(interim)?;
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
            let fill = self.client.unless_reset(self.input.fill(origin));
            match self.timer.within(limit, fill).await {
                // The clock of the answer runs from the end of the request.
                Err(_) if !self.upload_over.load(Ordering::Relaxed) => {}
                Err(_) => return failed(OriginFailure::Slow),
                Ok(Err(gone)) => return Err(gone),
                Ok(Ok(Ok(0) | Err(_))) if self.input.is_empty() => return failed(OriginFailure::Silent),
                Ok(Ok(Ok(0) | Err(_))) => return failed(OriginFailure::Head),
                Ok(Ok(Ok(_))) => {}
            }
        }
    }

    /// Passes a final head and its body on.
    async fn pass_final(&mut self, origin: &mut (impl AsyncRead + Unpin)) -> Result<bool, RelayError> {
        let head = self.parser.head();
        if head.status == 101 {
            // Nothing that is sent asks for another protocol.
            return Err(RelayError::Origin(OriginFailure::Head));
        }
        let framing = head.body(self.plan.is_head);
        let announced = match framing {
            // RFC 9110 section 8.6 allows the length of what a body would have been in answers to HEAD and in 304.
            Framing::None if head.status != 204 => announced_length(head),
            framing => framing,
        };
        let message = message(head, self.input.filled(), announced, self.plan.hides_http3)?;
        let keeps = head.keeps_alive() && framing != Framing::UntilClose;
        let octets = head.octets;
        self.input.consume(octets);
        let is_whole = matches!(framing, Framing::None | Framing::Length(0));
        self.client.begin(message, is_whole)?;
        if !is_whole {
            self.pass_body(framing, origin).await?;
        }
        Ok(keeps && self.input.is_empty())
    }

    async fn pass_body(&mut self, framing: Framing, origin: &mut (impl AsyncRead + Unpin)) -> Result<(), RelayError> {
        let failed = |failure| Err(RelayError::Origin(failure));
        let limit = self.gate.settings().stream_timeout;
        let mut room = self.plan.body_max.unwrap_or(u64::MAX);
        let mut trailers = Vec::new();
        let mut body = BodyReader::new(framing);
        loop {
            while !self.input.is_empty() && !body.is_done() {
                let Ok(taken) = body.take(self.input.filled()) else { return failed(OriginFailure::Body) };
                let Some(left) = room.checked_sub(taken.data.len() as u64) else {
                    return failed(OriginFailure::TooLong);
                };
                room = left;
                // Bounded by the reader of chunks.
                trailers.extend_from_slice(&self.input.filled()[taken.trailers]);
                let data = Bytes::copy_from_slice(&self.input.filled()[taken.data]);
                self.input.consume(taken.consumed);
                if !data.is_empty() {
                    let is_last = framing != Framing::Chunked && body.is_done();
                    self.client.send(data, is_last).await?;
                }
            }
            if body.is_done() {
                break;
            }
            if let BodyReader::Length(left) = body {
                self.input.widen(left);
            }
            let fill = self.client.unless_reset(self.input.fill(origin));
            match self.timer.within(limit, fill).await {
                Err(_) => return failed(OriginFailure::Slow),
                Ok(Err(gone)) => return Err(gone),
                Ok(Ok(Ok(0))) if framing == Framing::UntilClose => break,
                Ok(Ok(Ok(0) | Err(_))) => return failed(OriginFailure::Body),
                Ok(Ok(Ok(_))) => {}
            }
        }
        match framing {
            Framing::Chunked | Framing::UntilClose => self.client.finish(end_to_end_trailers(&trailers)),
            Framing::Length(_) | Framing::None => Ok(()),
        }
    }
}

/// The head of an answer as a message of HTTP/2, without what framed it on its way here.
fn message(
    head: &ResponseHead,
    octets: &[u8],
    framing: Framing,
    hides_http3: bool,
) -> Result<Response<()>, RelayError> {
    let mut res = Response::new(());
    let unusable = || RelayError::Origin(OriginFailure::Head);
    *res.status_mut() = StatusCode::from_u16(head.status).map_err(|_| unusable())?;
    for (name, value) in head.end_to_end(octets, hides_http3) {
        let name = HeaderName::from_bytes(name).map_err(|_| unusable())?;
        let value = HeaderValue::from_bytes(value).map_err(|_| unusable())?;
        res.headers_mut().append(name, value);
    }
    if let Framing::Length(length) = framing {
        res.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(res)
}

/// The trailers that go on; none that frames, routes or belongs to a connection (RFC 9110 section 6.5.1).
fn end_to_end_trailers(section: &[u8]) -> HeaderMap {
    let mut res = HeaderMap::new();
    for line in section.split(|&octet| octet == b'\n').map(<[u8]>::trim_ascii) {
        let Some(colon) = line.iter().position(|&octet| octet == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if Field::of(name) != Field::Other {
            continue;
        }
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            res.append(name, value);
        }
    }
    res
}

//--- ClientEnd -------------------------------------------------------------------------------------------------------

/// The client's end of a stream.
pub(super) struct ClientEnd {
    respond: SendResponse<Bytes>,
    /// There once an answer has begun.
    stream: Option<SendStream<Bytes>>,
    queue: Queue,
    /// What the stream holds until its answer has left.
    place: Option<Arc<StreamPlace>>,
    timer: Timer,
    limit: Duration,
}

impl ClientEnd {
    /// A stream that is not answered yet; `limit` is for what is sent at once.
    pub fn new(respond: SendResponse<Bytes>, queue: Queue, limit: Duration) -> Self {
        Self { respond, stream: None, queue, place: None, timer: Timer::new(limit), limit }
    }

    /// Holds a place until what is sent from now on has left.
    pub fn hold(&mut self, place: StreamPlace) {
        self.place = Some(Arc::new(place));
    }

    /// True once some of an answer was sent, so that no other can be.
    pub fn has_begun(&self) -> bool {
        self.stream.is_some()
    }

    /// Sends an interim answer.
    pub fn inform(&mut self, interim: Response<()>) -> Result<(), RelayError> {
        self.respond.send_informational(interim).map_err(|_| RelayError::Client)
    }

    /// Sends the head of the answer.
    pub fn begin(&mut self, head: Response<()>, is_whole: bool) -> Result<(), RelayError> {
        let stream = self.respond.send_response(head, is_whole).map_err(|_| RelayError::Client)?;
        self.stream = Some(stream);
        Ok(())
    }

    /// Sends octets of the body as the client's windows and what it has not taken yet allow, all of them within the limit.
    pub async fn send(&mut self, mut data: Bytes, is_last: bool) -> Result<(), RelayError> {
        let Self { stream: Some(stream), queue, place, timer, .. } = self else { return Err(RelayError::Client) };
        let deadline = Instant::now() + self.limit;
        while !data.is_empty() {
            stream.reserve_capacity(data.len());
            if stream.capacity() == 0 {
                let room = poll_fn(|context| stream.poll_capacity(context));
                match timer.until(|| deadline, room).await {
                    Ok(Some(Ok(_))) => continue,
                    Ok(None | Some(Err(_))) | Err(_) => return Err(RelayError::Client),
                }
            }
            let piece = data.split_to(stream.capacity().min(data.len()).min(QUEUE_OCTETS_MAX));
            let entering = async {
                tokio::select! {
                    biased;
                    piece = queue.enter(piece, place.clone()) => Some(piece),
                    _ = poll_fn(|context| stream.poll_reset(context)) => None,
                }
            };
            let Ok(Some(piece)) = timer.until(|| deadline, entering).await else { return Err(RelayError::Client) };
            stream.send_data(piece, is_last && data.is_empty()).map_err(|_| RelayError::Client)?;
        }
        Ok(())
    }

    /// Ends a body whose length was not known.
    pub fn finish(&mut self, trailers: HeaderMap) -> Result<(), RelayError> {
        let Some(stream) = &mut self.stream else { return Err(RelayError::Client) };
        let sent =
            if trailers.is_empty() { stream.send_data(Bytes::new(), true) } else { stream.send_trailers(trailers) };
        sent.map_err(|_| RelayError::Client)
    }

    /// Resets the stream.
    pub fn fail(&mut self, reason: Reason) {
        match &mut self.stream {
            Some(stream) => stream.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }

    /// Waits for `future`, unless the client gives the stream up first.
    pub async fn unless_reset<F: Future>(&mut self, future: F) -> Result<F::Output, RelayError> {
        let reset = poll_fn(|context| match &mut self.stream {
            Some(stream) => stream.poll_reset(context),
            None => self.respond.poll_reset(context),
        });
        tokio::select! {
            biased;
            output = future => Ok(output),
            _ = reset => Err(RelayError::Client),
        }
    }
}
