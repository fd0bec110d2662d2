//! The journal: drains the sink both planes hand verdicts to, and writes them as JSON lines.
//!
//! One task takes what waits in batches; the file is written on a blocking thread, buffered, and flushed when nothing
//! waits or a second has passed. A file that was renamed or removed (log rotation) is opened anew; one that has grown is
//! renamed by the journal itself where that is configured ([`mod@file`]). Lines may carry a hash chain ([`chain`]), which
//! [`verify`] reads. The same task feeds what the admin listener shows of recent verdicts. It never makes a plane wait:
//! what it cannot take in time is dropped and counted by the sink.

pub mod chain;
pub mod file;
pub mod verify;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use thiserror::Error;
use time::OffsetDateTime;
use time::macros::format_description;
use tokio::sync::{Notify, mpsc};
use tokio::time::MissedTickBehavior;

use self::file::Target;
use super::recent::Recent;
use super::settings::{JournalSettings, JournalWhat};
use crate::count::{Counter, Gauge, Labels, Observe, Sample};
use crate::drain::{DrainWatch, Phase};
use crate::policy::report::FilingReport;
use crate::policy::{Action, VerdictRecord, VerdictReport};

/// Verdicts of one write; more wait in the sink.
const BATCH_MAX: usize = 1024;
/// Longest time a line stays in the buffer, and how often the file's name is looked at.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// The journal file cannot be had.
#[derive(Debug, Error)]
#[error("journal {}: {source}", path.display())]
pub struct JournalError {
    /// The file.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

/// What the journal counts.
#[derive(Debug, Default)]
pub struct Counters {
    /// Lines written.
    pub lines: Counter,
    /// Failures to open or write.
    pub errors: Counter,
    /// Times the file was opened.
    pub opened: Counter,
    /// Times it was rotated by its size.
    pub rotations: Counter,
    /// The number of the last line of a chained journal.
    pub seq: Gauge,
}

impl Observe for Counters {
    fn observe(&self, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {
        show("journal_lines_total", &[], Sample::Count(self.lines.value()));
        show("journal_errors_total", &[], Sample::Count(self.errors.value()));
        show("journal_opened_total", &[], Sample::Count(self.opened.value()));
        show("journal_rotations_total", &[], Sample::Count(self.rotations.value()));
        show("journal_sequence", &[], Sample::Count(self.seq.value()));
    }
}

/// One verdict as the journal and `/v1/events` show it.
#[derive(Debug, Serialize)]
pub struct Line {
    /// When, RFC 3339 in UTC with milliseconds.
    pub time: String,
    /// `dns` or `http`.
    pub plane: &'static str,
    /// Who asked.
    pub client: IpAddr,
    /// The verdict with its evidence.
    #[serde(flatten)]
    pub report: VerdictReport,
    /// What the shadow says, where that is something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowReport>,
}

/// The shadow's verdict.
#[derive(Debug, Serialize)]
pub struct ShadowReport {
    /// `allow` or `block`.
    pub action: &'static str,
    /// Why.
    pub reason: &'static str,
    /// By which rule.
    pub rule: &'static str,
    /// The row of the shadow's registry.
    pub filing: Option<FilingReport>,
}

impl ShadowReport {
    fn new(record: &VerdictRecord) -> Option<Self> {
        let verdict = record.shadow.as_ref()?;
        let view = record.view.shadowed();
        // Ids are those of one state of the registry: meanwhile the view may have another.
        let view = view.filter(|view| view.registry.generation() == verdict.registry_generation);
        let filing = verdict.filing.zip(view).map(|(id, view)| FilingReport::new(&view, id));
        let (action, reason, rule) = (verdict.action.label(), verdict.reason.label(), verdict.rule.id());
        Some(Self { action, reason, rule, filing })
    }
}

impl Line {
    /// Renders a record.
    pub fn new(record: &VerdictRecord) -> Self {
        let name = record.name.as_ref().map(|name| name.as_ref());
        let address = record.verdict.address;
        let shown = match (name, address) {
            (Some(name), _) => name.to_string(),
            (None, Some(addr)) => addr.to_string(),
            (None, None) => record.received.as_deref().unwrap_or_default().to_owned(),
        };
        let addresses = address.into_iter().collect();
        let report = VerdictReport::new(&record.view, shown, name, addresses, &record.verdict, record.enforced);
        Self {
            time: rfc3339(record.at),
            plane: record.via.label(),
            client: record.client.to_canonical(),
            report,
            shadow: ShadowReport::new(record),
        }
    }

    /// One line of JSON, without its line feed.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("a line has text keys and no values JSON cannot hold")
    }
}

/// RFC 3339 in UTC with milliseconds.
pub fn rfc3339(at: SystemTime) -> String {
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    OffsetDateTime::from(at).format(&form).unwrap_or_default()
}

/// The journal before it runs.
pub struct Journal {
    writer: Writer,
    recent: Arc<Recent>,
    reopen: Arc<Notify>,
}

impl Journal {
    /// Opens the file, where one is configured.
    pub fn open(
        settings: &JournalSettings,
        counters: Arc<Counters>,
        recent: Arc<Recent>,
    ) -> Result<Self, JournalError> {
        let mut writer = Writer { what: settings.what, counters, allows: 0, is_failing: false, target: None };
        if let Some(path) = &settings.path {
            let target = Target::open(path, settings, writer.counters.clone());
            writer.target = Some(target.map_err(|source| JournalError { path: path.clone(), source })?);
        }
        Ok(Self { writer, recent, reopen: Arc::default() })
    }

