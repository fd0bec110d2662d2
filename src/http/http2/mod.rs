//! HTTP/2 towards clients: by prior knowledge on plain TCP, or agreed on inside TLS that ends here.
//!
//! ```text
//! octets ─ meter ─▶ h2 (frames, streams, windows) ─▶ request (host) ─▶ gate (judge) ─▶ answer │ relay ─▶ origin (HTTP/1.1)
//! ```
//!
//! Every stream is a request and is judged as one (D-H11); streams of one connection share nothing but who the client is
//! and a few idle connections to the origin. The `h2` library reads frames and keeps the rules of RFC 9113; what it lets
//! through and HTTP/1 would not is refused in `request`.
//!
//! Limits: [`STREAMS_MAX`], the windows and the counts below; heads and times as in HTTP/1 ([`super::Settings`]); what costs
//! without asking for a page in [`crate::meter`]; origin connections in `places`; answers that wait in `queue`. A connection that
//! floods is told so (ENHANCE_YOUR_CALM) and ended.

mod places;
mod queue;
mod relay;
mod request;
mod stream;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

pub use self::places::StreamPlaces;

use self::places::Idle;
use self::queue::Queue;
use super::counters::RequestOutcome;
use super::draining::Draining;
use super::entry::Arrival;
use super::gate::Gate;
use super::party::Party;
use super::settings::Settings;
use super::stream::{Ahead, ClientStream};
use crate::meter::{Flood, Metered, Readings, Toll};

/// Streams of a connection at a time: RFC 9113 section 6.5.2 advises against fewer.
pub const STREAMS_MAX: u32 = 100;
/// Octets of one request body, and of all of a connection, that may wait here for the origin: as much as is under way at
/// 50 Mbit/s and 40 ms.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 512 << 10;
/// Octets of one answer that wait for the client; of all answers together [`queue::QUEUE_OCTETS_MAX`].
const SEND_BUFFER_OCTETS_MAX: usize = 64 << 10;
/// Streams a client may break by mistakes of its own, each of which we have to reset (CVE-2025-8671).
const MISTAKES_MAX: usize = 100;
/// Streams reset before they were looked at (CVE-2023-44487); those after are counted by [`crate::meter`].
const UNSEEN_RESETS_MAX: usize = 20;
/// How long a connection that ends may take to say so.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long a client may take to answer that it knows of the end, once nothing is in work.
const FAREWELL: Duration = Duration::from_millis(500);
/// Longest time between two looks at the clocks of a connection.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Overhead of a field in the size of a field block (RFC 9113 section 6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// What the streams of a connection share.
struct Shared {
    gate: Arc<Gate>,
    party: Party,
    idle: Idle,
    queue: Queue,
}

/// Serves a connection that begins with the preface of HTTP/2, which stands in `input` or is still to come.
pub(super) async fn serve<S: ClientStream>(gate: &Arc<Gate>, arrival: Arrival<S>) {
    let Arrival { stream, party, input, mut draining, .. } = arrival;
    gate.counters().http2_connections.increment();
    let readings = Arc::new(Readings::default());
    let metered = Metered::new(Ahead::new(stream, input), gate.clone(), readings.clone());
    let opening = timeout(gate.settings().head_timeout, builder(gate.settings()).handshake(metered));
    let connection = tokio::select! {
        opened = opening => opened,
        () = draining.wait() => return,
    };
    // Without a preface there is nobody to say anything to.
    let Ok(Ok(connection)) = connection else { return };
    let shared = Arc::new(Shared { gate: gate.clone(), party, idle: Idle::default(), queue: Queue::new() });
    Driver::new(connection, readings, shared).run(draining).await;
}

fn builder(settings: &Settings) -> Builder {
    let mut res = Builder::new();
    // A little more than we take ourselves, so that most of what is too large is answered and counted here.
    let fields = settings.head_bytes_max + FIELD_OVERHEAD * settings.head_lines_max;
    res.max_concurrent_streams(STREAMS_MAX)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(fields).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER_OCTETS_MAX)
        .max_local_error_reset_streams(Some(MISTAKES_MAX))
        .max_pending_accept_reset_streams(UNSEEN_RESETS_MAX);
    res
}

impl Toll for Gate {
    fn flood(&self, kind: Flood) {
        self.counters().flood(kind);
    }

    fn reset_by_client(&self) {
        self.counters().http2_resets_by_client.increment();
    }

    fn reset_by_gate(&self) {
        self.counters().http2_resets_by_gate.increment();
    }
}

//--- Tally -----------------------------------------------------------------------------------------------------------

/// Counts the streams that never became requests here: the library resets what is malformed by RFC 9113 or over the limit of
/// streams, and tells nobody.
struct Tally {
    gate: Arc<Gate>,
    readings: Arc<Readings>,
    /// Streams that became requests.
    accepted: u32,
    /// The others that were counted.
    refused: u32,
}

