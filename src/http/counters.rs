//! What the HTTP plane counts. Sums close: each request head read, or refused, is one of `http_requests_total`.

use super::body::BodyError;
use super::flows::FlowCounters;
use super::head::HeadError;
use super::tls;
use crate::count::{Counter, Gauge, Histogram, Labels, Observe, Sample};
pub use crate::meter::Flood;
use crate::model::Via;
use crate::policy::{Action, Reason, Verdict};

/// What became of a request.
///
/// The order is that of `ALL`: a position in it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// Answered with the page or a redirect.
    Blocked,
    /// An ACME challenge of a blocked name, passed on (D-H30).
    CarvedOut,
    /// Passed on, and the client went away or broke its body off.
    ClientFailed,
    /// Answered 503: no data to judge with.
    NotReady,
    /// Passed on, and the origin failed: 502 or 504, or the answer was cut.
    OriginFailed,
    /// Passed on and answered.
    Proxied,
    /// Not a request by our reading, or over a limit: 4xx or 505, or closed.
    Refused,
}

impl RequestOutcome {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Blocked, "blocked"),
        (Self::CarvedOut, "carved_out"),
        (Self::ClientFailed, "client_failed"),
        (Self::NotReady, "not_ready"),
        (Self::OriginFailed, "origin_failed"),
        (Self::Proxied, "proxied"),
        (Self::Refused, "refused"),
    ];
}

/// What went wrong with the origin, in the order of `ALL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginFailure {
    /// It cut its answer off, or its chunks are none.
    Body,
    /// It could not be reached.
    Connect,
    /// Its answer is no response head by our reading.
    Head,
    /// It is the gate itself.
    Loop,
    /// Nothing says where it is: no setting, no original destination, no address for the name that may be connected to.
    Nowhere,
    /// It closed the connection without an answer.
    Silent,
    /// It took too long.
    Slow,
    /// A limit of the ACME carve-out.
    TooLong,
}

impl OriginFailure {
    pub(super) const ALL: [(Self, &'static str); 8] = [
        (Self::Body, "body"),
        (Self::Connect, "connect"),
        (Self::Head, "head"),
        (Self::Loop, "loop"),
        (Self::Nowhere, "nowhere"),
        (Self::Silent, "silent"),
        (Self::Slow, "slow"),
        (Self::TooLong, "too_long"),
    ];

    /// The status a client gets, when none was sent yet.
    pub fn status(self) -> u16 {
        if self == Self::Slow { 504 } else { 502 }
    }

    /// What a client is told, which is not what belongs in the log.
    pub fn what_clients_are_told(self) -> &'static str {
        match self {
            Self::Slow => "the origin did not answer in time / 源站响应超时",
            Self::Connect | Self::Loop | Self::Nowhere => "the origin cannot be reached / 源站无法连接",
            Self::Body | Self::Head | Self::Silent | Self::TooLong => {
                "the origin gave no usable answer / 源站未返回有效响应"
            }
        }
    }
}

/// How a TLS handshake ended where TLS ends here, in the order of `ALL`.
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

/// Who reaches verdicts here.
const PLANES: [Via; 3] = [Via::Http, Via::Quic, Via::Tls];

/// Verdicts of one of them, by action and reason.
type PlaneVerdicts = [[Counter; Reason::ALL.len()]; 2];

/// The HTTP plane's counters; shared by its listeners, read by `ops`.
#[derive(Debug, Default)]
pub struct Counters {
    requests: [Counter; RequestOutcome::ALL.len()],
    head_errors: [Counter; HeadError::ALL.len()],
    origin_failures: [Counter; OriginFailure::ALL.len()],
    handshakes: [Counter; Handshake::ALL.len()],
    floods: [Counter; Flood::ALL.len()],
    verdicts: [PlaneVerdicts; PLANES.len()],
    /// Connections of HTTP/2.
    pub http2_connections: Counter,
    /// Streams that clients reset.
    pub http2_resets_by_client: Counter,
    /// Streams that the gate reset, but for those whose answer was whole.
    pub http2_resets_by_gate: Counter,
    /// TLS.
    pub tls: tls::Counters,
    /// QUIC flows.
    pub quic: FlowCounters,
    /// Request bodies that broke their framing.
    pub body_errors: Counter,
    /// Request heads that took too long (D-H25).
    pub slow_heads: Counter,
    /// Hosts that are addresses (D-H21, D-H22).
    pub address_hosts: Counter,
    /// HTTP/1.0 requests without a host (D-H4).
    pub without_host: Counter,
    /// PROXY headers read.
    pub proxy_headers: Counter,
    /// PROXY headers that are none.
    pub proxy_header_errors: Counter,
    /// Upgraded connections.
    pub upgrades: Counter,
    /// Upgraded connections ended because their name was blocked meanwhile.
    pub upgrades_ended: Counter,
    /// Connections opened to the origin.
    pub origin_connections: Counter,
    /// Requests sent again on a new connection, the kept one being stale.
    pub origin_retries: Counter,
    /// Time from a request's last octet to the origin's response head.
    pub origin_times: Histogram,
    /// Connections of our own that came back to us.
    pub loops: Counter,
    /// Errors of `accept`.
    pub socket_errors: Counter,
    /// Connections turned away at a limit.
    pub connections_refused: Counter,
    /// Connections now.
    pub connections: Gauge,
}

impl Counters {
    /// Counts a request's end.
    pub fn request(&self, outcome: RequestOutcome) {
        self.requests[outcome as usize].increment();
    }

