//! From a judged answer to the octets a client gets: pass, strip, or replace. Functions of their arguments.
//!
//! What is changed can no longer be proved: AD is cleared and signatures of changed sets go (peers' trap 5).

use std::net::IpAddr;

use super::answer::{Answer, address};
use super::question::{Query, Question};
use super::settings::{Block, BlockAction};
use super::svcb;
use super::wire::{Record, Section, WireError, Writer, flag, rcode, read_name, read_name_cased, rtype};

/// An answer ready but for ID, letter case, age and OPT.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The message without OPT.
    pub octets: Vec<u8>,
    /// Where TTLs stand that count down.
    pub ttl_offsets: Vec<u16>,
    /// No TTL above this leaves the gate.
    pub ttl_max: u32,
    /// The response code's upper bits, for the OPT.
    pub rcode_high: u8,
}

impl Finished {
    /// An answer of our own making, which does not age.
    pub fn own(octets: Vec<u8>) -> Self {
        Self { octets, ttl_offsets: Vec::new(), ttl_max: u32::MAX, rcode_high: 0 }
    }
}

/// What may stay of an answer.
pub struct Keep<'a> {
    /// False for addresses to be taken out, wherever they stand.
    pub address: &'a dyn Fn(&Record, IpAddr) -> bool,
    /// False where `ech` must go.
    pub ech: bool,
    /// True where the client asked for DNSSEC records.
    pub dnssec: bool,
}

/// True for records a client without DO does not get, unless it asked for the type (RFC 4035 section 3.2.1).
fn is_dnssec(rtype: u16) -> bool {
    matches!(rtype, rtype::RRSIG | rtype::NSEC | rtype::NSEC3)
}

/// Copies an answer without what must not pass. The octets stay as they are where nothing has to go but OPT at the end.
pub fn pass(answer: &Answer, question: &Question, keep: &Keep<'_>, ttl_max: u32) -> Result<Finished, WireError> {
    let message = &answer.message;
    let mut dropped: Vec<usize> = Vec::new();
    let mut changed_sets: Vec<(crate::model::DomainName, u16)> = Vec::new();
    for (i, record) in answer.records.iter().enumerate() {
        if record.rtype == rtype::OPT || (is_dnssec(record.rtype) && !keep.dnssec && record.rtype != question.qtype) {
            dropped.push(i);
        } else if !addresses(message, record)?.into_iter().all(|addr| (keep.address)(record, addr)) {
            dropped.push(i);
            changed_sets.push((read_name(message, record.owner_at)?.0, record.rtype));
        } else if strips_ech(answer, record, keep)? {
            changed_sets.push((read_name(message, record.owner_at)?.0, record.rtype));
        }
    }
    let mut flags = answer.flags;
    if !changed_sets.is_empty() {
        flags &= !flag::AD;
    }
    let only_last_opt = changed_sets.is_empty() && dropped.iter().all(|&i| i + 1 == answer.records.len());
    if only_last_opt {
        return Ok(cut_last(answer, flags, ttl_max, !dropped.is_empty()));
    }
    let question_octets =
        message.get(super::wire::HEADER_OCTETS..answer.question_end()?).ok_or(WireError::Truncated)?;
    let mut writer = Writer::new(0, flags, question_octets);
    for (i, record) in answer.records.iter().enumerate() {
        if dropped.contains(&i) || signs_changed(message, record, &changed_sets)? {
            continue;
        }
        if strips_ech(answer, record, keep)? {
            let (owner, _) = read_name_cased(message, record.owner_at)?;
            let data = svcb::without_ech(message, record)?;
            writer.record(record.section, &owner, record.rtype, record.class, record.ttl, &data);
        } else {
            writer.copy(message, record)?;
        }
    }
    let octets = writer.finish();
    let ttl_offsets = ttl_offsets(&octets)?;
    Ok(Finished { octets, ttl_offsets, ttl_max, rcode_high: answer.rcode_high })
}

/// The addresses a record shows: its own, or those in hints.
fn addresses(message: &[u8], record: &Record) -> Result<Vec<IpAddr>, WireError> {
    match record.rtype {
        rtype::A | rtype::AAAA => Ok(vec![address(message, record)?]),
        rtype::HTTPS | rtype::SVCB => Ok(svcb::read(message, record)?.hints),
        _ => Ok(Vec::new()),
    }
}

fn strips_ech(answer: &Answer, record: &Record, keep: &Keep<'_>) -> Result<bool, WireError> {
    if keep.ech || !answer.has_ech || !matches!(record.rtype, rtype::HTTPS | rtype::SVCB) {
        return Ok(false);
    }
    Ok(svcb::read(&answer.message, record)?.has_ech)
}

/// True for an RRSIG over one of the changed sets.
fn signs_changed(
    message: &[u8],
    record: &Record,
    changed: &[(crate::model::DomainName, u16)],
) -> Result<bool, WireError> {
    if record.rtype != rtype::RRSIG || changed.is_empty() {
        return Ok(false);
    }
    let covered = super::wire::u16_at(record.data(message), 0)?;
    let (owner, _) = read_name(message, record.owner_at)?;
    Ok(changed.iter().any(|(name, rtype)| *rtype == covered && *name == owner))
}

