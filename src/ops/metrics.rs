//! The table of every metric, and its rendering in the Prometheus text format (version 0.0.4).
//!
//! Planes and stores count; what they show through [`Observe`] is grouped by family here, so that a family several of
//! them share (`verdicts_total`, `connections`) is written once. A series that is not in [`FAMILIES`] is not written and
//! is named by [`Metrics::strangers`], which a test holds empty.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::count::{BUCKETS_BYTES, BUCKETS_SECONDS, Histogram, Labels, Observe, Sample};

/// What stands before every name.
const PREFIX: &str = "icpgate_";

/// How a family's numbers behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

impl Kind {
    /// The word after `# TYPE`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The name without `icpgate_`.
    pub name: &'static str,
    /// How its numbers behave.
    pub kind: Kind,
    /// What it tells, in one sentence.
    pub help: &'static str,
    /// Label names of every series, in order.
    pub labels: &'static [&'static str],
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, help, labels }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help, labels }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: Kind::Histogram, help, labels }
}

/// Every family, in order of names.
pub const FAMILIES: &[Family] = &[
    counter("admin_handshakes_failed_total", &[], "TLS handshakes of the admin listener that failed."),
    counter("admin_requests_total", &["status"], "Requests to the admin listener by class of status."),
    counter("alert_domains_dropped_total", &["sink"], "New unfiled domains that could not be told."),
    counter("alert_domains_sent_total", &["sink"], "New unfiled domains that were told."),
    counter("alert_failures_total", &["sink"], "Attempts to tell of domains that failed."),
    gauge("build_info", &["version"], "Always 1; the version is the label."),
    gauge("clock_offset_seconds", &[], "How far the time of day moved against the monotonic clock."),
    gauge("connections", &["plane"], "Connections open now."),
    counter("connections_refused_total", &["plane"], "Connections turned away at a limit."),
    gauge("dns_cache_bytes", &[], "Octets in the answer cache."),
    counter("dns_cache_total", &["outcome"], "Looks into the answer cache."),
    gauge(
        "dns_certificate_expiry_timestamp_seconds",
        &["transport"],
        "When the certificate of DNS over TLS, HTTPS or QUIC expires; 0 without one.",
    ),
    counter("dns_decode_errors_total", &["kind"], "Packets that are no readable query."),
    counter("dns_dnstap_frames_total", &["outcome"], "Frames of dnstap, written or dropped."),
    counter("dns_dnstap_opened_total", &["outcome"], "Times the target of dnstap was opened, or failed."),
    gauge("dns_dnstap_up", &[], "1 while the target of dnstap is open."),
    counter("dns_handshakes_total", &["transport", "outcome"], "Handshakes of DNS over TLS, HTTPS and QUIC."),
    counter("dns_http2_floods_total", &["kind"], "Connections of DNS over HTTPS ended as floods."),
    counter("dns_http_refusals_total", &["status"], "Requests of DNS over HTTPS that carry no query."),
    counter("dns_prefetches_total", &["outcome"], "Answers asked for anew before they ended."),
    counter("dns_proxy_headers_total", &["outcome"], "What stood where a PROXY header has to, by what became of it."),
    counter("dns_queries_total", &["transport", "type"], "Decoded queries."),
    counter("dns_quic_protocol_errors_total", &[], "Connections of DNS over QUIC ended for a broken rule."),
    counter("dns_rate_limited_total", &["action"], "Responses over the limit of rates, not sent or sent short."),
    counter("dns_refusals_total", &["kind"], "Queries that got no ordinary answer."),
    counter("dns_responses_total", &["rcode"], "Responses sent."),
    gauge("faults", &["fault"], "1 while the fault is present."),
    counter("http2_connections_total", &[], "Client connections that speak HTTP/2."),
    counter("http2_floods_total", &["kind"], "Connections of HTTP/2 ended as floods."),
    counter("http2_resets_total", &["by"], "Streams of HTTP/2 reset before their end."),
    counter("http_address_hosts_total", &[], "Requests whose host is an address."),
    gauge(
        "http_certificate_expiry_timestamp_seconds",
        &[],
        "When the first certificate by which TLS ends here expires; 0 without any.",
    ),
    counter("http_handshakes_total", &["outcome"], "TLS handshakes of connections that end here."),
    counter("http_loops_total", &[], "Connections to origins that came back to the gate, HTTP and TLS."),
    counter("http_origin_connections_total", &[], "Connections opened to the origin."),
    counter("http_origin_errors_total", &["kind"], "Failures of the origin or the way to it."),
    counter("http_origin_retries_total", &[], "Requests sent again on a fresh connection to the origin."),
    histogram("http_origin_seconds", &[], "Time the origin took to begin its response."),
    counter("http_parse_errors_total", &["kind"], "Requests that cannot be read."),
    counter("http_proxy_headers_total", &[], "Connections that began with a PROXY header from a trusted peer."),
    counter("http_requests_total", &["outcome"], "Requests by what became of them."),
    counter("http_upgrades_total", &["outcome"], "Connections that became streams after the origin's 101."),
    counter("http_without_host_total", &[], "Requests without a host."),
    counter("journal_errors_total", &[], "Failed attempts to open or write the journal."),
    counter("journal_lines_total", &[], "Verdicts written to the journal."),
    counter("journal_opened_total", &[], "Times the journal file was opened, after rotation too."),
    counter("journal_rotations_total", &[], "Times the journal was rotated by its size."),
    gauge("journal_sequence", &[], "Number of the last line of a chained journal; 0 without journal.chain."),
    gauge("open_descriptors", &[], "Open file descriptors."),
    gauge(
        "part_refused",
        &["part"],
        "1 while zones, pages, certificates or secrets stay refused and older ones are used.",
    ),
    counter(
        "part_reloads_total",
        &["part", "outcome"],
        "Reloads of zones, pages, certificates and secrets of cookies.",
    ),
    counter("quic_datagrams_dropped_total", &["kind"], "Datagrams of QUIC that went nowhere."),
    counter(
        "quic_datagrams_total",
        &["direction"],
        "Datagrams of QUIC forwarded to the origin (in) and to clients (out).",
    ),
    counter("quic_flights_total", &["outcome"], "First packets of QUIC connections by what became of them."),
    gauge("quic_flows", &["state"], "QUIC flows now: waiting for a whole hello, opening, open."),
    counter("quic_flows_ended_total", &["reason"], "QUIC flows that ended."),
    gauge("quic_held_bytes", &[], "Octets held until a verdict, and of handshakes under way."),
    counter("quic_migrations_total", &[], "Known QUIC flows that came from another client address."),
    counter(
        "quic_replies_total",
        &["kind"],
        "QUIC closes and version negotiations sent, and replies withheld over the limit.",
    ),
    gauge("ranges_generation", &[], "Generation of the ranges in use."),
    gauge("ranges_ipv4_addresses", &["region"], "IPv4 addresses by region."),
    gauge("ranges_ipv6_sites", &["region"], "IPv6 /48 sites by region."),
    gauge("ranges_issues", &["rule"], "Findings in the ranges' files."),
    gauge("ranges_loaded_timestamp_seconds", &[], "When the ranges in use were loaded."),
    histogram("ranges_reload_seconds", &[], "Duration of range loads that published."),
    counter("ranges_reloads_total", &["outcome"], "Range reloads."),
    gauge("ready", &[], "1 while /readyz answers 200."),
    gauge("registry_age_seconds", &[], "Time since a load or an unchanged reload last confirmed the registry."),
    gauge("registry_filings", &["status"], "Filings by state."),
    gauge("registry_generation", &[], "Generation of the registry in use."),
    gauge("registry_issues", &["rule"], "Errors and warnings in the registry by check."),
    gauge("registry_loaded_timestamp_seconds", &[], "When the registry in use was loaded."),
    histogram("registry_reload_seconds", &[], "Duration of registry loads that published."),
    counter("registry_reloads_total", &["outcome"], "Registry reloads."),
    gauge(
        "registry_snapshot_timestamp_seconds",
        &["writer"],
        "When the registry's compiled copy was written; 0 where it is not there.",
    ),
    gauge("resident_memory_bytes", &[], "Memory in use."),
    gauge("shadow_names", &[], "Names of which the shadow says something else."),
    counter("shadow_names_forgotten_total", &[], "Names forgotten to make room for others."),
    counter(
        "shadow_verdicts_total",
        &["plane", "live", "shadow"],
        "Verdicts that the shadow reached too, by what is done and what would be done.",
    ),
    counter("sink_dropped_total", &[], "Verdicts the journal was too slow to take."),
    counter("socket_errors_total", &["plane"], "Errors of accept, receive and send."),
    gauge("stance", &["stance"], "1 for the way verdicts are acted on now."),
    gauge("start_timestamp_seconds", &[], "When the process started."),
    counter("tls_address_names_total", &[], "ClientHellos that name an address."),
    counter("tls_connections_total", &["outcome"], "TLS connections by what became of them."),
    histogram("tls_hello_bytes", &[], "Length of whole ClientHellos."),
    counter("tls_hello_reads_total", &["reads"], "Whole ClientHellos by how many reads brought them."),
    counter("tls_origin_errors_total", &["kind"], "Failures of the way to the origin of TLS."),
    counter("tls_parse_errors_total", &["kind"], "First octets of TLS that are no ClientHello."),
    counter("tls_retries_total", &["outcome"], "Second ClientHellos after a HelloRetryRequest."),
    gauge("tls_tunnels", &[], "TLS connections that are passed on now."),
    counter("tls_tunnels_ended_total", &["by"], "TLS connections that the gate ended while they were passed on."),
    counter("tls_without_name_total", &[], "ClientHellos without a name."),
    gauge("unfiled_domains", &[], "Domains remembered that were met in live traffic and blocked."),
    counter("unfiled_domains_forgotten_total", &[], "Domains forgotten to make room for others."),
    counter("unfiled_domains_new_total", &[], "Domains met for the first time and blocked."),
    counter("unfiled_domains_save_errors_total", &[], "Failures to write the file of such domains."),
    counter("upstream_coalesced_total", &[], "Questions that shared another's exchange."),
    counter("upstream_hedges_total", &["server", "outcome"], "A second server asked beside one that was late."),
    counter("upstream_queries_total", &["server", "outcome"], "Exchanges with upstream servers."),
    histogram("upstream_seconds", &["server"], "Time upstream servers took to answer."),
    gauge("upstream_up", &["server"], "0 while a server is tried last after failures."),
    gauge("uptime_seconds", &[], "Time since the process started."),
    counter("verdicts_total", &["plane", "action", "reason"], "Verdicts reached."),
];