    /// Counts a head that could not be read, and the request it would have been.
    pub fn head_error(&self, error: HeadError) {
        self.head_errors[error as usize].increment();
        self.request(RequestOutcome::Refused);
    }

    /// Counts a broken request body; a connection that merely ended is no breach of framing.
    pub fn body_error(&self, error: BodyError) {
        if error == BodyError::Chunk {
            self.body_errors.increment();
        }
    }

    /// Counts a failure of the origin.
    pub fn origin_failure(&self, failure: OriginFailure) {
        self.origin_failures[failure as usize].increment();
    }

    /// Counts a verdict of a plane.
    pub fn verdict(&self, via: Via, verdict: &Verdict) {
        let plane = PLANES.iter().position(|plane| *plane == via).unwrap_or_default();
        self.verdicts[plane][verdict.action as usize][verdict.reason.index()].increment();
    }

    /// Counts the end of a TLS handshake.
    pub fn handshake(&self, outcome: Handshake) {
        self.handshakes[outcome as usize].increment();
    }

    /// Counts a connection that was ended as a flood.
    pub fn flood(&self, kind: Flood) {
        self.floods[kind as usize].increment();
    }

    /// Handshakes with an outcome so far.
    pub fn handshakes(&self, outcome: Handshake) -> u64 {
        self.handshakes[outcome as usize].value()
    }

    /// Connections ended as a flood of a kind so far.
    pub fn floods(&self, kind: Flood) -> u64 {
        self.floods[kind as usize].value()
    }

    /// Requests with an outcome so far.
    pub fn requests(&self, outcome: RequestOutcome) -> u64 {
        self.requests[outcome as usize].value()
    }

    /// Heads refused for a reason so far.
    pub fn head_errors(&self, error: HeadError) -> u64 {
        self.head_errors[error as usize].value()
    }
}

impl Observe for Counters {
    fn observe(&self, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {
        let count = |counter: &Counter| Sample::Count(counter.value());
        for ((_, outcome), counter) in RequestOutcome::ALL.iter().zip(&self.requests) {
            show("http_requests_total", &[("outcome", outcome)], count(counter));
        }
        for (via, verdicts) in PLANES.iter().zip(&self.verdicts) {
            show_verdicts(*via, verdicts, show);
        }
        self.tls.observe(show);
        self.quic.observe(show);
        for ((_, kind), counter) in HeadError::ALL.iter().zip(&self.head_errors) {
            show("http_parse_errors_total", &[("kind", kind)], count(counter));
        }
        for (kind, counter) in
            [("body", &self.body_errors), ("proxy_header", &self.proxy_header_errors), ("slow_head", &self.slow_heads)]
        {
            show("http_parse_errors_total", &[("kind", kind)], count(counter));
        }
        for ((_, kind), counter) in OriginFailure::ALL.iter().zip(&self.origin_failures) {
            show("http_origin_errors_total", &[("kind", kind)], count(counter));
        }
        show("http2_connections_total", &[], count(&self.http2_connections));
        for ((_, kind), counter) in Flood::ALL.iter().zip(&self.floods) {
            show("http2_floods_total", &[("kind", kind)], count(counter));
        }
        for (by, counter) in [("client", &self.http2_resets_by_client), ("gate", &self.http2_resets_by_gate)] {
            show("http2_resets_total", &[("by", by)], count(counter));
        }
        for ((_, outcome), counter) in Handshake::ALL.iter().zip(&self.handshakes) {
            show("http_handshakes_total", &[("outcome", outcome)], count(counter));
        }
        show("http_address_hosts_total", &[], count(&self.address_hosts));
        show("http_without_host_total", &[], count(&self.without_host));
        show("http_proxy_headers_total", &[], count(&self.proxy_headers));
        show("http_upgrades_total", &[("outcome", "begun")], count(&self.upgrades));
        show("http_upgrades_total", &[("outcome", "ended_by_verdict")], count(&self.upgrades_ended));
        show("http_loops_total", &[], count(&self.loops));
        show("http_origin_connections_total", &[], count(&self.origin_connections));
        show("http_origin_retries_total", &[], count(&self.origin_retries));
        show("http_origin_seconds", &[], Sample::Times(&self.origin_times));
        show("socket_errors_total", &[("plane", "http")], count(&self.socket_errors));
        show("connections_refused_total", &[("plane", "http")], count(&self.connections_refused));
        show("connections", &[("plane", "http")], Sample::Count(self.connections.value()));
    }
}

fn show_verdicts(via: Via, verdicts: &PlaneVerdicts, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {
    for action in [Action::Allow, Action::Block] {
        for reason in Reason::ALL {
            let labels = [("plane", via.label()), ("action", action.label()), ("reason", reason.label())];
            let counter = &verdicts[action as usize][reason.index()];
            if reason.action() == action || counter.value() > 0 {
                show("verdicts_total", &labels, Sample::Count(counter.value()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_those_of_the_labels() {
        for (i, (outcome, label)) in RequestOutcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, i, "{label}");
        }
        for (i, (failure, label)) in OriginFailure::ALL.iter().enumerate() {
            assert_eq!(*failure as usize, i, "{label}");
        }
        for (i, (error, label)) in HeadError::ALL.iter().enumerate() {
            assert_eq!(*error as usize, i, "{label}");
        }
        for (i, (outcome, label)) in Handshake::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, i, "{label}");
        }
        for (i, (kind, label)) in Flood::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, i, "{label}");
        }
    }
}
