//! Alerts: unfiled domains that are met for the first time, told to a web hook and to syslog.
//!
//! [`Seen`](super::seen::Seen) knows what is new and puts it into one bounded queue for each way out; a full queue drops
//! and counts. Behind each queue a task gathers what comes within a second, sends it, and tries again with growing pauses
//! where it cannot. It is apart from the journal and both planes: a receiver that hangs costs nobody else anything.

mod syslog;
mod webhook;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

pub use self::syslog::{Syslog, SyslogPlace};
pub use self::webhook::{Webhook, WebhookSettings};
use crate::count::{Counter, Labels, Observe, Sample};
use crate::drain::{DrainWatch, Phase};

/// Domains that wait for one way out: some hundred kilobytes.
const QUEUE_MAX: usize = 1024;
/// Domains of one request; a receiver has them as some twenty kilobytes of JSON.
const BATCH_MAX: usize = 100;
/// How long the first of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// One attempt, connection and answer included.
const ATTEMPT_MAX: Duration = Duration::from_secs(10);
/// Pause after the first failure; doubled with each further one, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(500);
/// See [`PAUSE`].
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Attempts for one batch, over some six minutes; then it is dropped.
const ATTEMPTS_MAX: u32 = 12;

/// Where alerts go; nowhere by default.
#[derive(Clone, Debug, Default)]
pub struct AlertSettings {
    /// An HTTP server that takes JSON.
    pub webhook: Option<WebhookSettings>,
    /// A syslog receiver.
    pub syslog: Option<SyslogPlace>,
}

impl AlertSettings {
    /// True where alerts go somewhere.
    pub fn is_on(&self) -> bool {
        self.webhook.is_some() || self.syslog.is_some()
    }
}

/// Why alerts cannot be sent as configured. The operator is at fault.
#[derive(Debug, thiserror::Error)]
#[error("alert.webhook-ca {}: {what}", file.display())]
pub struct AlertError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong.
    pub what: String,
}

/// An unfiled domain that is met for the first time. Who asked for it is nobody else's business, and not in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// The registrable domain.
    pub domain: Box<str>,
    /// The host that was asked for.
    pub host: Box<str>,
    /// Why it is blocked.
    pub reason: Box<str>,
    /// Where it was met.
    pub plane: Box<str>,
    /// When, RFC 3339 in UTC.
    pub first_seen: String,
    /// False where nothing was changed on the wire (observe mode).
    pub enforced: bool,
}

/// What one way out counts.
#[derive(Debug, Default)]
struct Counts {
    sent: Counter,
    dropped: Counter,
    failures: Counter,
}

/// What the ways out count.
#[derive(Debug, Default)]
pub struct Counters {
    webhook: Arc<Counts>,
    syslog: Arc<Counts>,
}

impl Observe for Counters {
    fn observe(&self, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {
        for (name, counts) in [("webhook", &self.webhook), ("syslog", &self.syslog)] {
            let sink = [("sink", name)];
            show("alert_domains_sent_total", &sink, Sample::Count(counts.sent.value()));
            show("alert_domains_dropped_total", &sink, Sample::Count(counts.dropped.value()));
            show("alert_failures_total", &sink, Sample::Count(counts.failures.value()));
        }
    }
}

/// The sending ends, held by who knows what is new.
#[derive(Debug, Default)]
pub struct Alerts {
    queues: Mutex<Vec<(mpsc::Sender<Alert>, Arc<Counts>)>>,
}

impl Alerts {
    /// Hands an alert to every way out, or drops and counts it. Never waits.
    pub fn tell(&self, alert: &Alert) {
        for (queue, counts) in self.queues.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if queue.try_send(alert.clone()).is_err() {
                counts.dropped.increment();
            }
        }
    }

