//! The last step: ID, letter case, age, OPT and size for one client. A function of its arguments.

use super::edns::{self, COOKIE_OCTETS, ExtendedError, Opt};
use super::question::{ClientEdns, DecodeError, Query};
use super::rewrite::{self, Finished};
use super::wire::{self, HEADER_OCTETS, MESSAGE_OCTETS_MAX, Writer, flag, rcode};

/// Octets of an OPT without options (RFC 6891 section 6.1.2).
const OPT_OCTETS: usize = 11;
/// Octets of an option before its data.
const OPTION_OCTETS: usize = 4;

/// How the answer travels; decides its greatest size and what its OPT may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A response of HTTP inside TLS (RFC 8484).
    Https,
    /// A stream of a QUIC connection (RFC 9250).
    Quic,
    /// A stream with length prefixes.
    Tcp,
    /// The same inside TLS (RFC 7858).
    Tls,
    /// One datagram.
    Udp,
}

impl Transport {
    /// Every transport, for counters.
    pub const ALL: [Self; 5] = [Self::Https, Self::Quic, Self::Tcp, Self::Tls, Self::Udp];

    /// The label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Https => "doh",
            Self::Quic => "doq",
            Self::Tcp => "tcp",
            Self::Tls => "dot",
            Self::Udp => "udp",
        }
    }

    /// True where nobody between sees more of an answer than its size.
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::Https | Self::Quic | Self::Tls)
    }

    /// True where connections may be kept by the option for it (RFC 7828 section 3, RFC 9250 section 5.5.2).
    pub fn has_keepalive(self) -> bool {
        matches!(self, Self::Tcp | Self::Tls)
    }
}

/// What turns a finished answer into one client's.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// The client's query.
    pub query: &'a Query,
    /// How it travels.
    pub transport: Transport,
    /// Our greatest datagram.
    pub udp_octets_max: u16,
    /// Seconds since the answer came.
    pub age_seconds: u32,
    /// Extended errors, for clients with OPT.
    pub errors: &'a [ExtendedError],
    /// How long an idle connection is kept, in tenths of a second, for clients that ask.
    pub keepalive: u16,
    /// The client's cookie with ours, for clients that have one.
    pub cookie: Option<[u8; COOKIE_OCTETS]>,
    /// Who answers, for clients that ask; empty for nobody in particular.
    pub nsid: &'a [u8],
}

impl<'a> Delivery<'a> {
    /// An OPT without options but the cookie, by which the client knows us.
    fn bare_opt(&self, edns: ClientEdns, rcode_high: u8) -> Opt<'a> {
        let (udp_octets, dnssec_ok, cookie) = (self.udp_octets_max, edns.dnssec_ok, self.cookie);
        Opt { udp_octets, dnssec_ok, rcode_high, cookie, ..Opt::default() }
    }

    /// Octets of that.
    fn bare_opt_octets(&self) -> usize {
        OPT_OCTETS + self.cookie.map_or(0, |cookie| OPTION_OCTETS + cookie.len())
    }

    /// True where the client gets this answer with all its options, and over UDP without truncation.
    pub fn has_room_for(&self, finished: &Finished) -> bool {
        let Some(edns) = self.query.edns else { return false };
        let mut options = Vec::new();
        edns::append_opt(&mut options, &self.opt(edns, finished.rcode_high, self.errors));
        finished.octets.len() + options.len() <= self.octets_max()
    }

    /// The greatest answer the client takes.
    fn octets_max(&self) -> usize {
        match (self.transport, self.query.edns) {
            // "512 bytes" without OPT (RFC 1035 section 4.2.1).
            (Transport::Udp, None) => 512,
            (Transport::Udp, Some(edns)) => usize::from(edns.udp_octets.min(self.udp_octets_max).max(512)),
            _ => MESSAGE_OCTETS_MAX,
        }
    }

    /// The OPT for a client with this one.
    fn opt(&self, edns: ClientEdns, rcode_high: u8, errors: &'a [ExtendedError]) -> Opt<'a> {
        let asks = edns.asks;
        Opt {
            errors,
            keepalive: (asks.keepalive && self.transport.has_keepalive()).then_some(self.keepalive),
            nsid: (asks.nsid && !self.nsid.is_empty()).then_some(self.nsid),
            // In the open there is nothing to hide (RFC 7830 section 6).
            is_padded: asks.padding && self.transport.is_encrypted(),
            ..self.bare_opt(edns, rcode_high)
        }
    }
}

/// Writes the client's message.
pub fn deliver(finished: &Finished, delivery: &Delivery<'_>) -> Vec<u8> {
    let query = delivery.query;
    if finished.rcode_high != 0 && query.edns.is_none() {
        // Four bits cannot say it, and would say something else (RFC 6891 section 6.1.3).
        let flags = u16::from_be_bytes([finished.octets[2], finished.octets[3]]) & !flag::RCODE & !flag::AA;
        let octets = Writer::new(0, flags | rcode::SERVFAIL, &query.question_octets).finish();
        return deliver_spelled(&Finished::own(octets), delivery);
    }
    if !is_spelled_alike(&finished.octets, query) {
        let respelled = rewrite::respell(finished, query).unwrap_or_else(|_| {
            let octets = Writer::new(0, flag::RA | rcode::SERVFAIL, &query.question_octets).finish();
            Finished::own(octets)
        });
        return deliver_spelled(&respelled, delivery);
    }
    deliver_spelled(finished, delivery)
}