/// The family of this name.
pub fn family(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.name == name)
}

/// What all sources show, rendered on demand.
#[derive(Clone, Default)]
pub struct Metrics {
    sources: Vec<Arc<dyn Observe>>,
}

impl Metrics {
    /// Metrics of these sources.
    pub fn new(sources: Vec<Arc<dyn Observe>>) -> Self {
        Self { sources }
    }

    /// The text exposition: every family of the table, its series in order of their labels.
    ///
    /// A family without labels that nobody shows is 0.
    pub fn render(&self) -> String {
        let gathered = self.gather();
        let mut res = String::with_capacity(16 << 10);
        for family in FAMILIES {
            let name = family.name;
            let series = gathered.series.get(name);
            // Writing to a string cannot fail.
            let _ = writeln!(res, "# HELP {PREFIX}{name} {}", escape(family.help, Place::Help));
            let _ = writeln!(res, "# TYPE {PREFIX}{name} {}", family.kind.label());
            for (labels, reading) in series.into_iter().flatten() {
                reading.render(&mut res, name, labels);
            }
            if series.is_none() && family.labels.is_empty() {
                Reading::zero(family.kind).render(&mut res, name, "");
            }
        }
        res
    }

    /// Series shown that the table does not know as they are shown: name, labels or kind differ.
    pub fn strangers(&self) -> Vec<String> {
        self.gather().strangers
    }

