//! Rates of now, for people who watch: what a counter grew by since it was last looked at.
//!
//! A meter belongs to one viewer and is read once a second by him; without viewers nobody counts anything twice.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use super::journal::rfc3339;
use super::status::StatusSource;
use crate::count::{Labels, Sample};

/// Counters whose growth is shown as one number, each with its name in the line.
const FLOWS: [(&str, &str); 4] = [
    ("dns_queries_total", "queries"),
    ("http_requests_total", "requests"),
    ("tls_connections_total", "tls_connections"),
    ("quic_flights_total", "quic_flights"),
];

/// Plane, action and reason of verdicts.
type Key = (String, String, String);

/// Verdicts of one kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VerdictRate {
    /// `dns` or `http`.
    pub plane: String,
    /// `allow` or `block`.
    pub action: String,
    /// Why.
    pub reason: String,
    /// Each second, since the line before.
    pub rate: f64,
    /// Since the start.
    pub total: u64,
}

/// One line of `/v1/events?what=rates`.
#[derive(Clone, Debug, Serialize)]
pub struct Rates {
    /// When, RFC 3339 in UTC with milliseconds.
    pub at: String,
    /// Over how many seconds rates were taken; 0 in the first line, whose rates are 0.
    pub seconds: f64,
    /// Verdicts of every kind that ever occurred.
    pub verdicts: Vec<VerdictRate>,
    /// Queries, requests, connections of TLS and of QUIC, each second.
    pub flows: BTreeMap<&'static str, f64>,
    /// Connections open now, by plane.
    pub connections: BTreeMap<String, u64>,
    /// As `/readyz`.
    pub ready: bool,
    /// As `/readyz`.
    pub stance: &'static str,
    /// The causes of `/readyz`, those of warnings too: who sees another list asks for the whole.
    pub causes: Vec<String>,
    /// Generations in use.
    pub registry_generation: u64,
    /// See `registry_generation`.
    pub ranges_generation: u64,
}

/// What was read last.
#[derive(Default)]
pub struct Meter {
    last: Option<(Instant, Totals)>,
}

/// Sums of one moment.
#[derive(Default)]
struct Totals {
    verdicts: BTreeMap<Key, u64>,
    flows: BTreeMap<&'static str, u64>,
    connections: BTreeMap<String, u64>,
}

impl Totals {
    fn take(&mut self, name: &str, labels: Labels<'_>, sample: Sample<'_>) {
        let Sample::Count(count) = sample else { return };
        let label = |key: &str| labels.iter().find(|(name, _)| *name == key).map_or("", |(_, value)| value).to_owned();
        if let Some((_, flow)) = FLOWS.iter().find(|(family, _)| *family == name) {
            *self.flows.entry(flow).or_default() += count;
        } else if name == "verdicts_total" && count > 0 {
            *self.verdicts.entry((label("plane"), label("action"), label("reason"))).or_default() += count;
        } else if name == "connections" {
            *self.connections.entry(label("plane")).or_default() += count;
        }
    }
}

impl Meter {
    /// Reads everything, and what it grew by since the last reading.
    pub fn read(&mut self, source: &StatusSource) -> Rates {
        let mut totals = Totals::default();
        source.metrics.each(&mut |name, labels, sample| totals.take(name, labels, sample));
        let now = Instant::now();
        let empty = Totals::default();
        let (seconds, before) = match &self.last {
            Some((at, before)) => (now.duration_since(*at).as_secs_f64(), before),
            None => (0.0, &empty),
        };
        let rate = |before: u64, now: u64| per_second(now.saturating_sub(before), seconds);
        let verdict = |(key, &total): (&Key, &u64)| {
            let (plane, action, reason) = key.clone();
            let before = before.verdicts.get(key).copied().unwrap_or(0);
            VerdictRate { plane, action, reason, rate: rate(before, total), total }
        };
        let flow =
            |(&flow, &total): (&&'static str, &u64)| (flow, rate(before.flows.get(flow).copied().unwrap_or(0), total));
        let readiness = source.health.readiness();
        let view = source.health.view.load_full();
        let res = Rates {
            at: rfc3339(source.health.view.now()),
            seconds,
            verdicts: totals.verdicts.iter().map(verdict).collect(),
            flows: totals.flows.iter().map(flow).collect(),
            connections: totals.connections.clone(),
            ready: readiness.ready,
            stance: readiness.stance,
            causes: readiness.reasons.into_iter().chain(readiness.warnings).map(|note| note.cause).collect(),
            registry_generation: view.registry.generation(),
            ranges_generation: view.ranges.generation(),
        };
        self.last = Some((now, totals));
        res
    }
}

/// Growth over `seconds`, to a hundredth; 0 for the first reading, which has nothing before it.
fn per_second(grown: u64, seconds: f64) -> f64 {
    if seconds <= 0.0 {
        return 0.0;
    }
    // Growth within a second is far below 2^53.
    #[allow(clippy::cast_precision_loss)]
    let rate = grown as f64 / seconds;
    (rate * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_go_by_plane_action_and_reason() {
        let mut totals = Totals::default();
        let labels = [("plane", "dns"), ("action", "block"), ("reason", "not_filed")];
        totals.take("verdicts_total", &labels, Sample::Count(3));
        totals.take("verdicts_total", &[("plane", "dns"), ("action", "allow"), ("reason", "filed")], Sample::Count(0));
        totals.take("dns_queries_total", &[("transport", "udp"), ("type", "A")], Sample::Count(2));
        totals.take("dns_queries_total", &[("transport", "tcp"), ("type", "A")], Sample::Count(5));
        totals.take("registry_filings", &[("status", "active")], Sample::Count(9));
        assert_eq!(totals.verdicts.len(), 1, "what never occurred is left out");
        assert_eq!(totals.flows["queries"], 7);
        assert!(totals.connections.is_empty());
    }

    #[test]
    fn rates_are_by_the_second() {
        for (grown, seconds, rate) in [(0, 1.0, 0.0), (3, 2.0, 1.5), (1, 3.0, 0.33), (7, 0.0, 0.0)] {
            assert!((per_second(grown, seconds) - rate).abs() < 1e-9, "{grown} in {seconds}");
        }
    }
}