impl Tally {
    /// Counts what was opened and is neither; everything that came must have been looked at.
    fn settle(&mut self) {
        let known = self.accepted.saturating_add(self.refused);
        for _ in known..self.readings.opened() {
            self.refused += 1;
            self.gate.counters().request(RequestOutcome::Refused);
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.settle();
    }
}

//--- Driver ----------------------------------------------------------------------------------------------------------

/// What a connection waited for.
#[expect(clippy::large_enum_variant, reason = "one at a time, and most are requests")]
enum Event {
    /// The gate drains.
    Drain,
    /// The connection is over.
    End,
    /// The client floods.
    Flood,
    /// The clocks are to be looked at.
    Look,
    /// A request.
    Request(Request<RecvStream>, SendResponse<Bytes>),
    /// A stream ended.
    StreamEnded,
}

/// Drives a connection: accepts its streams, looks at its clocks, ends it.
struct Driver<S: ClientStream> {
    connection: Connection<Metered<Ahead<S>>, Bytes>,
    readings: Arc<Readings>,
    shared: Arc<Shared>,
    streams: JoinSet<()>,
    tally: Tally,
    /// When the last stream ended, or the connection began.
    idle_since: Instant,
    /// When octets were last seen to wait for the client.
    waited_at: Instant,
    /// When the client was told that the connection ends.
    ending_since: Option<Instant>,
    look_at: Instant,
}

impl<S: ClientStream> Driver<S> {
    fn new(connection: Connection<Metered<Ahead<S>>, Bytes>, readings: Arc<Readings>, shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        let tally = Tally { gate: shared.gate.clone(), readings: readings.clone(), accepted: 0, refused: 0 };
        let mut res = Self {
            connection,
            readings,
            shared,
            streams: JoinSet::new(),
            tally,
            idle_since: now,
            waited_at: now,
            ending_since: None,
            look_at: now,
        };
        res.look_again();
        res
    }

    async fn run(mut self, mut draining: Draining) {
        loop {
            match self.next(&mut draining).await {
                Event::Drain => self.end_gracefully(),
                Event::End => return,
                Event::Flood => return self.end(Reason::ENHANCE_YOUR_CALM).await,
                Event::Look => {
                    if self.is_overdue() {
                        return self.end(Reason::NO_ERROR).await;
                    }
                    self.look_again();
                }
                Event::Request(request, respond) => {
                    let turns = self.shared.gate.settings().requests_per_connection_max;
                    self.tally.accepted += 1;
                    let accepted = self.tally.accepted;
                    if accepted >= turns {
                        self.end_gracefully();
                    }
                    // What was on its way when the client was told is served; a client that goes on is not.
                    if accepted > turns.saturating_add(STREAMS_MAX) {
                        return self.end(Reason::ENHANCE_YOUR_CALM).await;
                    }
                    self.streams.spawn(stream::serve(self.shared.clone(), request, respond));
                }
                Event::StreamEnded => self.idle_since = Instant::now(),
            }
        }
    }

    /// Waits for the next event; nothing is lost when a wait ends without one.
    async fn next(&mut self, draining: &mut Draining) -> Event {
        let is_running = self.ending_since.is_none();
        let look = sleep_until(self.look_at);
        let (readings, tally) = (self.readings.clone(), &mut self.tally);
        let mut accepting = pin!(self.connection.accept());
        let accepted = poll_fn(|context| {
            let polled = accepting.as_mut().poll(context);
            // Looked at after each turn of the connection, for a flood brings nothing that would be accepted.
            if readings.is_flooded() {
                return Poll::Ready(Event::Flood);
            }
            // What came waits behind what cannot be written, else it was looked at.
            if polled.is_pending() && readings.writes_stuck_since().is_none() {
                tally.settle();
            }
            polled.map(|accepted| match accepted {
                Some(Ok((request, respond))) => Event::Request(request, respond),
                Some(Err(_)) | None => Event::End,
            })
        });
        tokio::select! {
            event = accepted => event,
            Some(_) = self.streams.join_next() => Event::StreamEnded,
            () = draining.wait(), if is_running => Event::Drain,
            () = look => Event::Look,
        }
    }

    fn look_again(&mut self) {
        let settings = self.shared.gate.settings();
        let shortest = settings.head_timeout.min(settings.idle_timeout).min(settings.stream_timeout) / 2;
        let wait = if self.ending_since.is_some() { FAREWELL } else { LOOK_EVERY };
        self.look_at = Instant::now() + wait.min(shortest);
    }

    /// True for a connection that has had its time.
    fn is_overdue(&mut self) -> bool {
        let settings = self.shared.gate.settings();
        let is_over = |since: Instant, limit: Duration| since.elapsed() >= limit;
        if self.readings.writes_stuck_since().is_some_and(|since| is_over(since, settings.stream_timeout)) {
            return true;
        }
        if self.readings.head_open_since().is_some_and(|since| is_over(since, settings.head_timeout)) {
            self.shared.gate.counters().slow_heads.increment();
            return true;
        }
        if !self.streams.is_empty() {
            return false;
        }
        if !self.shared.queue.is_empty() || self.readings.writes_stuck_since().is_some() {
            // What the streams left behind is for a client that reads, and that reads all of it in time.
            self.waited_at = Instant::now();
            return is_over(self.idle_since, settings.stream_timeout);
        }
        // A connection that has asked for nothing yet has the time of a head, not of idleness.
        let idle = if self.tally.accepted == 0 { settings.head_timeout } else { settings.idle_timeout };
        let since = self.idle_since.max(self.waited_at);
        is_over(since, idle) || self.ending_since.is_some_and(|ending| is_over(ending.max(since), FAREWELL))
    }

    /// Tells the client to open no more streams; those in work are finished.
    fn end_gracefully(&mut self) {
        if self.ending_since.is_none() {
            self.ending_since = Some(Instant::now());
            self.connection.graceful_shutdown();
            self.look_again();
        }
    }

    /// Says why the connection ends, and ends it.
    async fn end(mut self, reason: Reason) {
        self.streams.abort_all();
        self.connection.abrupt_shutdown(reason);
        let last_words = async { while let Some(Ok(_)) = self.connection.accept().await {} };
        // What the client does not take by then it is not going to.
        let _ = timeout_at(Instant::now() + LAST_WORDS, last_words).await;
    }
}