    /// Calls `show` with every reading of now, as the sources show them: a series two sources share comes twice.
    pub fn each(&self, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {
        for source in &self.sources {
            source.observe(show);
        }
    }

    /// The sum of a family's series, for people; histograms count their events.
    pub fn sum(&self, name: &str) -> f64 {
        let gathered = self.gather();
        gathered.series.get(name).into_iter().flat_map(BTreeMap::values).map(Reading::total).sum()
    }

    fn gather(&self) -> Gathered {
        let mut res = Gathered::default();
        self.each(&mut |name, labels, sample| res.take(name, labels, sample));
        res
    }
}

/// All series of one moment.
#[derive(Default)]
struct Gathered {
    series: BTreeMap<&'static str, BTreeMap<String, Reading>>,
    strangers: Vec<String>,
}

impl Gathered {
    fn take(&mut self, name: &'static str, labels: Labels<'_>, sample: Sample<'_>) {
        let known = family(name).filter(|family| {
            let same_labels = family.labels.iter().eq(labels.iter().map(|(label, _)| label));
            let same_kind = matches!(sample, Sample::Sizes(_) | Sample::Times(_)) == (family.kind == Kind::Histogram);
            same_labels && same_kind
        });
        let Some(family) = known else {
            let labels: Vec<&str> = labels.iter().map(|&(label, _)| label).collect();
            self.strangers.push(format!("{name}{{{}}}", labels.join(",")));
            return;
        };
        let reading = Reading::of(sample);
        let series = self.series.entry(family.name).or_default();
        match series.get_mut(&label_text(labels)) {
            // One series shown twice: a server that is in two groups.
            Some(there) => there.merge(reading, family.kind),
            None => drop(series.insert(label_text(labels), reading)),
        }
    }
}

/// One number or distribution, read once.
enum Reading {
    Count(u64),
    Spread { bounds: [f64; BUCKETS_SECONDS.len()], counts: [u64; BUCKETS_SECONDS.len() + 1], sum: f64 },
    Value(f64),
}

impl Reading {
    fn of(sample: Sample<'_>) -> Self {
        match sample {
            Sample::Count(n) => Self::Count(n),
            #[allow(clippy::cast_precision_loss)]
            Sample::Sizes(sizes) => {
                Self::Spread { bounds: BUCKETS_BYTES, counts: sizes.counts(), sum: sizes.sum() as f64 }
            }
            Sample::Times(times) => {
                Self::Spread { bounds: BUCKETS_SECONDS, counts: times.counts(), sum: times.sum_seconds() }
            }
            Sample::Value(value) => Self::Value(value),
        }
    }