    /// Tells the running journal to open its file anew (SIGHUP).
    pub fn reopener(&self) -> Arc<Notify> {
        self.reopen.clone()
    }

    /// Writes until `end` is draining and everything in the sink is written, or the sink is gone.
    pub async fn run(self, mut records: mpsc::Receiver<VerdictRecord>, mut end: DrainWatch) {
        let Self { mut writer, recent, reopen } = self;
        let mut ticks = tokio::time::interval(FLUSH_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut flushed = Instant::now();
        let mut is_ending = false;
        loop {
            let mut batch = Vec::new();
            let mut work = Work::default();
            tokio::select! {
                taken = records.recv_many(&mut batch, BATCH_MAX) => {
                    if taken == 0 {
                        break;
                    }
                }
                _ = ticks.tick() => work = Work { flush: true, check_name: true, ..work },
                () = reopen.notified() => work.reopen = true,
                () = end.reached(Phase::Draining), if !is_ending => {
                    // What is in the queue is still received; then the channel is at its end.
                    records.close();
                    is_ending = true;
                }
            }
            recent.take(&batch);
            work.flush |= records.is_empty() || flushed.elapsed() >= FLUSH_EVERY;
            if work.flush {
                flushed = Instant::now();
            }
            writer = on_blocking_thread(writer, move |writer| writer.work(&batch, work)).await;
        }
        on_blocking_thread(writer, |writer| {
            writer.work(&[], Work { flush: true, ..Work::default() });
            if let Some(link) = writer.target.as_ref().and_then(Target::link) {
                // Noted where the journal's own file cannot be edited.
                tracing::info!(seq = link.seq, hash = %link.hash, "journal ends");
            }
        })
        .await;
        // What was met last is told as well.
        recent.seen.end_telling();
        recent.seen.clone().save_apart().await;
    }
}

/// Runs `work` where it may block. Should it panic, the journal goes on without a file and says so.
async fn on_blocking_thread(mut writer: Writer, work: impl FnOnce(&mut Writer) + Send + 'static) -> Writer {
    if writer.target.is_none() {
        return writer;
    }
    let spare = Writer { target: None, counters: writer.counters.clone(), ..writer };
    let working = tokio::task::spawn_blocking(move || {
        work(&mut writer);
        writer
    });
    working.await.unwrap_or_else(|error| {
        tracing::error!(%error, "the journal ended by an internal error");
        spare
    })
}

/// What to do besides writing a batch.
#[derive(Clone, Copy, Default)]
struct Work {
    flush: bool,
    check_name: bool,
    reopen: bool,
}

/// The file and its selection.
struct Writer {
    what: JournalWhat,
    counters: Arc<Counters>,
    /// Allows seen, for sampling.
    allows: u64,
    /// True once a failure was logged, until a write succeeds.
    is_failing: bool,
    target: Option<Target>,
}

impl Writer {
    fn work(&mut self, batch: &[VerdictRecord], work: Work) {
        let Some(mut target) = self.target.take() else { return };
        match self.try_work(&mut target, batch, work) {
            Ok(()) if self.is_failing && target.is_open() && !batch.is_empty() => {
                self.is_failing = false;
                tracing::info!(path = %target.path.display(), "journal is written again");
            }
            Ok(()) => {}
            Err(error) => {
                self.counters.errors.increment();
                target.give_up();
                if !self.is_failing {
                    self.is_failing = true;
                    tracing::error!(%error, path = %target.path.display(), "journal cannot be written, lines are lost");
                }
            }
        }
        self.target = Some(target);
    }

    fn try_work(&mut self, target: &mut Target, batch: &[VerdictRecord], work: Work) -> io::Result<()> {
        if work.reopen {
            target.close()?;
        }
        if work.check_name || work.reopen || !batch.is_empty() {
            target.begin(work.check_name)?;
            for record in batch {
                if self.is_wanted(record) {
                    target.write(Line::new(record).json())?;
                    self.counters.lines.increment();
                }
            }
        }
        target.end(work.flush)
    }

    fn is_wanted(&mut self, record: &VerdictRecord) -> bool {
        if record.verdict.action == Action::Block || record.shadow.is_some() {
            return true;
        }
        match self.what {
            JournalWhat::All => true,
            JournalWhat::Blocks => false,
            JournalWhat::Sampled(one_in) => {
                let is_turn = self.allows.is_multiple_of(u64::from(one_in.max(1)));
                self.allows += 1;
                is_turn
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_with_milliseconds() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_478_400_007);
        assert_eq!(rfc3339(at), "2026-11-24T00:00:00.007Z");
    }
}
