//! What is counted of TLS. Sums close: each connection is one of `tls_connections_total`.

use crate::count::{Counter, Gauge, Labels, Observe, Sample, Sizes};
use crate::http::counters::OriginFailure;
use crate::http::hello::{Foreign, Hello, HelloFault};
use crate::http::host::HostName;

/// What became of a connection, in the order of `ALL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Refused by verdict.
    Blocked,
    /// It ended before its hello was whole.
    Cut,
    /// Refused: there are no data to judge with.
    NotReady,
    /// Not passed on, for the origin was not to be had.
    OriginFailed,
    /// Its hello went to the origin.
    Passed,
    /// No hello by our reading, or one over a limit.
    Refused,
    /// Its hello took too long (D-T20).
    Slow,
    /// A certificate is for its name: TLS ends here, and its requests are judged.
    Terminated,
}

impl Outcome {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Blocked, "blocked"),
        (Self::Cut, "cut"),
        (Self::NotReady, "not_ready"),
        (Self::OriginFailed, "origin_failed"),
        (Self::Passed, "passed"),
        (Self::Refused, "refused"),
        (Self::Slow, "slow"),
        (Self::Terminated, "terminated"),
    ];
}

/// What came after a HelloRetryRequest, in the order of `ALL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// A hello with another name: the connection ended (D-T11).
    OtherName,
    /// A hello with the same name.
    SameName,
    /// No hello.
    Unread,
}

impl Retry {
    const ALL: [(Self, &'static str); 3] =
        [(Self::OtherName, "other_name"), (Self::SameName, "same_name"), (Self::Unread, "unread")];
}

/// Why the gate ended a connection that it passed on, in the order of `ALL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// The gate is on its way out.
    Drain,
    /// Neither side said anything.
    Silence,
    /// Its name was blocked meanwhile.
    Verdict,
}

impl EndedBy {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Drain, "drain"), (Self::Silence, "silence"), (Self::Verdict, "verdict")];
}

/// Labels of the numbers of reads that bring a hello.
const READS: [&str; 4] = ["1", "2", "3", "more"];

/// The counters.
#[derive(Debug, Default)]
pub struct Counters {
    connections: [Counter; Outcome::ALL.len()],
    faults: [Counter; HelloFault::ALL.len()],
    origin_failures: [Counter; OriginFailure::ALL.len()],
    reads: [Counter; READS.len()],
    retries: [Counter; Retry::ALL.len()],
    ended: [Counter; EndedBy::ALL.len()],
    hello_sizes: Sizes,
    other_protocols: Counter,
    ssl2: Counter,
    too_long: Counter,
    /// Hellos without a name (D-T4).
    pub without_name: Counter,
    /// Hellos that name an address.
    pub address_names: Counter,
    /// Connections that are passed on now.
    pub tunnels: Gauge,
}

impl Counters {
    /// Counts a connection.
    pub fn connection(&self, outcome: Outcome) {
        self.connections[outcome as usize].increment();
    }

    /// Counts a fault of a hello.
    pub fn fault(&self, fault: HelloFault) {
        self.faults[fault as usize].increment();
    }

    /// Counts octets of another protocol.
    pub fn foreign(&self, foreign: Foreign) {
        if foreign == Foreign::Ssl2 { self.ssl2.increment() } else { self.other_protocols.increment() }
    }

    /// Counts a hello over the limit.
    pub fn too_long(&self) {
        self.too_long.increment();
    }

    /// Counts a whole hello, what it names, and how many reads brought it.
    pub fn found(&self, hello: &Hello<'_>, reads: usize) {
        self.hello_sizes.observe(hello.octets);
        self.reads[reads.clamp(1, READS.len()) - 1].increment();
        match hello.host() {
            None => self.without_name.increment(),
            Some(HostName::Address(_)) => self.address_names.increment(),
            Some(HostName::Invalid | HostName::Name(_)) => {}
        }
    }

    /// Counts a failure of the way to the origin.
    pub fn origin_failure(&self, failure: OriginFailure) {
        self.origin_failures[failure as usize].increment();
    }

    /// Counts what followed a HelloRetryRequest.
    pub fn retry(&self, retry: Retry) {
        self.retries[retry as usize].increment();
    }

    /// Counts an end that the gate brought about.
    pub fn ended(&self, by: EndedBy) {
        self.ended[by as usize].increment();
    }

    /// Connections with an outcome so far.
    pub fn connections(&self, outcome: Outcome) -> u64 {
        self.connections[outcome as usize].value()
    }

    /// Hellos with a fault so far.
    pub fn faults(&self, fault: HelloFault) -> u64 {
        self.faults[fault as usize].value()
    }

    /// Failures of the way to the origin so far.
    pub fn origin_failures(&self, failure: OriginFailure) -> u64 {
        self.origin_failures[failure as usize].value()
    }

    /// What followed a HelloRetryRequest so far.
    pub fn retries(&self, retry: Retry) -> u64 {
        self.retries[retry as usize].value()
    }

    /// Ends that the gate brought about so far.
    pub fn ends(&self, by: EndedBy) -> u64 {
        self.ended[by as usize].value()
    }

    /// Hellos that took so many reads so far; 4 stands for all above 3.
    pub fn hellos_in(&self, reads: usize) -> u64 {
        self.reads[reads.clamp(1, READS.len()) - 1].value()
    }
}

impl Observe for Counters {
    fn observe(&self, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {
        let count = |counter: &Counter| Sample::Count(counter.value());
        for ((_, outcome), counter) in Outcome::ALL.iter().zip(&self.connections) {
            show("tls_connections_total", &[("outcome", outcome)], count(counter));
        }
        for ((_, kind), counter) in HelloFault::ALL.iter().zip(&self.faults) {
            show("tls_parse_errors_total", &[("kind", kind)], count(counter));
        }
        for (kind, counter) in
            [("other_protocol", &self.other_protocols), ("ssl2", &self.ssl2), ("too_long", &self.too_long)]
        {
            show("tls_parse_errors_total", &[("kind", kind)], count(counter));
        }
        for ((_, kind), counter) in OriginFailure::ALL.iter().zip(&self.origin_failures) {
            show("tls_origin_errors_total", &[("kind", kind)], count(counter));
        }
        for (reads, counter) in READS.iter().zip(&self.reads) {
            show("tls_hello_reads_total", &[("reads", reads)], count(counter));
        }
        for ((_, outcome), counter) in Retry::ALL.iter().zip(&self.retries) {
            show("tls_retries_total", &[("outcome", outcome)], count(counter));
        }
        for ((_, by), counter) in EndedBy::ALL.iter().zip(&self.ended) {
            show("tls_tunnels_ended_total", &[("by", by)], count(counter));
        }
        show("tls_hello_bytes", &[], Sample::Sizes(&self.hello_sizes));
        show("tls_without_name_total", &[], count(&self.without_name));
        show("tls_address_names_total", &[], count(&self.address_names));
        show("tls_tunnels", &[], Sample::Count(self.tunnels.value()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_those_of_the_labels() {
        for (i, (outcome, label)) in Outcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, i, "{label}");
        }
        for (i, (retry, label)) in Retry::ALL.iter().enumerate() {
            assert_eq!(*retry as usize, i, "{label}");
        }
        for (i, (by, label)) in EndedBy::ALL.iter().enumerate() {
            assert_eq!(*by as usize, i, "{label}");
        }
        for (i, (fault, label)) in HelloFault::ALL.iter().enumerate() {
            assert_eq!(*fault as usize, i, "{label}");
        }
    }
}