    fn zero(kind: Kind) -> Self {
        if kind == Kind::Histogram { Self::of(Sample::Times(&Histogram::default())) } else { Self::Count(0) }
    }

    fn total(&self) -> f64 {
        match self {
            // Counters beyond 2^53 lose their last digits to people, not to the exposition.
            #[allow(clippy::cast_precision_loss)]
            Self::Count(n) => *n as f64,
            #[allow(clippy::cast_precision_loss)]
            Self::Spread { counts, .. } => counts.iter().sum::<u64>() as f64,
            Self::Value(value) => *value,
        }
    }

    /// Counters add up; of a gauge the lower reading counts, so that "down" wins.
    fn merge(&mut self, other: Self, kind: Kind) {
        match (self, other) {
            (Self::Count(a), Self::Count(b)) if kind == Kind::Counter => *a += b,
            (Self::Count(a), Self::Count(b)) => *a = (*a).min(b),
            (Self::Spread { counts, sum, .. }, Self::Spread { counts: more, sum: greater, .. }) => {
                counts.iter_mut().zip(more).for_each(|(count, n)| *count += n);
                *sum += greater;
            }
            (Self::Value(a), Self::Value(b)) => *a = a.min(b),
            (_, _) => {}
        }
    }

    fn render(&self, res: &mut String, name: &str, labels: &str) {
        // Writing to a string cannot fail.
        let _ = match self {
            Self::Count(n) => writeln!(res, "{PREFIX}{name}{} {n}", braced(labels)),
            Self::Value(value) => writeln!(res, "{PREFIX}{name}{} {value}", braced(labels)),
            Self::Spread { bounds, counts, sum: total } => {
                let mut sum = 0;
                let bounds = bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
                for (bound, count) in bounds.zip(counts) {
                    sum += count;
                    let separator = if labels.is_empty() { "" } else { "," };
                    let _ = writeln!(res, "{PREFIX}{name}_bucket{{{labels}{separator}le=\"{bound}\"}} {sum}");
                }
                let _ = writeln!(res, "{PREFIX}{name}_sum{} {total}", braced(labels));
                writeln!(res, "{PREFIX}{name}_count{} {sum}", braced(labels))
            }
        };
    }
}

fn braced(labels: &str) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{labels}}}") }
}

