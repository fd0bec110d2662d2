//! Unfiled domains met in live traffic: each with when it was first and last seen, and how often.
//!
//! Fed by the journal task, never by a plane. A domain is new once in the life of the file it is remembered in, so that a
//! restart raises no alarm. The table is bounded: those not seen for longest are forgotten first, and counted.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::alert::{Alert, Alerts};
use super::journal::rfc3339;
use crate::count::{Counter, Labels, Observe, Sample};
use crate::drain::{DrainWatch, Phase};
use crate::policy::{Action, VerdictRecord};
use crate::whole::write_whole;

/// Domains remembered: some twenty megabytes.
pub const DOMAINS_MAX: usize = 50_000;
/// How many are forgotten at once when it is full.
const FORGET: usize = DOMAINS_MAX / 10;
/// Octets of the file: a row has some three hundred.
const FILE_OCTETS_MAX: u64 = 64 << 20;
/// Between two looks whether the file has to be written.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// What is remembered of a domain, as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    domain: Box<str>,
    /// The host that was asked for last.
    host: Box<str>,
    reason: Box<str>,
    plane: Box<str>,
    /// Seconds since 1970.
    first: u64,
    last: u64,
    count: u64,
}

impl Row {
    /// Takes in what another gate, or this one before, has seen of the domain.
    fn merge(&mut self, other: &Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.count = self.count.max(other.count);
    }
}

/// One row of `/v1/unfiled`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SeenRow {
    /// The registrable domain.
    pub domain: String,
    /// The host that was asked for last.
    pub host: String,
    /// The reason of its last block.
    pub reason: String,
    /// The plane it was met on last.
    pub plane: String,
    /// When it was first blocked.
    pub first_seen: String,
    /// When it was last blocked.
    pub last_seen: String,
    /// How often.
    pub count: u64,
}

/// What rows are in order of, the greatest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// How often.
    Count,
    /// When they were first seen: what is new.
    First,
    /// When they were last seen.
    Last,
}

/// See the module's text.
#[derive(Default)]
pub struct Seen {
    rows: Mutex<HashMap<Box<str>, Row>>,
    path: Option<PathBuf>,
    is_changed: AtomicBool,
    /// The latest second of what was read.
    read_to: u64,
    /// Held by who writes the file.
    writing: Mutex<()>,
    /// Who is told of what is new.
    alerts: Alerts,
    new: Counter,
    forgotten: Counter,
    save_errors: Counter,
}