/// True when the message's question differs from the client's in letter case at most.
fn is_spelled_alike(message: &[u8], query: &Query) -> bool {
    let end = HEADER_OCTETS + query.question_octets.len();
    message.get(HEADER_OCTETS..end).is_some_and(|question| question.eq_ignore_ascii_case(&query.question_octets))
}

fn deliver_spelled(finished: &Finished, delivery: &Delivery<'_>) -> Vec<u8> {
    let query = delivery.query;
    let mut res = Vec::with_capacity(finished.octets.len() + 64);
    res.extend_from_slice(&finished.octets);
    res[..2].copy_from_slice(&query.id.to_be_bytes());
    let mut flags = u16::from_be_bytes([res[2], res[3]]) & !(flag::RD | flag::CD) | flag::QR;
    for (set, bit) in [(query.question.recursion_desired, flag::RD), (query.question.checking_disabled, flag::CD)] {
        flags |= if set { bit } else { 0 };
    }
    // AD only to whom asked for it (RFC 6840 section 5.8).
    if !query.question.authentic_data && !query.question.dnssec_ok {
        flags &= !flag::AD;
    }
    let end = HEADER_OCTETS + query.question_octets.len();
    if let Some(place) = res.get_mut(HEADER_OCTETS..end) {
        place.copy_from_slice(&query.question_octets);
    }
    for &at in &finished.ttl_offsets {
        let at = usize::from(at);
        if let Ok(ttl) = wire::u32_at(&res, at) {
            let left = ttl.saturating_sub(delivery.age_seconds).min(finished.ttl_max);
            res[at..at + 4].copy_from_slice(&left.to_be_bytes());
        }
    }
    res[2..4].copy_from_slice(&flags.to_be_bytes());
    let errors = if query.edns.is_some() { delivery.errors } else { &[] };
    finish(res, query, delivery, (finished.rcode_high, errors))
}

/// Adds the OPT with the response code's upper bits and the extended errors, as far as the client's size allows.
fn finish(
    mut res: Vec<u8>,
    query: &Query,
    delivery: &Delivery<'_>,
    (rcode_high, errors): (u8, &[ExtendedError]),
) -> Vec<u8> {
    let limit = delivery.octets_max();
    let without_opt = res.len();
    let Some(edns) = query.edns else {
        return if without_opt <= limit { res } else { truncated(&res, query, delivery, rcode_high) };
    };
    edns::append_opt(&mut res, &delivery.opt(edns, rcode_high, errors));
    if res.len() <= limit {
        return res;
    }
    if without_opt + delivery.bare_opt_octets() > limit {
        return truncated(&res, query, delivery, rcode_high);
    }
    // The records fit, the options do not.
    res.truncate(without_opt);
    let count = wire::u16_at(&res, 10).unwrap_or(1).saturating_sub(1);
    res[10..12].copy_from_slice(&count.to_be_bytes());
    edns::append_opt(&mut res, &delivery.bare_opt(edns, rcode_high));
    res
}

/// Says no more than that the client may come by TCP, or with the cookie that stands beside: no larger than its query.
pub fn slip(query: &Query, delivery: &Delivery<'_>, flags: u16) -> Vec<u8> {
    let rd = if query.question.recursion_desired { flag::RD } else { 0 };
    let head = Writer::new(query.id, flag::QR | flags | rd, &query.question_octets).finish();
    truncated(&head, query, delivery, 0)
}

/// The question alone with TC: the client asks again over TCP (RFC 7766 section 5).
fn truncated(whole: &[u8], query: &Query, delivery: &Delivery<'_>, rcode_high: u8) -> Vec<u8> {
    let flags = u16::from_be_bytes([whole[2], whole[3]]) | flag::TC;
    let mut res = Writer::new(query.id, flags, &query.question_octets).finish();
    if let Some(edns) = query.edns {
        edns::append_opt(&mut res, &delivery.bare_opt(edns, rcode_high));
    }
    res
}

/// The answer to a packet that cannot be decoded; `None` means none.
///
/// FORMERR, NOTIMP, REFUSED and BADVERS carry the question where it can be read.
pub fn refuse(packet: &[u8], error: DecodeError, udp_octets_max: u16) -> Option<Vec<u8>> {
    let header = packet.get(..HEADER_OCTETS)?;
    let code = match error {
        DecodeError::NotQuery => return None,
        DecodeError::BadVersion => rcode::BADVERS,
        DecodeError::Malformed => rcode::FORMERR,
        DecodeError::NotImplemented => rcode::NOTIMP,
        DecodeError::OtherClass => rcode::REFUSED,
    };
    let question = match error {
        DecodeError::Malformed => &[][..],
        _ => wire::skip_name(packet, HEADER_OCTETS)
            .ok()
            .and_then(|after| packet.get(HEADER_OCTETS..after + 4))
            .unwrap_or_default(),
    };
    let asked = u16::from_be_bytes([header[2], header[3]]);
    let flags = flag::QR | (asked & (flag::OPCODE | flag::RD | flag::CD)) | (code & flag::RCODE);
    let id = u16::from_be_bytes([header[0], header[1]]);
    let mut res = Writer::new(id, flags, question).finish();
    if error == DecodeError::BadVersion {
        edns::append_opt(&mut res, &Opt { udp_octets: udp_octets_max, rcode_high: 1, ..Opt::default() });
    }
    Some(res)
}
