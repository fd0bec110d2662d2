//! What the DNS plane counts. Sums close: queries = responses + dropped, once nothing is in flight.

use super::proxied::HeaderOutcome;
use super::question::DecodeError;
use super::send::Transport;
use crate::count::{Counter, Gauge, Labels, Observe, Sample};
use crate::meter::Flood;
use crate::policy::{Action, Reason, Verdict};

/// Types with a label of their own; every other is `other`.
const TYPES: [(u16, &str); 15] = [
    (1, "A"),
    (28, "AAAA"),
    (65, "HTTPS"),
    (64, "SVCB"),
    (5, "CNAME"),
    (15, "MX"),
    (16, "TXT"),
    (2, "NS"),
    (6, "SOA"),
    (12, "PTR"),
    (33, "SRV"),
    (43, "DS"),
    (48, "DNSKEY"),
    (257, "CAA"),
    (255, "ANY"),
];

/// Response codes with a label of their own; every other is `other`.
const RCODES: [(u16, &str); 6] =
    [(0, "NOERROR"), (1, "FORMERR"), (2, "SERVFAIL"), (3, "NXDOMAIN"), (4, "NOTIMP"), (5, "REFUSED")];

/// What became of a look into the answer cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheOutcome {
    /// Answered from it.
    Hit,
    /// Not there, or too old.
    Miss,
    /// Answered from it after judging again under a new generation.
    Rejudged,
    /// Answered past its lifetime, upstreams being down.
    Stale,
}