impl Seen {
    /// Remembers in memory, and in the file at `path` where there is one. The error names the line.
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        let rows = match path.map(File::open) {
            None => HashMap::new(),
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => HashMap::new(),
            Some(file) => read(file?)?,
        };
        let read_to = rows.values().map(|row: &Row| row.last).max().unwrap_or(0);
        Ok(Self { rows: Mutex::new(rows), path: path.map(Path::to_owned), read_to, ..Self::default() })
    }

    /// Tells of what is new from here on.
    pub fn telling(self, alerts: Alerts) -> Self {
        Self { alerts, ..self }
    }

    /// Tells of nothing more.
    pub fn end_telling(&self) {
        self.alerts.end();
    }

    /// Takes verdicts in.
    pub fn take(&self, batch: &[VerdictRecord]) {
        for record in batch.iter().filter(|record| record.verdict.action == Action::Block) {
            self.count(record);
        }
    }

    fn count(&self, record: &VerdictRecord) {
        let Some(name) = record.name.as_ref() else { return };
        let domain = record.verdict.registrable(name.as_ref()).unwrap_or(name.as_ref()).to_string();
        let at = record.at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (host, reason, plane) =
            (name.to_string().into(), record.verdict.reason.label().into(), record.via.label().into());
        let mut rows = self.rows();
        self.is_changed.store(true, Ordering::Relaxed);
        if let Some(row) = rows.get_mut(domain.as_str()) {
            (row.host, row.reason, row.plane) = (host, reason, plane);
            row.last = row.last.max(at);
            row.count += 1;
            return;
        }
        if rows.len() >= DOMAINS_MAX {
            self.forget(&mut rows);
        }
        self.new.increment();
        let domain: Box<str> = domain.into();
        if self.alerts.is_open() {
            let (host, reason, plane) = (host.clone(), reason.clone(), plane.clone());
            let (first_seen, enforced) = (rfc3339(record.at), record.enforced);
            self.alerts.tell(&Alert { domain: domain.clone(), host, reason, plane, first_seen, enforced });
        }
        rows.insert(domain.clone(), Row { domain, host, reason, plane, first: at, last: at, count: 1 });
    }

    /// Makes room: those not seen for longest go.
    fn forget(&self, rows: &mut HashMap<Box<str>, Row>) {
        let mut lasts: Vec<(u64, Box<str>)> = rows.values().map(|row| (row.last, row.domain.clone())).collect();
        let at = FORGET.min(lasts.len().saturating_sub(1));
        lasts.select_nth_unstable(at);
        for (_, domain) in &lasts[..at] {
            rows.remove(domain);
            self.forgotten.increment();
        }
    }

    /// The first `rows_max` rows in this order.
    pub fn rows_by(&self, order: Order, rows_max: usize) -> Vec<SeenRow> {
        let mut rows: Vec<Row> = self.rows().values().cloned().collect();
        let key = |row: &Row| match order {
            Order::Count => row.count,
            Order::First => row.first,
            Order::Last => row.last,
        };
        rows.sort_by(|a, b| key(b).cmp(&key(a)).then_with(|| a.domain.cmp(&b.domain)));
        rows.truncate(rows_max);
        let at = |seconds| rfc3339(UNIX_EPOCH + Duration::from_secs(seconds));
        let shown = |row: Row| SeenRow {
            domain: row.domain.into(),
            host: row.host.into(),
            reason: row.reason.into(),
            plane: row.plane.into(),
            first_seen: at(row.first),
            last_seen: at(row.last),
            count: row.count,
        };
        rows.into_iter().map(shown).collect()
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.rows().len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.rows().is_empty()
    }

    /// Writes the file, whole or not at all, if something has changed.
    pub fn save(&self) -> io::Result<()> {
        let Some(path) = self.path.as_deref() else { return Ok(()) };
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        // A gate before this one may have written after this one began.
        let before = File::open(path).and_then(read).unwrap_or_default();
        let rows: Vec<Row> = {
            let mut rows = self.rows();
            if !self.is_changed.swap(false, Ordering::Relaxed) {
                return Ok(());
            }
            for (domain, old) in before {
                if let Some(row) = rows.get_mut(&domain) {
                    row.merge(&old);
                } else if old.last >= self.read_to && rows.len() < DOMAINS_MAX {
                    // What is older was forgotten here.
                    rows.insert(domain, old);
                }
            }
            rows.values().cloned().collect()
        };
        let written = write_whole(path, |out| {
            rows.iter().try_for_each(|row| {
                serde_json::to_writer(&mut *out, row)?;
                out.write_all(b"\n")
            })
        });
        if written.is_err() {
            self.is_changed.store(true, Ordering::Relaxed);
            self.save_errors.increment();
        }
        written
    }

    /// Saves from time to time, until `end` is draining; the journal saves a last time, after its last verdict.
    pub async fn keep(self: Arc<Self>, mut end: DrainWatch) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(SAVE_EVERY) => self.clone().save_apart().await,
                () = end.reached(Phase::Draining) => return,
            }
        }
    }

    /// Saves on a thread that may wait; a failure is told in the log and counted.
    pub async fn save_apart(self: Arc<Self>) {
        let seen = self.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || seen.save()).await {
            tracing::warn!(%error, path = ?self.path, "cannot write the unfiled domains that were seen");
        }
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<Box<str>, Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observe for Seen {
    fn observe(&self, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {
        show("unfiled_domains", &[], Sample::Value(self.len() as f64));
        show("unfiled_domains_new_total", &[], Sample::Count(self.new.value()));
        show("unfiled_domains_forgotten_total", &[], Sample::Count(self.forgotten.value()));
        show("unfiled_domains_save_errors_total", &[], Sample::Count(self.save_errors.value()));
    }
}

fn read(file: File) -> io::Result<HashMap<Box<str>, Row>> {
    if file.metadata()?.len() > FILE_OCTETS_MAX {
        return Err(io::Error::other(format!("larger than {FILE_OCTETS_MAX} octets")));
    }
    let mut res = HashMap::new();
    for (at, line) in BufReader::new(file).lines().enumerate() {
        let row: Row = serde_json::from_str(&line?).map_err(|error| {
            io::Error::other(format!("line {}: {error}; expected what icpgate wrote, or no file", at + 1))
        })?;
        if res.len() < DOMAINS_MAX {
            res.insert(row.domain.clone(), row);
        }
    }
    Ok(res)
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::net::IpAddr;

    use super::*;
    use crate::model::{DomainName, Hop, Host, Subject, SuffixTable, Via};
    use crate::policy::{Rules, View};
    use crate::ranges::Ranges;
    use crate::registry::Snapshot;

    /// A block of `host` at so many seconds since 1970.
    pub(in crate::ops) fn block(host: &str, seconds: u64) -> VerdictRecord {
        let view = View {
            rules: Arc::new(Rules::default()),
            registry: Arc::new(Snapshot::empty(Arc::new(SuffixTable::built_in()))),
            ranges: Arc::new(Ranges::empty()),
            faults: Vec::new(),
            shadow: None,
        };
        let name = DomainName::from_host(host).expect("a name");
        let at = UNIX_EPOCH + Duration::from_secs(seconds);
        let subject = Subject { host: Host::Name(name.as_ref()), hop: Hop::InLine, via: Via::Http };
        let verdict = view.judge(&subject, at);
        assert!(verdict.blocks());
        let (client, received) = (IpAddr::from([192, 0, 2, 1]), None);
        VerdictRecord {
            at,
            via: Via::Http,
            client,
            name: Some(name),
            received,
            verdict,
            enforced: true,
            shadow: None,
            view: Arc::new(view),
        }
    }

    #[test]
    fn a_domain_is_new_once_also_after_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("unfiled.jsonl");
        let seen = Seen::open(Some(&path)).expect("no file yet");
        seen.take(&[block("www.a.cn", 100), block("b.cn", 200), block("shop.a.cn", 300)]);
        assert_eq!((seen.len(), seen.new.value()), (2, 2));
        // One that begins before the other has written takes that in with its own.
        let next = Seen::open(Some(&path)).expect("no file yet");
        seen.save().expect("written");
        next.take(&[block("b.cn", 150)]);
        next.save().expect("written");
        let seen = Seen::open(Some(&path)).expect("reads");
        seen.take(&[block("a.cn", 400), block("c.cn", 250)]);
        assert_eq!((seen.len(), seen.new.value()), (3, 1));
        let domains = |order| -> Vec<String> { seen.rows_by(order, 9).into_iter().map(|row| row.domain).collect() };
        assert_eq!(domains(Order::First), ["c.cn", "b.cn", "a.cn"]);
        assert_eq!(domains(Order::Last), ["a.cn", "c.cn", "b.cn"]);
        assert_eq!(domains(Order::Count), ["a.cn", "b.cn", "c.cn"]);
        let first = &seen.rows_by(Order::Count, 1)[0];
        assert_eq!((first.count, first.host.as_str(), first.reason.as_str()), (3, "a.cn", "not_filed"));
        assert_eq!(
            (first.first_seen.as_str(), first.last_seen.as_str()),
            ("1970-01-01T00:01:40.000Z", "1970-01-01T00:06:40.000Z")
        );
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_oldest() {
        let seen = Seen::default();
        let one = block("a.cn", 1);
        for n in 0..=DOMAINS_MAX as u64 {
            let name = DomainName::from_host(&format!("d{n}.cn")).expect("a name");
            let at = UNIX_EPOCH + Duration::from_secs(n);
            seen.take(&[VerdictRecord { name: Some(name), at, ..one.clone() }]);
        }
        assert_eq!((seen.len(), seen.forgotten.value()), (DOMAINS_MAX - FORGET + 1, FORGET as u64));
        let rows = seen.rows_by(Order::First, DOMAINS_MAX);
        assert_eq!(rows.last().map(|row| row.domain.clone()), Some(format!("d{FORGET}.cn")));
    }

    #[test]
    fn another_file_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notes");
        fs::write(&path, "dear diary\n").expect("writes");
        let error = Seen::open(Some(&path)).err().expect("no such file").to_string();
        assert!(error.contains("line 1: ") && error.contains("or no file"), "{error}");
    }
}
