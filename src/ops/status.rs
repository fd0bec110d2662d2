//! The state of a running gate in one value: `/v1/status`, `icpgate status` and the status page show it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::health::{Health, Note};
use super::journal::rfc3339;
use super::metrics::Metrics;
use super::process::{Process, VERSION, resident_octets};
use super::shadow::ShadowStatus;
use crate::registry::lint::ListDate;

/// One data set in use.
#[derive(Clone, Debug, Serialize)]
pub struct DataStatus {
    /// Its generation; 0 means none was ever loaded.
    pub generation: u64,
    /// Rows: filings, or prefixes.
    pub rows: usize,
    /// Digest over paths and contents, 16 hexadecimal digits; nodes with equal digests judge alike.
    pub digest: Option<String>,
    /// When it was loaded.
    pub loaded_at: Option<String>,
    /// Findings in its files.
    pub issues: usize,
    /// Files it was read from.
    pub files: usize,
}

/// One list that findings rest on.
#[derive(Clone, Debug, Serialize)]
pub struct ListStatus {
    /// The key of the configuration.
    pub key: &'static str,
    /// The file; empty for the compiled-in list.
    pub file: String,
    /// As of when it holds.
    pub date: String,
    /// Entries.
    pub entries: usize,
}

impl From<&ListDate> for ListStatus {
    fn from(list: &ListDate) -> Self {
        let ListDate { key, file, date, entries } = list;
        Self { key, file: file.clone(), date: date.to_string(), entries: *entries }
    }
}

/// One plane.
#[derive(Clone, Debug, Serialize)]
pub struct PlaneStatus {
    /// `dns`, `http` or `admin`.
    pub plane: &'static str,
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    /// Over what.
    pub transports: &'static str,
}

/// One upstream server.
#[derive(Clone, Debug, Serialize)]
pub struct UpstreamStatus {
    /// As configured.
    pub server: String,
    /// False while it is tried last after failures.
    pub up: bool,
}

/// Counters of interest.
#[derive(Clone, Debug, Serialize)]
pub struct CounterStatus {
    /// The metric family, without `icpgate_`.
    pub name: &'static str,
    /// The sum of its series.
    pub value: u64,
}

/// See the module's text.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Version of the program.
    pub version: &'static str,
    /// When the process started.
    pub started_at: String,
    /// Seconds since.
    pub uptime_seconds: u64,
    /// Memory in use.
    pub resident_memory_bytes: u64,
    /// Policy mode: `enforce`, `observe` or `off`.
    pub mode: &'static str,
    /// How verdicts are acted on now, faults included.
    pub stance: &'static str,
    /// As `/readyz`.
    pub ready: bool,
    /// As `/readyz`.
    pub reasons: Vec<Note>,
    /// As `/readyz`.
    pub warnings: Vec<Note>,
    /// The registry.
    pub registry: DataStatus,
    /// Seconds since the registry was last loaded or found unchanged.
    pub registry_age_seconds: u64,
    /// Lists that findings in the registry rest on.
    pub lists: Vec<ListStatus>,
    /// The ranges.
    pub ranges: DataStatus,
    /// What judges beside the live data; `None` where nothing does.
    pub shadow: Option<ShadowStatus>,
    /// Local zones.
    pub zones: usize,
    /// The planes.
    pub planes: Vec<PlaneStatus>,
    /// Upstream servers.
    pub upstreams: Vec<UpstreamStatus>,
    /// Counters of interest.
    pub counters: Vec<CounterStatus>,
}

/// Families whose sums are shown to people.
const OF_INTEREST: [&str; 6] = [
    "dns_queries_total",
    "dns_responses_total",
    "http_requests_total",
    "verdicts_total",
    "journal_lines_total",
    "sink_dropped_total",
];

/// What the state is read from.
#[derive(Clone)]
pub struct StatusSource {
    /// Readiness and the stores.
    pub health: Health,
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// The process.
    pub process: Process,
    /// The planes and where they listen.
    pub planes: Vec<PlaneStatus>,
}

impl StatusSource {
    /// The state now.
    pub fn status(&self) -> Status {
        let health = &self.health;
        let view = health.view.load_full();
        let readiness = health.readiness();
        let (age, _) = health.faults.ages();
        let upstreams = health.dns.upstreams().health().into_iter();
        // Sums of counters are whole numbers.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let counter = |name| CounterStatus { name, value: self.metrics.sum(name) as u64 };
        Status {
            version: VERSION,
            started_at: rfc3339(self.process.started_at),
            uptime_seconds: self.process.started.elapsed().as_secs(),
            resident_memory_bytes: resident_octets().unwrap_or(0),
            mode: view.rules.mode.label(),
            stance: readiness.stance,
            ready: readiness.ready,
            reasons: readiness.reasons,
            warnings: readiness.warnings,
            registry: self.registry(),
            registry_age_seconds: age.as_secs(),
            lists: health.registry.lint_lists().iter().map(ListStatus::from).collect(),
            ranges: self.ranges(),
            shadow: health.shadow.status(),
            zones: health.dns.zone_count(),
            planes: self.planes.clone(),
            upstreams: upstreams.map(|server| UpstreamStatus { server: server.server, up: server.is_up }).collect(),
            counters: OF_INTEREST.map(counter).to_vec(),
        }
    }

    fn registry(&self) -> DataStatus {
        let loaded = self.health.registry.loaded();
        let rows = loaded.as_ref().map_or(0, |loaded| loaded.snapshot.len());
        let generation = self.health.view.load().registry.generation();
        let known = loaded.as_ref().map(|loaded| (loaded.digest, loaded.loaded_at));
        let (issues, files) = loaded.as_ref().map_or((0, 0), |loaded| (loaded.issues.len(), loaded.files.len()));
        data_status(generation, rows, known, issues, files)
    }

    fn ranges(&self) -> DataStatus {
        let loaded = self.health.ranges.loaded();
        let rows = loaded.as_ref().map_or(0, |loaded| loaded.files.iter().map(|file| file.rows).sum());
        let generation = self.health.view.load().ranges.generation();
        let known = loaded.as_ref().map(|loaded| (loaded.digest, loaded.loaded_at));
        let (issues, files) = loaded.as_ref().map_or((0, 0), |loaded| (loaded.issues.len(), loaded.files.len()));
        data_status(generation, rows, known, issues, files)
    }
}

fn data_status(
    generation: u64,
    rows: usize,
    known: Option<(u64, SystemTime)>,
    issues: usize,
    files: usize,
) -> DataStatus {
    DataStatus {
        generation,
        rows,
        digest: known.map(|(digest, _)| format!("{digest:016x}")),
        loaded_at: known.map(|(_, at)| rfc3339(at)),
        issues,
        files,
    }
}
