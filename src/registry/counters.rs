//! What the registry counts.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use super::lint::{CHECKS, Reads};
use super::store::{Loaded, count_by_rule};
use crate::count::{Counter, Histogram, Labels, Observe, Sample};
use crate::model::Status;

/// The registry's counters; owned by the store, read by `ops`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Reloads that published.
    pub published: Counter,
    /// Reloads that were refused.
    pub refused: Counter,
    /// Reloads that found nothing new.
    pub unchanged: Counter,
    seconds: Histogram,
    latest: Mutex<Latest>,
    linted: Mutex<BTreeMap<&'static str, u64>>,
}

#[derive(Debug, Default)]
struct Latest {
    generation: u64,
    loaded_at: f64,
    by_status: Vec<(&'static str, u64)>,
    by_rule: BTreeMap<&'static str, u64>,
}

impl Counters {
    /// Takes over the figures of a published state.
    pub fn published(&self, loaded: &Loaded, elapsed: Duration) {
        self.published.increment();
        self.seconds.observe(elapsed);
        let since = loaded.loaded_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let by_status = loaded.snapshot.rows_by_status();
        if let Ok(mut latest) = self.latest.lock() {
            *latest = Latest {
                generation: loaded.snapshot.generation(),
                loaded_at: since.as_secs_f64(),
                by_status: by_status.map(|(status, count)| (status.label(), count as u64)).to_vec(),
                by_rule: count_by_rule(&loaded.issues),
            };
        }
    }

    /// Takes over what the linter found beside what the load found.
    pub fn linted(&self, by_rule: BTreeMap<&'static str, u64>) {
        if let Ok(mut linted) = self.linted.lock() {
            *linted = by_rule;
        }
    }
}

impl Observe for Counters {
    fn observe(&self, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {
        let outcomes = [("published", &self.published), ("refused", &self.refused), ("unchanged", &self.unchanged)];
        for (outcome, counter) in outcomes {
            show("registry_reloads_total", &[("outcome", outcome)], Sample::Count(counter.value()));
        }
        show("registry_reload_seconds", &[], Sample::Times(&self.seconds));
        let Ok(latest) = self.latest.lock() else { return };
        show("registry_generation", &[], Sample::Count(latest.generation));
        show("registry_loaded_timestamp_seconds", &[], Sample::Value(latest.loaded_at));
        for (status, _, _) in Status::ALL {
            let found = latest.by_status.iter().find(|(label, _)| *label == status.label());
            show(
                "registry_filings",
                &[("status", status.label())],
                Sample::Count(found.map_or(0, |&(_, count)| count)),
            );
        }
        let Ok(linted) = self.linted.lock() else { return };
        // What is nobody's to find here has no series, rather than one that is always 0.
        for check in CHECKS.iter().filter(|check| check.reads != Reads::World) {
            let count = |found: &BTreeMap<&'static str, u64>| found.get(check.id).copied().unwrap_or(0);
            let sum = count(&latest.by_rule) + count(&linted);
            show("registry_issues", &[("rule", check.id)], Sample::Count(sum));
        }
    }
}
