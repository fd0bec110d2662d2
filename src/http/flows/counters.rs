//! What is counted of QUIC. Sums close: each flight ends in one outcome, each datagram is forwarded, held and forwarded,
//! answered or dropped.

use crate::count::{Counter, Gauge, Labels, Observe, Sample};

/// What became of a flight, in the order of `ALL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlightOutcome {
    /// The client gave up.
    Abandoned,
    /// Its name is blocked.
    Blocked,
    /// Pushed out by newer ones before its hello was whole.
    Evicted,
    /// What no client sends.
    Malformed,
    /// No data to judge with.
    NotReady,
    /// It goes to the origin.
    Passed,
    /// Over a limit, during the drain, or without a way to the origin.
    Refused,
    /// Its hello was not whole in time.
    TimedOut,
}

impl FlightOutcome {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Abandoned, "abandoned"),
        (Self::Blocked, "blocked"),
        (Self::Evicted, "evicted"),
        (Self::Malformed, "malformed"),
        (Self::NotReady, "not_ready"),
        (Self::Passed, "passed"),
        (Self::Refused, "refused"),
        (Self::TimedOut, "timed_out"),
    ];
}

/// Why a path ended, in the order of `ALL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathEnd {
    /// The gate drains.
    Drained,
    /// Pushed out by newer ones, its client's address unproven; or by newer ones of the same flow.
    Evicted,
    /// Nothing came for a while.
    Idle,
    /// A later Initial contradicts the ones judged.
    Malformed,
    /// Its client had too many connections when it had proven its address.
    Refused,
    /// The name is blocked meanwhile.
    Verdict,
}

impl PathEnd {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Drained, "drained"),
        (Self::Evicted, "evicted"),
        (Self::Idle, "idle"),
        (Self::Malformed, "malformed"),
        (Self::Refused, "refused"),
        (Self::Verdict, "verdict"),
    ];
}

/// Why a client's datagram goes nowhere, in the order of `ALL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// A first connection ID under 8 octets.
    CidTooShort,
    /// A packet that only servers send.
    FromServer,
    /// More 0-RTT than is held.
    HeldFull,
    /// Packets of several connections.
    Mixed,
    /// No flow that it belongs to.
    NoFlow,
    /// An Initial that no flight reads, or that came before.
    NotAuthentic,
    /// No packet of QUIC, or none as far as can be told.
    NotQuic,
    /// Of a flight that is refused, or of a flow that a verdict ended.
    Refused,
    /// The system did not take it.
    SendFailed,
    /// An Initial or another version in a datagram under 1200 octets (D-Q11).
    TooSmall,
    /// Another version (D-Q7).
    UnknownVersion,
}

impl Dropped {
    const ALL: [(Self, &'static str); 11] = [
        (Self::CidTooShort, "cid_too_short"),
        (Self::FromServer, "from_server"),
        (Self::HeldFull, "held_full"),
        (Self::Mixed, "mixed"),
        (Self::NoFlow, "no_flow"),
        (Self::NotAuthentic, "not_authentic"),
        (Self::NotQuic, "not_quic"),
        (Self::Refused, "refused"),
        (Self::SendFailed, "send_failed"),
        (Self::TooSmall, "too_small"),
        (Self::UnknownVersion, "unknown_version"),
    ];
}

/// The counters of QUIC.
#[derive(Debug, Default)]
pub struct FlowCounters {
    flights: [Counter; FlightOutcome::ALL.len()],
    ends: [Counter; PathEnd::ALL.len()],
    dropped: [Counter; Dropped::ALL.len()],
    /// Datagrams forwarded to the origin.
    pub datagrams_in: Counter,
    /// Datagrams forwarded to clients.
    pub datagrams_out: Counter,
    /// Connections closed by our word.
    pub closes: Counter,
    /// Version negotiations sent.
    pub negotiations: Counter,
    /// Replies that would have been too many.
    pub replies_withheld: Counter,
    /// Paths opened to another client address of a known flow (D-Q8).
    pub migrations: Counter,
    /// Errors of receive, and sockets that could not be had.
    pub socket_errors: Counter,
    /// Flights, or flows with a proven client, over a limit of the client.
    pub refused_by_client: Counter,
    /// Flights that wait for the rest of their hello.
    pub waiting: Gauge,
    /// Octets held for them and of handshakes.
    pub held_octets: Gauge,
    /// Paths whose client has not proven its address.
    pub opening: Gauge,
    /// Paths in all.
    pub paths: Gauge,
}

impl FlowCounters {
    /// Counts a flight's outcome.
    pub fn flight(&self, outcome: FlightOutcome) {
        self.flights[outcome as usize].increment();
    }

    /// Counts a path's end.
    pub fn end(&self, end: PathEnd) {
        self.ends[end as usize].increment();
    }

    /// Counts datagrams that go nowhere.
    pub fn drop(&self, why: Dropped, datagrams: usize) {
        self.dropped[why as usize].add(datagrams as u64);
    }

    /// Flights with an outcome so far.
    pub fn flights(&self, outcome: FlightOutcome) -> u64 {
        self.flights[outcome as usize].value()
    }

    /// Paths that ended for a reason so far.
    pub fn ends(&self, end: PathEnd) -> u64 {
        self.ends[end as usize].value()
    }

    /// Datagrams dropped for a reason so far.
    pub fn dropped(&self, why: Dropped) -> u64 {
        self.dropped[why as usize].value()
    }
}

impl Observe for FlowCounters {
    fn observe(&self, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {
        let count = |counter: &Counter| Sample::Count(counter.value());
        for ((_, outcome), counter) in FlightOutcome::ALL.iter().zip(&self.flights) {
            show("quic_flights_total", &[("outcome", outcome)], count(counter));
        }
        for ((_, reason), counter) in PathEnd::ALL.iter().zip(&self.ends) {
            show("quic_flows_ended_total", &[("reason", reason)], count(counter));
        }
        for ((_, kind), counter) in Dropped::ALL.iter().zip(&self.dropped) {
            show("quic_datagrams_dropped_total", &[("kind", kind)], count(counter));
        }
        for (direction, counter) in [("in", &self.datagrams_in), ("out", &self.datagrams_out)] {
            show("quic_datagrams_total", &[("direction", direction)], count(counter));
        }
        for (kind, counter) in
            [("close", &self.closes), ("negotiation", &self.negotiations), ("withheld", &self.replies_withheld)]
        {
            show("quic_replies_total", &[("kind", kind)], count(counter));
        }
        show("quic_migrations_total", &[], count(&self.migrations));
        show("quic_held_bytes", &[], Sample::Count(self.held_octets.value()));
        let proven = self.paths.value().saturating_sub(self.opening.value());
        for (state, value) in [("waiting", self.waiting.value()), ("opening", self.opening.value()), ("open", proven)] {
            show("quic_flows", &[("state", state)], Sample::Count(value));
        }
        show("socket_errors_total", &[("plane", "quic")], count(&self.socket_errors));
        show("connections_refused_total", &[("plane", "quic")], count(&self.refused_by_client));
        show("connections", &[("plane", "quic")], Sample::Count(self.paths.value()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_those_of_the_labels() {
        for (i, (outcome, label)) in FlightOutcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, i, "{label}");
        }
        for (i, (end, label)) in PathEnd::ALL.iter().enumerate() {
            assert_eq!(*end as usize, i, "{label}");
        }
        for (i, (why, label)) in Dropped::ALL.iter().enumerate() {
            assert_eq!(*why as usize, i, "{label}");
        }
    }
}
