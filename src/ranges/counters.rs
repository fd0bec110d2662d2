//! What the ranges count.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use super::stat::stat;
use super::store::Loaded;
use crate::count::{Counter, Histogram, Labels, Observe, Sample};
use crate::model::Region;
use crate::registry::store::{count_by_rule, lock};

/// The ranges' counters; owned by the store, read by `ops`.
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
}

/// Figures of the last published state.
#[derive(Debug, Default)]
struct Latest {
    generation: u64,
    loaded_at: f64,
    /// IPv4 addresses and IPv6 sites by region.
    by_region: BTreeMap<&'static str, (u128, u128)>,
    by_rule: Vec<(&'static str, u64)>,
}

impl Counters {
    /// Takes over the figures of a published state.
    pub fn published(&self, loaded: &Loaded, elapsed: Duration) {
        self.published.increment();
        self.seconds.observe(elapsed);
        let since = loaded.loaded_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut by_region: BTreeMap<&'static str, (u128, u128)> = BTreeMap::new();
        for row in stat(&loaded.ranges).rows {
            let sums = by_region.entry(row.region).or_default();
            *sums = (sums.0 + row.v4_addresses, sums.1 + row.v6_sites);
        }
        *lock(&self.latest) = Latest {
            generation: loaded.ranges.generation(),
            loaded_at: since.as_secs_f64(),
            by_region,
            by_rule: count_by_rule(&loaded.issues).into_iter().collect(),
        };
    }
}

impl Observe for Counters {
    fn observe(&self, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {
        let outcomes = [("published", &self.published), ("refused", &self.refused), ("unchanged", &self.unchanged)];
        for (outcome, counter) in outcomes {
            show("ranges_reloads_total", &[("outcome", outcome)], Sample::Count(counter.value()));
        }
        show("ranges_reload_seconds", &[], Sample::Times(&self.seconds));
        let latest = lock(&self.latest);
        show("ranges_generation", &[], Sample::Count(latest.generation));
        show("ranges_loaded_timestamp_seconds", &[], Sample::Value(latest.loaded_at));
        let fit = |count: u128| Sample::Count(u64::try_from(count).unwrap_or(u64::MAX));
        for (_, region, _) in Region::ALL {
            let (v4, v6) = latest.by_region.get(region).copied().unwrap_or_default();
            show("ranges_ipv4_addresses", &[("region", region)], fit(v4));
            show("ranges_ipv6_sites", &[("region", region)], fit(v6));
        }
        for &(rule, count) in &latest.by_rule {
            show("ranges_issues", &[("rule", rule)], Sample::Count(count));
        }
    }
}
