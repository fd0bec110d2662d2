//! Counters that planes and stores own: relaxed atomics with one way to be read.
//!
//! A layer counts into its own `Counters` struct and shows it through [`Observe`]; `ops` renders what it is shown and
//! holds the table of names and help texts. Labels come from closed enums, never from input. [`plural`] shows a count to
//! people.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// "1 row", "2 rows".
pub fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down; never below zero.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Replaces the value.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Adds one for as long as the guard lives.
    pub fn enter(&self) -> GaugeGuard<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        GaugeGuard(self)
    }

    /// The value now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One unit of a [`Gauge`]; dropping it takes the unit back.
#[derive(Debug)]
pub struct GaugeGuard<'a>(&'a Gauge);

impl Drop for GaugeGuard<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Upper bounds of the buckets in seconds, from a cache hit to a hopeless upstream.
pub const BUCKETS_SECONDS: [f64; 12] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// A distribution of times over [`BUCKETS_SECONDS`].
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS_SECONDS.len() + 1],
    sum_nanos: AtomicU64,
}

impl Histogram {
    /// Counts one time.
    pub fn observe(&self, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        let at = BUCKETS_SECONDS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS_SECONDS.len());
        self.buckets[at].fetch_add(1, Ordering::Relaxed);
        self.sum_nanos.fetch_add(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Count per bucket, not cumulative; the last is everything above the last bound.
    pub fn counts(&self) -> [u64; BUCKETS_SECONDS.len() + 1] {
        std::array::from_fn(|i| self.buckets[i].load(Ordering::Relaxed))
    }

    /// Sum of all times in seconds.
    pub fn sum_seconds(&self) -> f64 {
        Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed)).as_secs_f64()
    }
}

/// Upper bounds of the buckets in octets, from the smallest hello to the longest a server takes.
pub const BUCKETS_BYTES: [f64; 12] =
    [128.0, 256.0, 512.0, 768.0, 1024.0, 1536.0, 2048.0, 3072.0, 4096.0, 8192.0, 16384.0, 65536.0];

/// A distribution of sizes over [`BUCKETS_BYTES`].
#[derive(Debug, Default)]
pub struct Sizes {
    buckets: [AtomicU64; BUCKETS_BYTES.len() + 1],
    sum: AtomicU64,
}

impl Sizes {
    /// Counts one size.
    pub fn observe(&self, octets: usize) {
        let at = BUCKETS_BYTES.iter().position(|bound| octets as f64 <= *bound).unwrap_or(BUCKETS_BYTES.len());
        self.buckets[at].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(octets as u64, Ordering::Relaxed);
    }

    /// Count per bucket, not cumulative; the last is everything above the last bound.
    pub fn counts(&self) -> [u64; BUCKETS_BYTES.len() + 1] {
        std::array::from_fn(|i| self.buckets[i].load(Ordering::Relaxed))
    }

    /// Sum of all sizes.
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }
}

/// One reading of one series.
#[derive(Clone, Copy, Debug)]
pub enum Sample<'a> {
    /// A counter or gauge of whole units.
    Count(u64),
    /// A distribution of octets.
    Sizes(&'a Sizes),
    /// A distribution of times.
    Times(&'a Histogram),
    /// A gauge in seconds or another base unit.
    Value(f64),
}

/// Label names and values of one series; values come from closed enums or from the configuration.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// What can be shown to the metrics exposition.
pub trait Observe: Send + Sync {
    /// Calls `show` once per series: family name without the `icpgate_` prefix, labels, reading.
    fn observe(&self, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>));
}