/// The message with at most its last record cut off.
fn cut_last(answer: &Answer, flags: u16, ttl_max: u32, cut: bool) -> Finished {
    let mut octets = answer.message.to_vec();
    let mut kept = answer.records.as_slice();
    if cut && let Some((last, before)) = kept.split_last() {
        octets.truncate(last.owner_at);
        kept = before;
        let at = 6 + 2 * last.section as usize;
        let count = u16::from_be_bytes([octets[at], octets[at + 1]]).saturating_sub(1);
        octets[at..at + 2].copy_from_slice(&count.to_be_bytes());
    }
    octets[2..4].copy_from_slice(&flags.to_be_bytes());
    let ttl_offsets = kept.iter().filter_map(|record| u16::try_from(record.ttl_at).ok()).collect();
    Finished { octets, ttl_offsets, ttl_max, rcode_high: answer.rcode_high }
}

fn ttl_offsets(message: &[u8]) -> Result<Vec<u16>, WireError> {
    let records = super::wire::records(message)?;
    Ok(records.iter().filter_map(|record| u16::try_from(record.ttl_at).ok()).collect())
}

/// The answer with the question as the client spelled it, where that is more than another letter case.
///
/// A label in UTF-8 is judged and asked for as its A-label (D-D18), which is of another length: offsets behind it move.
/// Owners that are the query name follow its spelling, for clients compare them with what they asked.
pub fn respell(finished: &Finished, query: &Query) -> Result<Finished, WireError> {
    let flags = super::wire::u16_at(&finished.octets, 2)?;
    let mut writer = Writer::new(0, flags, &query.question_octets);
    let (asked, _) = read_name_cased(&query.question_octets, 0)?;
    for record in super::wire::records(&finished.octets)? {
        let is_query_name = read_name(&finished.octets, record.owner_at)?.0 == query.question.name;
        writer.copy_as(&finished.octets, &record, is_query_name.then_some(&asked[..]))?;
    }
    let octets = writer.finish();
    let ttl_offsets = if finished.ttl_offsets.is_empty() { Vec::new() } else { ttl_offsets(&octets)? };
    Ok(Finished { octets, ttl_offsets, ..*finished })
}

/// The answer a blocked name gets; `None` means none at all.
///
/// A and AAAA by the configured action; HTTPS, SVCB and other types of a blocked name are NODATA (D-D5), ANY a single
/// HINFO (RFC 8482 section 4.2). `flags` are those of the answer that is replaced.
pub fn block(question: &Question, block: &Block, flags: u16) -> Option<Finished> {
    let code = match block.action {
        BlockAction::Drop => return None,
        BlockAction::Nxdomain => rcode::NXDOMAIN,
        BlockAction::Refused => rcode::REFUSED,
        BlockAction::Nodata | BlockAction::Redirect => rcode::NOERROR,
    };
    let flags = flag::QR | (flags & (flag::RD | flag::RA | flag::CD)) | code;
    let name = question.name.wire();
    let octets = super::wire::question_octets(question.name.as_ref(), question.qtype, question.qclass);
    let mut writer = Writer::new(0, flags, &octets);
    let mut has_answer = false;
    if block.action == BlockAction::Redirect {
        let mut add = |rtype: u16, data: &[u8]| {
            writer.record(Section::Answer, name, rtype, 1, block.ttl_seconds, data);
            has_answer = true;
        };
        match question.qtype {
            rtype::A => block.ipv4.iter().for_each(|addr| add(rtype::A, &addr.octets())),
            rtype::AAAA => block.ipv6.iter().for_each(|addr| add(rtype::AAAA, &addr.octets())),
            rtype::ANY => add(rtype::HINFO, b"\x07RFC8482\x00"),
            _ => {}
        }
    }
    if !has_answer && block.action != BlockAction::Refused {
        writer.record(Section::Authority, name, rtype::SOA, 1, block.ttl_seconds, &soa_data(name, block.ttl_seconds));
    }
    Some(Finished::own(writer.finish()))
}

/// The least answer to ANY, whatever blocked names get (RFC 8482 section 4.2).
pub fn minimal(question: &Question, block: &Block, flags: u16) -> Finished {
    let octets = super::wire::question_octets(question.name.as_ref(), question.qtype, question.qclass);
    let flags = flag::QR | (flags & (flag::RD | flag::RA | flag::CD));
    let mut writer = Writer::new(0, flags, &octets);
    writer.record(Section::Answer, question.name.wire(), rtype::HINFO, 1, block.ttl_seconds, b"\x07RFC8482\x00");
    Finished::own(writer.finish())
}

/// An SOA that lets resolvers keep the negative answer as long as the block's TTL (RFC 2308 section 3).
fn soa_data(name: &[u8], ttl: u32) -> Vec<u8> {
    let mut res = name.to_vec();
    res.push(0);
    for number in [1, 3600, 600, 86_400, ttl] {
        res.extend_from_slice(&u32::to_be_bytes(number));
    }
    res
}

/// An answer without records.
pub fn empty(question: &Question, flags: u16, code: u16) -> Finished {
    let octets = super::wire::question_octets(question.name.as_ref(), question.qtype, question.qclass);
    let flags = flag::QR | (flags & !flag::RCODE) | code;
    Finished::own(Writer::new(0, flags, &octets).finish())
}

/// Loopback addresses for `localhost` and below (RFC 6761 section 6.3).
pub fn loopback(question: &Question, flags: u16) -> Finished {
    let octets = super::wire::question_octets(question.name.as_ref(), question.qtype, question.qclass);
    let mut writer = Writer::new(0, flag::QR | flags, &octets);
    let ttl = 86_400;
    match question.qtype {
        rtype::A => writer.record(Section::Answer, question.name.wire(), rtype::A, 1, ttl, &[127, 0, 0, 1]),
        rtype::AAAA => {
            let data = std::net::Ipv6Addr::LOCALHOST.octets();
            writer.record(Section::Answer, question.name.wire(), rtype::AAAA, 1, ttl, &data);
        }
        _ => {}
    }
    Finished::own(writer.finish())
}
