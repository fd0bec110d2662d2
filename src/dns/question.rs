//! Queries from octets: header, one question, OPT. Survives anything; what is wrong is answered, dropped, and counted.

use std::time::SystemTime;

use thiserror::Error;

use super::edns::{Asks, Cookie};
use super::wire::{self, HEADER_OCTETS, flag, rtype};
use crate::model::DomainName;

/// A decoded question with the header bits that change the answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// Canonical query name (lower case).
    pub name: DomainName,
    /// QTYPE.
    pub qtype: u16,
    /// QCLASS.
    pub qclass: u16,
    /// RD of the query.
    pub recursion_desired: bool,
    /// AD of the query (RFC 6840 section 5.7).
    pub authentic_data: bool,
    /// CD of the query.
    pub checking_disabled: bool,
    /// DO of the query's OPT.
    pub dnssec_ok: bool,
}

impl Question {
    /// The same asker's question for another name and type.
    pub fn about(&self, name: DomainName, qtype: u16) -> Self {
        Self { name, qtype, ..*self }
    }
}

/// What the client's OPT says (RFC 6891 section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientEdns {
    /// Octets the client takes over UDP; at least 512.
    pub udp_octets: u16,
    /// DO.
    pub dnssec_ok: bool,
    /// The options that ask for something.
    pub asks: Asks,
}

/// A query that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The ID.
    pub id: u16,
    /// The question.
    pub question: Question,
    /// The question's octets as sent: letter case is echoed.
    pub question_octets: Vec<u8>,
    /// The OPT, if there was one.
    pub edns: Option<ClientEdns>,
    /// When it came, where somebody wants to know.
    pub arrived: Option<SystemTime>,
}

/// Why a packet is no query we answer with data.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// EDNS version above 0: BADVERS (RFC 6891 section 6.1.3).
    #[error("EDNS version is not 0")]
    BadVersion,
    /// Malformed: FORMERR.
    #[error("malformed query")]
    Malformed,
    /// An opcode other than QUERY: NOTIMP.
    #[error("opcode is not QUERY")]
    NotImplemented,
    /// A response, or too short to answer: dropped.
    #[error("not a query")]
    NotQuery,
    /// A class other than IN: REFUSED.
    #[error("class is not IN")]
    OtherClass,
}

impl DecodeError {
    /// Every kind, for counters.
    pub const ALL: [Self; 5] =
        [Self::BadVersion, Self::Malformed, Self::NotImplemented, Self::NotQuery, Self::OtherClass];

    /// The label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::BadVersion => "bad_version",
            Self::Malformed => "malformed",
            Self::NotImplemented => "not_implemented",
            Self::NotQuery => "not_query",
            Self::OtherClass => "other_class",
        }
    }
}

/// Types that only stand in requests of other kinds (RFC 6895 section 3.1): TSIG, TKEY, transfers, OPT.
fn is_meta(qtype: u16) -> bool {
    qtype == rtype::OPT || (128..255).contains(&qtype)
}

/// True for a packet that is a query at all, whatever is wrong with it.
pub fn is_query(packet: &[u8]) -> bool {
    packet.len() >= HEADER_OCTETS && packet[2] & (flag::QR >> 8) as u8 == 0
}