impl CacheOutcome {
    const ALL: [(Self, &'static str); 4] =
        [(Self::Hit, "hit"), (Self::Miss, "miss"), (Self::Rejudged, "rejudged"), (Self::Stale, "stale")];
}

/// How a handshake of an encrypted transport ended, in the order of `ALL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// It was completed.
    Done,
    /// The two could not agree, or the client broke off.
    Failed,
    /// It took too long.
    Slow,
}

impl Handshake {
    const ALL: [(Self, &'static str); 3] = [(Self::Done, "done"), (Self::Failed, "failed"), (Self::Slow, "slow")];
}

/// Statuses that requests of DNS over HTTPS are refused with.
pub const HTTP_REFUSALS: [(u16, &str); 6] =
    [(400, "400"), (404, "404"), (405, "405"), (408, "408"), (413, "413"), (415, "415")];

/// The DNS plane's counters; shared by its listeners, read by `ops`.
#[derive(Debug, Default)]
pub struct Counters {
    queries: [[Counter; TYPES.len() + 1]; Transport::ALL.len()],
    undecodable: [Counter; 5],
    responses: [Counter; RCODES.len() + 1],
    cache: [Counter; 4],
    verdicts: [[Counter; Reason::ALL.len()]; 2],
    handshakes: [[Counter; Handshake::ALL.len()]; Transport::ALL.len()],
    http_refusals: [Counter; HTTP_REFUSALS.len()],
    floods: [Counter; Flood::ALL.len()],
    proxy_headers: [Counter; HeaderOutcome::ALL.len()],
    /// Connections of DNS over QUIC ended because the client broke its rules.
    pub quic_protocol_errors: Counter,
    /// Packets that got no answer: not queries, or blocked by silence.
    pub dropped: Counter,
    /// Responses over the limit of rates that were not sent.
    pub limited_dropped: Counter,
    /// Those that were sent short.
    pub limited_slipped: Counter,
    /// Clients outside `allow-from`.
    pub prohibited: Counter,
    /// Queries refused because too many wait.
    pub overloaded: Counter,
    /// Queries answered SERVFAIL because the gate is not ready.
    pub not_ready: Counter,
    /// Questions no upstream answered.
    pub unreachable: Counter,
    /// Upstream or zone answers that could not be read.
    pub unreadable: Counter,
    /// Frames of dnstap that were written.
    pub dnstap_written: Counter,
    /// Those that were dropped: the queue was full, or the target broke.
    pub dnstap_dropped: Counter,
    /// Times the target of dnstap was opened.
    pub dnstap_opened: Counter,
    /// Times it could not be, or broke.
    pub dnstap_errors: Counter,
    /// 1 while it is open.
    pub dnstap_up: Gauge,
    /// Errors of sockets: accept, receive, send.
    pub socket_errors: Counter,
    /// Connections turned away at a limit.
    pub connections_refused: Counter,
    /// Connections now, of every transport that has them.
    pub connections: Gauge,
    /// Octets in the answer cache.
    pub cache_octets: Gauge,
    /// Answers asked for anew before they ended.
    pub renewals: Counter,
    /// Such questions that no upstream answered.
    pub renewals_failed: Counter,
}

impl Counters {
    /// Counts a decoded query.
    pub fn query(&self, transport: Transport, qtype: u16) {
        let at = TYPES.iter().position(|&(code, _)| code == qtype).unwrap_or(TYPES.len());
        self.queries[transport as usize][at].increment();
    }

    /// Counts a packet that could not be decoded.
    pub fn undecodable(&self, error: DecodeError) {
        self.undecodable[DecodeError::ALL.iter().position(|kind| *kind == error).unwrap_or(0)].increment();
    }

    /// Counts a message sent, by the code in its header.
    pub fn response(&self, message: &[u8], rcode_high: u8) {
        let code = message.get(3).map_or(2, |octet| u16::from(rcode_high) << 4 | u16::from(octet & 0xf));
        let at = RCODES.iter().position(|&(known, _)| known == code).unwrap_or(RCODES.len());
        self.responses[at].increment();
    }

    /// Counts a handshake.
    pub fn handshake(&self, transport: Transport, outcome: Handshake) {
        self.handshakes[transport as usize][outcome as usize].increment();
    }

    /// Handshakes of a transport with an outcome so far.
    pub fn handshakes(&self, transport: Transport, outcome: Handshake) -> u64 {
        self.handshakes[transport as usize][outcome as usize].value()
    }

    /// Counts a request of DNS over HTTPS that was refused with `status`.
    pub fn http_refusal(&self, status: u16) {
        if let Some(at) = HTTP_REFUSALS.iter().position(|&(known, _)| known == status) {
            self.http_refusals[at].increment();
        }
    }

    /// Counts a connection of DNS over HTTPS that was ended as a flood.
    pub fn flood(&self, kind: Flood) {
        self.floods[kind as usize].increment();
    }

    /// Connections ended as a flood of a kind so far.
    pub fn floods(&self, kind: Flood) -> u64 {
        self.floods[kind as usize].value()
    }

    /// Counts what stood where a PROXY header has to.
    pub fn proxy_header(&self, outcome: HeaderOutcome) {
        self.proxy_headers[outcome as usize].increment();
    }

    /// PROXY headers with an outcome so far.
    pub fn proxy_headers(&self, outcome: HeaderOutcome) -> u64 {
        self.proxy_headers[outcome as usize].value()
    }

    /// Counts a look into the cache.
    pub fn cache(&self, outcome: CacheOutcome) {
        self.cache[outcome as usize].increment();
    }

    /// Counts a verdict.
    pub fn verdict(&self, verdict: &Verdict) {
        self.verdicts[verdict.action as usize][verdict.reason.index()].increment();
    }
}

impl Observe for Counters {
    fn observe(&self, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {
        let count = |counter: &Counter| Sample::Count(counter.value());
        for transport in Transport::ALL {
            let names = TYPES.iter().map(|&(_, name)| name).chain(["other"]);
            for (name, counter) in names.zip(&self.queries[transport as usize]) {
                show("dns_queries_total", &[("transport", transport.label()), ("type", name)], count(counter));
            }
        }
        for (kind, counter) in DecodeError::ALL.iter().zip(&self.undecodable) {
            show("dns_decode_errors_total", &[("kind", kind.label())], count(counter));
        }
        for (name, counter) in RCODES.iter().map(|&(_, name)| name).chain(["other"]).zip(&self.responses) {
            show("dns_responses_total", &[("rcode", name)], count(counter));
        }
        for ((_, name), counter) in CacheOutcome::ALL.iter().zip(&self.cache) {
            show("dns_cache_total", &[("outcome", name)], count(counter));
        }
        for action in [Action::Allow, Action::Block] {
            for reason in Reason::ALL {
                let labels = [("plane", "dns"), ("action", action.label()), ("reason", reason.label())];
                let counter = &self.verdicts[action as usize][reason.index()];
                if reason.action() == action || counter.value() > 0 {
                    show("verdicts_total", &labels, count(counter));
                }
            }
        }
        for (kind, counter) in [
            ("dropped", &self.dropped),
            ("not_ready", &self.not_ready),
            ("overloaded", &self.overloaded),
            ("prohibited", &self.prohibited),
            ("unreachable", &self.unreachable),
            ("unreadable", &self.unreadable),
        ] {
            show("dns_refusals_total", &[("kind", kind)], count(counter));
        }
        for (outcome, counter) in [("dropped", &self.dnstap_dropped), ("written", &self.dnstap_written)] {
            show("dns_dnstap_frames_total", &[("outcome", outcome)], count(counter));
        }
        for (outcome, counter) in [("done", &self.dnstap_opened), ("failed", &self.dnstap_errors)] {
            show("dns_dnstap_opened_total", &[("outcome", outcome)], count(counter));
        }
        show("dns_dnstap_up", &[], Sample::Count(self.dnstap_up.value()));
        for transport in Transport::ALL.into_iter().filter(|transport| transport.is_encrypted()) {
            for ((_, outcome), counter) in Handshake::ALL.iter().zip(&self.handshakes[transport as usize]) {
                let labels = [("transport", transport.label()), ("outcome", outcome)];
                show("dns_handshakes_total", &labels, count(counter));
            }
        }
        for ((_, status), counter) in HTTP_REFUSALS.iter().zip(&self.http_refusals) {
            show("dns_http_refusals_total", &[("status", status)], count(counter));
        }
        for ((_, kind), counter) in Flood::ALL.iter().zip(&self.floods) {
            show("dns_http2_floods_total", &[("kind", kind)], count(counter));
        }
        for (outcome, counter) in HeaderOutcome::ALL.iter().zip(&self.proxy_headers) {
            show("dns_proxy_headers_total", &[("outcome", outcome.label())], count(counter));
        }
        for (action, counter) in [("drop", &self.limited_dropped), ("slip", &self.limited_slipped)] {
            show("dns_rate_limited_total", &[("action", action)], count(counter));
        }
        for (outcome, counter) in [("done", &self.renewals), ("failed", &self.renewals_failed)] {
            show("dns_prefetches_total", &[("outcome", outcome)], count(counter));
        }
        show("dns_quic_protocol_errors_total", &[], count(&self.quic_protocol_errors));
        show("socket_errors_total", &[("plane", "dns")], count(&self.socket_errors));
        show("connections_refused_total", &[("plane", "dns")], count(&self.connections_refused));
        show("connections", &[("plane", "dns")], Sample::Count(self.connections.value()));
        show("dns_cache_bytes", &[], Sample::Count(self.cache_octets.value()));
    }
}
