//! One upstream server: how fast it is, whether it is up, what became of its questions.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::timeout;

use super::exchange::{ExchangeError, Link, TlsSettings};
use crate::count::{Counter, Histogram, Labels, Sample};
use crate::dns::Settings;
use crate::dns::question::Question;
use crate::dns::settings::UpstreamServer;

/// Failures in a row after which a server is tried last.
const FAILURES_MAX: u32 = 3;
/// How long it is tried last; doubled with each further failure, up to [`REST_MAX`].
const REST: Duration = Duration::from_secs(1);
/// See [`REST`].
const REST_MAX: Duration = Duration::from_secs(30);
/// Expectation of a server nobody has asked yet: lower than any real one, so that it is asked.
const UNKNOWN_MICROS: u64 = 1;

/// A server with its health.
pub struct Server {
    label: String,
    link: Link,
    timeout: Duration,
    since: Instant,
    /// Decaying mean of answer times, in microseconds.
    mean_micros: AtomicU64,
    failures: AtomicU32,
    /// Milliseconds after `since` until which it is tried last.
    rests_until_ms: AtomicU64,
    seconds: Histogram,
    answered: Counter,
    failed: Counter,
    overtaken: Counter,
    overtook: Counter,
}

impl Server {
    /// A server taken to be up; connects to nothing.
    pub fn new(server: &UpstreamServer, settings: &Settings, tls: &TlsSettings) -> Self {
        Self {
            label: server.text.clone(),
            link: Link::new(server, tls, settings.upstream_timeout, settings.edns_udp_bytes_max),
            timeout: settings.upstream_timeout,
            since: Instant::now(),
            mean_micros: AtomicU64::new(UNKNOWN_MICROS),
            failures: AtomicU32::new(0),
            rests_until_ms: AtomicU64::new(0),
            seconds: Histogram::default(),
            answered: Counter::default(),
            failed: Counter::default(),
            overtaken: Counter::default(),
            overtook: Counter::default(),
        }
    }

    /// As configured.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// False while it rests after failures.
    pub fn is_up(&self) -> bool {
        self.elapsed_ms() >= self.rests_until_ms.load(Ordering::Relaxed)
    }

    /// How long an answer is expected to take.
    pub fn expected_micros(&self) -> u64 {
        self.mean_micros.load(Ordering::Relaxed)
    }

    /// The same, where it has answered before.
    pub fn expected(&self) -> Option<Duration> {
        Some(self.expected_micros()).filter(|&micros| micros != UNKNOWN_MICROS).map(Duration::from_micros)
    }

    /// Another server that was asked later has answered; this one has taken at least that long.
    pub fn overtaken(&self, elapsed: Duration) {
        self.overtaken.increment();
        self.took(elapsed);
    }

    /// It has answered before one that was asked earlier.
    pub fn overtook(&self) {
        self.overtook.increment();
    }

    /// Asks it, within its own timeout and the deadline.
    pub async fn exchange(&self, question: &Question, deadline: Instant) -> Result<Bytes, ExchangeError> {
        let begun = Instant::now();
        let left = deadline.saturating_duration_since(begun).min(self.timeout);
        let res = timeout(left, self.link.ask(question, left)).await;
        let elapsed = begun.elapsed();
        match res {
            Ok(Ok(message)) => {
                self.succeeded(elapsed);
                Ok(message)
            }
            Ok(Err(error)) => {
                tracing::debug!(server = %self.label, %error, "upstream exchange failed");
                self.has_failed(elapsed);
                Err(error)
            }
            Err(_) => {
                self.has_failed(elapsed);
                Err(ExchangeError::Net(hickory_net::NetError::Timeout))
            }
        }
    }

    /// Shows the server's series.
    pub fn observe(&self, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {
        let server = ("server", self.label.as_str());
        show("upstream_seconds", &[server], Sample::Times(&self.seconds));
        show("upstream_queries_total", &[server, ("outcome", "answered")], Sample::Count(self.answered.value()));
        show("upstream_queries_total", &[server, ("outcome", "failed")], Sample::Count(self.failed.value()));
        show("upstream_hedges_total", &[server, ("outcome", "overtaken")], Sample::Count(self.overtaken.value()));
        show("upstream_hedges_total", &[server, ("outcome", "overtook")], Sample::Count(self.overtook.value()));
        show("upstream_up", &[server], Sample::Count(u64::from(self.is_up())));
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn succeeded(&self, elapsed: Duration) {
        self.answered.increment();
        self.seconds.observe(elapsed);
        if self.failures.swap(0, Ordering::Relaxed) >= FAILURES_MAX {
            tracing::info!(server = %self.label, "upstream answers again");
        }
        self.rests_until_ms.store(0, Ordering::Relaxed);
        self.took(elapsed);
    }

    fn took(&self, elapsed: Duration) {
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).max(UNKNOWN_MICROS);
        let old = self.expected_micros();
        // An eighth of each new time; races lose one sample, which is harmless.
        let mean = if old == UNKNOWN_MICROS { micros } else { old - old / 8 + micros / 8 };
        self.mean_micros.store(mean, Ordering::Relaxed);
    }

    fn has_failed(&self, elapsed: Duration) {
        self.failed.increment();
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.mean_micros.fetch_max(micros.max(UNKNOWN_MICROS + 1), Ordering::Relaxed);
        if failures < FAILURES_MAX {
            return;
        }
        if failures == FAILURES_MAX {
            tracing::warn!(server = %self.label, "upstream does not answer, it is tried last for a while");
        }
        let rest = REST.saturating_mul(1 << (failures - FAILURES_MAX).min(5)).min(REST_MAX);
        let rest_ms = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
        self.rests_until_ms.store(self.elapsed_ms().saturating_add(rest_ms), Ordering::Relaxed);
    }
}
