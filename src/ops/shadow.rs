//! What the shadow would have said otherwise, by name; and the keepers of its own data.
//!
//! Fed by the journal task with records that carry a verdict of the shadow, never by a plane. The table is bounded: the
//! names not met for longest are forgotten first, and counted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::Serialize;

use super::journal::rfc3339;
use crate::count::{Counter, Labels, Observe, Sample};
use crate::policy::shadow::ShadowCounters;
use crate::policy::{Rules, Verdict, VerdictRecord};
use crate::ranges;
use crate::registry;

/// Names that are kept: some three megabytes.
pub const NAMES_MAX: usize = 10_000;
/// How many are forgotten at once when it is full.
const FORGET: usize = NAMES_MAX / 10;

/// What the shadow judges by. What is `None` is the live one's.
#[derive(Clone, Debug)]
pub struct ShadowSettings {
    /// The policy; its mode is the live one.
    pub rules: Rules,
    /// A registry of its own.
    pub registry: Option<registry::Settings>,
    /// Ranges of its own.
    pub ranges: Option<ranges::Settings>,
}

/// The keepers of the shadow's own data, for health and the status.
#[derive(Clone, Default)]
pub struct Stores {
    /// Its registry.
    pub registry: Option<Arc<registry::Store>>,
    /// Its ranges.
    pub ranges: Option<Arc<ranges::Store>>,
    /// What it counts; `None` without a shadow.
    pub counters: Option<Arc<ShadowCounters>>,
}

impl Stores {
    /// Why its data are not as the files are, each with the name of the part.
    pub fn health(&self) -> Vec<(&'static str, Vec<String>)> {
        let registry = self.registry.as_ref().map(|store| ("shadow_registry", store.health()));
        let ranges = self.ranges.as_ref().map(|store| ("shadow_ranges", store.health()));
        registry.into_iter().chain(ranges).collect()
    }

    /// The state now; `None` without a shadow.
    pub fn status(&self) -> Option<ShadowStatus> {
        let (judged, differing) = self.counters.as_ref()?.sums();
        let registry = self.registry.as_ref().map(|store| store.loaded());
        let ranges = self.ranges.as_ref().map(|store| store.loaded());
        let of = |is_own, generation| if is_own { generation } else { None };
        Some(ShadowStatus {
            judged,
            differing,
            registry_generation: of(
                registry.is_some(),
                registry.as_ref().map(|loaded| loaded.as_ref().map_or(0, |loaded| loaded.snapshot.generation())),
            ),
            registry_rows: registry.flatten().map(|loaded| loaded.snapshot.len()),
            ranges_generation: ranges.map(|loaded| loaded.map_or(0, |loaded| loaded.ranges.generation())),
            refused: self.health().into_iter().flat_map(|(_, lines)| lines).collect(),
        })
    }
}

/// The shadow's state.
#[derive(Clone, Debug, Serialize)]
pub struct ShadowStatus {
    /// Verdicts reached by both.
    pub judged: u64,
    /// Those whose actions differ.
    pub differing: u64,
    /// The generation of its own registry, 0 while it is not loaded; `None` where the live one serves.
    pub registry_generation: Option<u64>,
    /// Rows of its own registry.
    pub registry_rows: Option<usize>,
    /// The generation of its own ranges, likewise.
    pub ranges_generation: Option<u64>,
    /// Why a reload of them was refused.
    pub refused: Vec<String>,
}

/// A verdict as it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Said {
    /// `allow` or `block`.
    pub action: &'static str,
    /// Why.
    pub reason: &'static str,
    /// By which rule.
    pub rule: &'static str,
}

impl Said {
    fn of(verdict: &Verdict) -> Self {
        Self { action: verdict.action.label(), reason: verdict.reason.label(), rule: verdict.rule.id() }
    }
}

/// One name of which the shadow says something else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShadowRow {
    /// The name that was asked for, or the address.
    pub name: String,
    /// The plane it was met on last.
    pub plane: &'static str,
    /// What is done.
    pub live: Said,
    /// What would be done.
    pub shadow: Said,
    /// When that was first so.
    pub first_seen: String,
    /// When it was last so.
    pub last_seen: String,
    /// How often it was told.
    pub count: u64,
}

struct Row {
    plane: &'static str,
    live: Said,
    shadow: Said,
    first: SystemTime,
    last: SystemTime,
    count: u64,
}

/// See the module's text.
#[derive(Default)]
pub struct Differences {
    rows: Mutex<HashMap<Box<str>, Row>>,
    forgotten: Counter,
}

impl Differences {
    /// Takes verdicts in.
    pub fn take(&self, batch: &[VerdictRecord]) {
        for record in batch {
            if let Some(shadow) = &record.shadow {
                self.count(record, shadow);
            }
        }
    }