    /// True where somebody is told.
    pub fn is_open(&self) -> bool {
        !self.queues.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Nothing is told from here on: the tasks end with what they have.
    pub fn end(&self) {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// One way out with its queue.
pub struct Runner {
    name: &'static str,
    way: Way,
    queue: mpsc::Receiver<Alert>,
    counts: Arc<Counts>,
}

/// What alerts leave by.
enum Way {
    Syslog(Syslog),
    Webhook(Box<Webhook>),
}

/// Why a batch was not taken.
#[derive(Debug)]
struct Failure {
    /// Those at its beginning that were.
    sent: usize,
    /// False where another attempt would end alike.
    may_retry: bool,
    text: String,
}

impl Way {
    async fn send(&self, batch: &[Alert], dropped: u64) -> Result<(), Failure> {
        let sending = async {
            match self {
                Self::Syslog(syslog) => syslog.send(batch).await,
                Self::Webhook(webhook) => webhook.send(batch, dropped).await,
            }
        };
        let late = || Failure { sent: 0, may_retry: true, text: format!("no answer within {ATTEMPT_MAX:?}") };
        timeout(ATTEMPT_MAX, sending).await.unwrap_or_else(|_| Err(late()))
    }
}

/// The sending ends, and the tasks to run behind them.
pub fn open(settings: &AlertSettings, counters: &Counters) -> Result<(Alerts, Vec<Runner>), AlertError> {
    let mut ways = Vec::new();
    if let Some(webhook) = &settings.webhook {
        ways.push(("webhook", Way::Webhook(Box::new(Webhook::new(webhook)?)), counters.webhook.clone()));
    }
    if let Some(place) = &settings.syslog {
        ways.push(("syslog", Way::Syslog(Syslog::new(place.clone())), counters.syslog.clone()));
    }
    let (mut queues, mut runners) = (Vec::new(), Vec::new());
    for (name, way, counts) in ways {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        queues.push((sender, counts.clone()));
        runners.push(Runner { name, way, queue, counts });
    }
    Ok((Alerts { queues: Mutex::new(queues) }, runners))
}

impl Runner {
    /// Sends until the queue has ended. Once `end` is draining, every batch has one attempt.
    pub async fn run(mut self, mut end: DrainWatch) {
        let mut is_failing = false;
        let mut told = 0;
        while let Some(first) = self.queue.recv().await {
            let mut batch = vec![first];
            tokio::select! {
                () = self.gather(&mut batch) => {}
                () = end.reached(Phase::Draining) => {}
            }
            // The last of it all that waits.
            while let Some(more) = (batch.len() < BATCH_MAX).then(|| self.queue.try_recv().ok()).flatten() {
                batch.push(more);
            }
            let dropped = self.counts.dropped.value();
            if self.deliver(batch, dropped - told, &mut is_failing, &mut end).await {
                told = dropped;
            }
        }
    }

    /// Waits for more to come with the first.
    async fn gather(&mut self, batch: &mut Vec<Alert>) {
        let mut over = std::pin::pin!(sleep(GATHER));
        while batch.len() < BATCH_MAX {
            let room = BATCH_MAX - batch.len();
            tokio::select! {
                count = self.queue.recv_many(batch, room) => if count == 0 { return },
                () = &mut over => return,
            }
        }
    }

    /// Sends a batch, whole or in parts; what cannot be sent is dropped and counted. True when all of it was taken.
    async fn deliver(&self, mut batch: Vec<Alert>, dropped: u64, is_failing: &mut bool, end: &mut DrainWatch) -> bool {
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS_MAX {
            let failure = match self.way.send(&batch, dropped).await {
                Ok(()) => {
                    self.counts.sent.add(batch.len() as u64);
                    if std::mem::take(is_failing) {
                        tracing::info!(sink = self.name, "alerts are taken again");
                    }
                    return true;
                }
                Err(failure) => failure,
            };
            self.counts.failures.increment();
            self.counts.sent.add(failure.sent as u64);
            batch.drain(..failure.sent);
            if !std::mem::replace(is_failing, true) {
                tracing::warn!(sink = self.name, error = failure.text, "alerts are not taken");
            }
            if !failure.may_retry || attempt == ATTEMPTS_MAX || end.phase() >= Phase::Draining {
                break;
            }
            tokio::select! {
                () = sleep(pause) => pause = (2 * pause).min(PAUSE_MAX),
                () = end.reached(Phase::Draining) => {}
            }
        }
        self.counts.dropped.add(batch.len() as u64);
        false
    }
}