fn label_text(labels: Labels<'_>) -> String {
    let pairs: Vec<String> =
        labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value, Place::Label))).collect();
    pairs.join(",")
}

/// Where text stands in the exposition.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Help,
    Label,
}

/// Escapes as the text format asks: backslash and line feed everywhere, quotes in label values.
fn escape(text: &str, place: Place) -> String {
    let text = text.replace('\\', r"\\").replace('\n', r"\n");
    if place == Place::Label { text.replace('"', "\\\"") } else { text }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Shows one upstream with an odd name twice, and whatever name it is given.
    struct Source(&'static str, Histogram);

    impl Observe for Source {
        fn observe(&self, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {
            show("upstream_up", &[("server", "a\"b\\c\nd")], Sample::Count(1));
            show("upstream_up", &[("server", "a\"b\\c\nd")], Sample::Count(0));
            show("upstream_seconds", &[("server", "x")], Sample::Times(&self.1));
            show(self.0, &[], Sample::Count(3));
        }
    }

    fn metrics(name: &'static str) -> Metrics {
        let times = Histogram::default();
        times.observe(Duration::from_millis(2));
        times.observe(Duration::from_secs(60));
        Metrics::new(vec![Arc::new(Source(name, times))])
    }

    #[test]
    fn table_is_sorted_and_named_by_the_rules() {
        assert!(FAMILIES.is_sorted_by(|a, b| a.name < b.name));
        for family in FAMILIES {
            assert_eq!(family.name.ends_with("_total"), family.kind == Kind::Counter, "{}", family.name);
            assert!(family.help.ends_with('.'), "{}", family.name);
            let is_plain = |text: &str| {
                text.bytes().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'_')
            };
            assert!(is_plain(family.name) && family.labels.iter().all(|label| is_plain(label)), "{}", family.name);
        }
    }

    #[test]
    fn labels_are_escaped_and_series_written_once() {
        let text = metrics("sink_dropped_total").render();
        assert!(text.contains("icpgate_upstream_up{server=\"a\\\"b\\\\c\\nd\"} 0\n"), "{text}");
        assert_eq!(text.matches("icpgate_upstream_up{").count(), 1);
        assert!(text.contains("icpgate_sink_dropped_total 3\n"));
    }

    #[test]
    fn histograms_are_cumulative() {
        let text = metrics("sink_dropped_total").render();
        assert!(text.contains("icpgate_upstream_seconds_bucket{server=\"x\",le=\"0.001\"} 0\n"), "{text}");
        assert!(text.contains("icpgate_upstream_seconds_bucket{server=\"x\",le=\"0.005\"} 1\n"));
        assert!(text.contains("icpgate_upstream_seconds_bucket{server=\"x\",le=\"10\"} 1\n"));
        assert!(text.contains("icpgate_upstream_seconds_bucket{server=\"x\",le=\"+Inf\"} 2\n"));
        assert!(text.contains("icpgate_upstream_seconds_sum{server=\"x\"} 60.002\n"));
        assert!(text.contains("icpgate_upstream_seconds_count{server=\"x\"} 2\n"));
    }

    #[test]
    fn families_nobody_shows_are_there() {
        let text = Metrics::default().render();
        assert!(text.contains("\nicpgate_registry_generation 0\n"));
        assert!(text.contains("\nicpgate_registry_reload_seconds_count 0\n"));
        for family in FAMILIES {
            assert_eq!(text.matches(&format!("# TYPE icpgate_{} ", family.name)).count(), 1);
        }
    }

    #[test]
    fn series_outside_the_table_are_named() {
        assert_eq!(metrics("no_such_family").strangers(), ["no_such_family{}"]);
        assert_eq!(metrics("verdicts_total").strangers(), ["verdicts_total{}"], "its labels are missing");
        assert!(!metrics("no_such_family").render().contains("no_such"));
        assert_eq!(metrics("sink_dropped_total").strangers(), Vec::<String>::new());
    }
}