    fn count(&self, record: &VerdictRecord, shadow: &Verdict) {
        let name: Box<str> = match (&record.name, record.verdict.address) {
            (Some(name), _) => name.to_string().into(),
            (None, Some(addr)) => addr.to_string().into(),
            (None, None) => record.received.clone().unwrap_or_default(),
        };
        let (plane, live, shadow) = (record.via.label(), Said::of(&record.verdict), Said::of(shadow));
        let mut rows = self.rows();
        if let Some(row) = rows.get_mut(&name) {
            if (row.live, row.shadow) != (live, shadow) {
                // Another difference begins.
                (row.first, row.count) = (record.at, 0);
            }
            (row.plane, row.live, row.shadow, row.last) = (plane, live, shadow, record.at);
            row.count += 1;
            return;
        }
        if rows.len() >= NAMES_MAX {
            self.forget(&mut rows);
        }
        rows.insert(name, Row { plane, live, shadow, first: record.at, last: record.at, count: 1 });
    }

    /// Makes room: those not met for longest go.
    fn forget(&self, rows: &mut HashMap<Box<str>, Row>) {
        let mut lasts: Vec<(SystemTime, Box<str>)> = rows.iter().map(|(name, row)| (row.last, name.clone())).collect();
        let at = FORGET.min(lasts.len().saturating_sub(1));
        lasts.select_nth_unstable(at);
        for (_, name) in &lasts[..at] {
            rows.remove(name);
            self.forgotten.increment();
        }
    }

    /// The first `rows_max` names, those met last first.
    pub fn rows_by_last(&self, rows_max: usize) -> Vec<ShadowRow> {
        let rows = self.rows();
        let mut order: Vec<(&Box<str>, &Row)> = rows.iter().collect();
        order.sort_by(|a, b| b.1.last.cmp(&a.1.last).then_with(|| a.0.cmp(b.0)));
        let shown = |(name, row): (&str, &Row)| ShadowRow {
            name: name.to_string(),
            plane: row.plane,
            live: row.live,
            shadow: row.shadow,
            first_seen: rfc3339(row.first),
            last_seen: rfc3339(row.last),
            count: row.count,
        };
        order.into_iter().take(rows_max).map(|(name, row)| shown((name, row))).collect()
    }

    /// How many names are kept.
    pub fn len(&self) -> usize {
        self.rows().len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.rows().is_empty()
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<Box<str>, Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observe for Differences {
    fn observe(&self, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {
        show("shadow_names", &[], Sample::Value(self.len() as f64));
        show("shadow_names_forgotten_total", &[], Sample::Count(self.forgotten.value()));
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::model::DomainName;
    use crate::ops::seen::tests::block;
    use crate::policy::{Action, Reason};

    /// A block that the shadow would let pass for this reason.
    fn differing(host: &str, seconds: u64, reason: Reason) -> VerdictRecord {
        let record = block(host, seconds);
        let shadow = Some(Verdict { action: Action::Allow, reason, ..record.verdict });
        VerdictRecord { shadow, ..record }
    }

    #[test]
    fn a_name_has_one_row_that_begins_anew_with_another_difference() {
        let table = Differences::default();
        table.take(&[block("plain.cn", 1), differing("a.cn", 1, Reason::Filed), differing("a.cn", 2, Reason::Filed)]);
        let row = &table.rows_by_last(9)[0];
        assert_eq!((row.name.as_str(), row.count, row.shadow.reason, row.live.action), ("a.cn", 2, "filed", "block"));
        assert_eq!((row.first_seen.as_str(), table.len()), ("1970-01-01T00:00:01.000Z", 1));
        table.take(&[differing("a.cn", 3, Reason::Exempt)]);
        let row = &table.rows_by_last(9)[0];
        assert_eq!((row.count, row.shadow.reason), (1, "exempt"));
        assert_eq!(
            (row.first_seen.as_str(), row.last_seen.as_str()),
            ("1970-01-01T00:00:03.000Z", "1970-01-01T00:00:03.000Z")
        );
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_oldest() {
        let table = Differences::default();
        let one = differing("a.cn", 1, Reason::Filed);
        for n in 0..=NAMES_MAX as u64 {
            let name = DomainName::from_host(&format!("d{n}.cn")).expect("a name");
            let at = UNIX_EPOCH + Duration::from_secs(n);
            table.take(&[VerdictRecord { name: Some(name), at, ..one.clone() }]);
        }
        assert_eq!((table.len(), table.forgotten.value()), (NAMES_MAX - FORGET + 1, FORGET as u64));
        assert_eq!(table.rows_by_last(NAMES_MAX).last().map(|row| row.name.clone()), Some(format!("d{FORGET}.cn")));
    }
}
