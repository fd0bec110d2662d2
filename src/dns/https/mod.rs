//! DNS over HTTPS (RFC 8484): HTTP/2, and HTTP/1.1 for who asks for it, inside TLS.
//!
//! ```text
//! octets ─ meter ─▶ hyper (frames, streams, heads) ─▶ request (method, path, message) ─▶ gate ─▶ response
//! ```
//!
//! Limits: streams, field blocks and windows below; messages by [`super::wire::MESSAGE_OCTETS_MAX`]; a body has the idle time
//! to come; what costs without asking for anything in [`crate::meter`].

mod base64url;
mod request;
mod response;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::server::TlsStream;

use super::handler::{Client, Gate, Taken};
use super::question;
use crate::drain::{DrainWatch, Phase};
use crate::meter::{Flood, Metered, Readings, Toll};

/// Streams of a connection at a time: RFC 9113 section 6.5.2 advises against fewer.
const STREAMS_MAX: u32 = 100;
/// Octets of a field block, or of a head of HTTP/1.1: a query in base 64 has a few hundred, what browsers add a few thousand.
const HEAD_OCTETS_MAX: u32 = 16 << 10;
/// Octets of request bodies that may wait: of one stream a whole message, of a connection a few.
const STREAM_WINDOW: u32 = 65_535;
/// See [`STREAM_WINDOW`].
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;
/// Octets of one answer that wait for the client.
const SEND_BUFFER_OCTETS_MAX: usize = 64 << 10;
/// Streams a client may break by mistakes of its own, each of which we have to reset (CVE-2025-8671).
const MISTAKES_MAX: usize = 100;
/// Streams reset before they were looked at (CVE-2023-44487); those after are counted by the meter.
const UNSEEN_RESETS_MAX: usize = 20;
/// How long a connection that ends may take to say so, once nothing is in work.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A query whose answer is silence: the stream is reset, or the connection of HTTP/1.1 ends.
#[derive(Debug, Error)]
#[error("no answer is sent")]
struct Silence;

/// Serves a connection until the client ends it, nothing is asked for the idle time, or the drain.
pub async fn serve(gate: &Arc<Gate>, stream: TlsStream<TcpStream>, client: Client, drain: DrainWatch) {
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let activity = Arc::new(Activity::default());
    let service = {
        let (gate, activity) = (gate.clone(), activity.clone());
        service_fn(move |asked| answer(gate.clone(), client, activity.clone(), asked))
    };
    let idle = gate.settings().tcp_idle;
    let readings = Arc::new(Readings::default());
    let last_words = gate.settings().resolve_timeout + LAST_WORDS;
    let driver = Driver { activity, readings: readings.clone(), idle, last_words };
    if is_http2 {
        let metered = Metered::new(stream, gate.clone(), readings);
        driver.run(builder().serve_connection(TokioIo::new(metered), service), drain).await;
    } else {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(idle).max_buf_size(HEAD_OCTETS_MAX as usize);
        driver.run(builder.serve_connection(TokioIo::new(stream), service), drain).await;
    }
}

fn builder() -> http2::Builder<TokioExecutor> {
    let mut res = http2::Builder::new(TokioExecutor::new());
    res.timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEAD_OCTETS_MAX)
        .max_send_buf_size(SEND_BUFFER_OCTETS_MAX)
        .max_local_error_reset_streams(Some(MISTAKES_MAX))
        .max_pending_accept_reset_streams(UNSEEN_RESETS_MAX);
    res
}

impl Toll for Gate {
    fn flood(&self, kind: Flood) {
        self.counters().flood(kind);
    }

    fn reset_by_client(&self) {}

    fn reset_by_gate(&self) {}
}

/// One request to its response.
async fn answer(
    gate: Arc<Gate>,
    client: Client,
    activity: Arc<Activity>,
    asked: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Silence> {
    let _busy = activity.begin();
    let is_head = asked.method() == Method::HEAD;
    let settings = gate.settings();
    let packet = match request::read(asked, &settings.https_path, settings.tcp_idle).await {
        Ok(packet) => packet,
        Err(refusal) => {
            gate.counters().http_refusal(refusal.status());
            return Ok(response::refusal(refusal, is_head));
        }
    };
    let message = match gate.take(&packet, client) {
        Taken::Answered(message) => Some(message),
        Taken::Waiting(query) => gate.resolve(&query, client).await,
        // No packet of DNS that anybody would answer: that much can be said in HTTP.
        Taken::Dropped if !question::is_query(&packet) => {
            gate.counters().http_refusal(request::Refusal::Message.status());
            return Ok(response::refusal(request::Refusal::Message, is_head));
        }
        Taken::Dropped => None,
    };
    message.map(response::answer).ok_or(Silence)
}

//--- Driver ----------------------------------------------------------------------------------------------------------

/// Whether a connection has requests in work, and since when not.
#[derive(Debug)]
struct Activity(Mutex<(usize, Instant)>);

impl Default for Activity {
    fn default() -> Self {
        Self(Mutex::new((0, Instant::now())))
    }
}

impl Activity {
    fn begin(self: &Arc<Self>) -> Busy {
        self.change(|count| count.saturating_add(1));
        Busy(self.clone())
    }

    fn change(&self, change: impl FnOnce(usize) -> usize) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = (change(state.0), Instant::now());
    }

    /// Since when there is nothing in work.
    fn idle_since(&self) -> Option<Instant> {
        let (count, since) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (count == 0).then_some(since)
    }
}

/// A request in work.
struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.change(|count| count.saturating_sub(1));
    }
}

/// Drives a connection, looks at its clock, ends it.
struct Driver {
    activity: Arc<Activity>,
    readings: Arc<Readings>,
    idle: Duration,
    /// Time for what is in work at the end.
    last_words: Duration,
}

impl Driver {
    async fn run<C: GracefulConnection>(self, connection: C, mut drain: DrainWatch) {
        let mut connection = pin!(connection);
        loop {
            let now = Instant::now();
            let idle_end = self.activity.idle_since().unwrap_or(now) + self.idle;
            if idle_end <= now {
                break;
            }
            tokio::select! {
                () = self.turn(connection.as_mut()) => return,
                () = drain.reached(Phase::Draining) => break,
                () = sleep_until(idle_end) => {}
            }
        }
        connection.as_mut().graceful_shutdown();
        // What the client does not take by then it is not going to.
        let _ = timeout(self.last_words, self.turn(connection)).await;
    }

    /// Returns when the connection is over, or floods and is to be dropped.
    async fn turn<C: GracefulConnection>(&self, mut connection: Pin<&mut C>) {
        poll_fn(|context| {
            let polled = connection.as_mut().poll(context);
            // Looked at after each turn of the connection, for a flood brings nothing that would be served.
            if polled.is_ready() || self.readings.is_flooded() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