/// Decodes a packet.
///
/// Errors say how to answer. Cost: one pass over the question and additional records, one small allocation.
/// Sources: RFC 1035 section 4.1, RFC 6891 section 6.1, RFC 9619 (one question).
pub fn decode(packet: &[u8]) -> Result<Query, DecodeError> {
    if !is_query(packet) {
        return Err(DecodeError::NotQuery);
    }
    let id = u16::from_be_bytes([packet[0], packet[1]]);
    let flags = u16::from_be_bytes([packet[2], packet[3]]);
    if flags & flag::OPCODE != 0 {
        return Err(DecodeError::NotImplemented);
    }
    let counts = wire::counts(packet).map_err(|_| DecodeError::Malformed)?;
    // "QDCOUNT must be 1" (RFC 9619); answers and authority have no place in a query.
    if counts[0] != 1 || counts[1] != 0 || counts[2] != 0 {
        return Err(DecodeError::Malformed);
    }
    let (name, used) = DomainName::from_wire(&packet[HEADER_OCTETS..]).map_err(|_| DecodeError::Malformed)?;
    let after = HEADER_OCTETS + used;
    let qtype = wire::u16_at(packet, after).map_err(|_| DecodeError::Malformed)?;
    let qclass = wire::u16_at(packet, after + 2).map_err(|_| DecodeError::Malformed)?;
    let edns = decode_edns(packet, after + 4, counts[3])?;
    if edns.is_some_and(|edns| edns.asks.cookie == Cookie::Malformed) {
        return Err(DecodeError::Malformed);
    }
    if is_meta(qtype) {
        return Err(DecodeError::NotImplemented);
    }
    if qclass != 1 {
        return Err(DecodeError::OtherClass);
    }
    let question = Question {
        name,
        qtype,
        qclass,
        recursion_desired: flags & flag::RD != 0,
        authentic_data: flags & flag::AD != 0,
        checking_disabled: flags & flag::CD != 0,
        dnssec_ok: edns.is_some_and(|edns| edns.dnssec_ok),
    };
    let question_octets = packet[HEADER_OCTETS..after + 4].to_vec();
    Ok(Query { id, question, question_octets, edns, arrived: None })
}

fn decode_edns(packet: &[u8], after: usize, additional: u16) -> Result<Option<ClientEdns>, DecodeError> {
    // Nearly every query has no record, or an OPT alone, which is told here without a list of records.
    match (additional, packet.get(after..).unwrap_or_default()) {
        (0, []) => return Ok(None),
        (1, [0, t0, t1, c0, c1, _, version, f0, _, l0, l1, data @ ..])
            if u16::from_be_bytes([*t0, *t1]) == rtype::OPT
                && usize::from(u16::from_be_bytes([*l0, *l1])) == data.len() =>
        {
            if *version != 0 {
                return Err(DecodeError::BadVersion);
            }
            let udp_octets = u16::from_be_bytes([*c0, *c1]).max(512);
            return Ok(Some(ClientEdns { udp_octets, dnssec_ok: f0 & 0x80 != 0, asks: Asks::read(data) }));
        }
        _ => {}
    }
    let records = wire::records(packet).map_err(|_| DecodeError::Malformed)?;
    let end = records.last().map(|record| record.data_end);
    if end.is_some_and(|end| end != packet.len()) {
        return Err(DecodeError::Malformed);
    }
    let mut found = None;
    for record in records.iter().filter(|record| record.rtype == rtype::OPT) {
        // "If a query message with more than one OPT RR is received, a FORMERR MUST be returned" (RFC 6891 section 6.1.1).
        if found.is_some() || packet[record.owner_at] != 0 {
            return Err(DecodeError::Malformed);
        }
        if record.ttl >> 16 & 0xff != 0 {
            return Err(DecodeError::BadVersion);
        }
        let (udp_octets, dnssec_ok) = (record.class.max(512), record.ttl & 0x8000 != 0);
        found = Some(ClientEdns { udp_octets, dnssec_ok, asks: Asks::read(record.data(packet)) });
    }
    if found.is_none() && end.is_none() {
        let after = wire::skip_name(packet, HEADER_OCTETS).map_err(|_| DecodeError::Malformed)? + 4;
        if after != packet.len() {
            return Err(DecodeError::Malformed);
        }
    }
    Ok(found)
}

/// Encodes a question as a query with OPT: what upstreams are asked.
pub fn encode(question: &Question, id: u16, udp_octets: u16) -> Vec<u8> {
    let bits = [
        (question.recursion_desired, flag::RD),
        (question.authentic_data, flag::AD),
        (question.checking_disabled, flag::CD),
    ];
    let flags = bits.iter().filter(|(set, _)| *set).fold(0, |sum, (_, bit)| sum | bit);
    let octets = wire::question_octets(question.name.as_ref(), question.qtype, question.qclass);
    let mut writer = wire::Writer::new(id, flags, &octets);
    let ttl = if question.dnssec_ok { 0x8000 } else { 0 };
    writer.record(wire::Section::Additional, &[0], rtype::OPT, udp_octets, ttl, &[]);
    writer.finish()
}
