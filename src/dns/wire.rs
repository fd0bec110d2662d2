//! DNS messages as octets: header, names, a walk over records, and a writer with compression.
//!
//! Reads survive anything: a walk over a lying message is an error, never a panic, and every loop is bounded by the
//! message's own length. Nothing here knows what a verdict is. Sources: RFC 1035 section 4, RFC 2181, RFC 3597.

use std::collections::HashMap;

use thiserror::Error;

use crate::model::name::{LABEL_OCTETS_MAX, NAME_OCTETS_MAX};
use crate::model::{DomainName, NameRef};

/// Octets of the header.
pub const HEADER_OCTETS: usize = 12;
/// Longest message: the length prefix of TCP is 16 bits (RFC 1035 section 4.2.2).
pub const MESSAGE_OCTETS_MAX: usize = 65_535;

/// Record types the gate knows by name.
pub mod rtype {
    #![allow(missing_docs)]
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const HINFO: u16 = 13;
    pub const AAAA: u16 = 28;
    pub const DNAME: u16 = 39;
    pub const OPT: u16 = 41;
    pub const DS: u16 = 43;
    pub const RRSIG: u16 = 46;
    pub const NSEC: u16 = 47;
    pub const DNSKEY: u16 = 48;
    pub const NSEC3: u16 = 50;
    pub const NSEC3PARAM: u16 = 51;
    pub const SVCB: u16 = 64;
    pub const HTTPS: u16 = 65;
    pub const ANY: u16 = 255;
    pub const RESINFO: u16 = 261;
}

/// Response codes the gate sends.
pub mod rcode {
    #![allow(missing_docs)]
    pub const NOERROR: u16 = 0;
    pub const FORMERR: u16 = 1;
    pub const SERVFAIL: u16 = 2;
    pub const NXDOMAIN: u16 = 3;
    pub const NOTIMP: u16 = 4;
    pub const REFUSED: u16 = 5;
    pub const BADVERS: u16 = 16;
}

/// Header flag bits, as in the second 16-bit word (RFC 1035 section 4.1.1, RFC 4035 section 3.2).
pub mod flag {
    #![allow(missing_docs)]
    pub const QR: u16 = 0x8000;
    pub const OPCODE: u16 = 0x7800;
    pub const AA: u16 = 0x0400;
    pub const TC: u16 = 0x0200;
    pub const RD: u16 = 0x0100;
    pub const RA: u16 = 0x0080;
    pub const AD: u16 = 0x0020;
    pub const CD: u16 = 0x0010;
    pub const RCODE: u16 = 0x000f;
}

/// A message that cannot be walked. The peer is at fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum WireError {
    /// A name is malformed, too long, or its pointers do not lead backwards.
    #[error("malformed name")]
    BadName,
    /// More of something than is read.
    #[error("more addresses than are read")]
    TooLarge,
    /// A record is longer than what is left.
    #[error("message ends inside a record")]
    Truncated,
}

/// Reads a 16-bit number.
pub fn u16_at(octets: &[u8], at: usize) -> Result<u16, WireError> {
    let pair = octets.get(at..at + 2).ok_or(WireError::Truncated)?;
    Ok(u16::from_be_bytes([pair[0], pair[1]]))
}

/// Reads a 32-bit number.
pub fn u32_at(octets: &[u8], at: usize) -> Result<u32, WireError> {
    let four = octets.get(at..at + 4).ok_or(WireError::Truncated)?;
    Ok(u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}

/// The four counts of the header: questions, answers, authority, additional.
pub fn counts(message: &[u8]) -> Result<[u16; 4], WireError> {
    Ok([u16_at(message, 4)?, u16_at(message, 6)?, u16_at(message, 8)?, u16_at(message, 10)?])
}

/// Reads the possibly compressed name at `at`, in its own letter case, and the offset after it.
///
/// Pointers must lead strictly backwards, so that the walk ends (RFC 1035 section 4.1.4).
pub fn read_name_cased(message: &[u8], at: usize) -> Result<(Vec<u8>, usize), WireError> {
    let mut res = Vec::with_capacity(32);
    let (mut from, mut run_start, mut after) = (at, at, None);
    loop {
        match *message.get(from).ok_or(WireError::BadName)? {
            0 => {
                res.push(0);
                return Ok((res, after.unwrap_or(from + 1)));
            }
            length @ 1..=63 => {
                let label = message.get(from..from + 1 + usize::from(length)).ok_or(WireError::BadName)?;
                if res.len() + label.len() + 1 > NAME_OCTETS_MAX {
                    return Err(WireError::BadName);
                }
                res.extend_from_slice(label);
                from += label.len();
            }
            0xc0.. => {
                let target = usize::from(u16_at(message, from).map_err(|_| WireError::BadName)? & 0x3fff);
                after.get_or_insert(from + 2);
                // Before the run of labels that holds the pointer: each jump goes further back, so no loop is possible.
                if target >= run_start {
                    return Err(WireError::BadName);
                }
                (from, run_start) = (target, target);
            }
            _ => return Err(WireError::BadName),
        }
    }
}

/// Reads the name at `at` in canonical form.
pub fn read_name(message: &[u8], at: usize) -> Result<(DomainName, usize), WireError> {
    let (cased, after) = read_name_cased(message, at)?;
    let (name, _) = DomainName::from_wire(&cased).map_err(|_| WireError::BadName)?;
    Ok((name, after))
}

/// The offset after the name at `at`; pointers are not followed.
pub fn skip_name(message: &[u8], mut at: usize) -> Result<usize, WireError> {
    loop {
        match *message.get(at).ok_or(WireError::BadName)? {
            0 => return Ok(at + 1),
            length @ 1..=63 => at += usize::from(length) + 1,
            0xc0.. => return if message.len() >= at + 2 { Ok(at + 2) } else { Err(WireError::BadName) },
            _ => return Err(WireError::BadName),
        }
    }
}

/// Where a record stands in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// Answer.
    Answer,
    /// Authority.
    Authority,
    /// Additional.
    Additional,
}

/// One record, by offsets.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Its section.
    pub section: Section,
    /// Where the owner name begins.
    pub owner_at: usize,
    /// Type.
    pub rtype: u16,
    /// Class; of OPT the UDP size.
    pub class: u16,
    /// TTL; of OPT the extended flags.
    pub ttl: u32,
    /// Where the TTL stands.
    pub ttl_at: usize,
    /// Where the data begins.
    pub data_at: usize,
    /// Where it ends.
    pub data_end: usize,
}

impl Record {
    /// The record data.
    pub fn data<'a>(&self, message: &'a [u8]) -> &'a [u8] {
        &message[self.data_at..self.data_end]
    }
}

/// Where the questions end and the records begin.
pub fn questions_end(message: &[u8]) -> Result<usize, WireError> {
    let mut at = HEADER_OCTETS;
    for _ in 0..counts(message)?[0] {
        at = skip_name(message, at)? + 4;
    }
    if at > message.len() { Err(WireError::Truncated) } else { Ok(at) }
}

/// Walks all records of `message`, the questions skipped. Cost: one pass; bounded by the message, never by its counts.
pub fn records(message: &[u8]) -> Result<Vec<Record>, WireError> {
    let [_, answers, authority, additional] = counts(message)?;
    let mut at = questions_end(message)?;
    let mut res = Vec::new();
    let sections = [(Section::Answer, answers), (Section::Authority, authority), (Section::Additional, additional)];
    for (section, count) in sections {
        for _ in 0..count {
            let record = read_record(message, at, section)?;
            at = record.data_end;
            res.push(record);
        }
    }
    Ok(res)
}

fn read_record(message: &[u8], owner_at: usize, section: Section) -> Result<Record, WireError> {
    let at = skip_name(message, owner_at)?;
    let data_at = at + 10;
    let data_end = data_at + usize::from(u16_at(message, at + 8)?);
    if data_end > message.len() {
        return Err(WireError::Truncated);
    }
    let (rtype, class, ttl) = (u16_at(message, at)?, u16_at(message, at + 2)?, u32_at(message, at + 4)?);
    Ok(Record { section, owner_at, rtype, class, ttl, ttl_at: at + 4, data_at, data_end })
}

//--- Writing ---------------------------------------------------------------------------------------------------------

/// Where names lie inside the data of types whose names may be compressed: octets before the first name, names.
///
/// RFC 1035 types and those RFC 3597 section 4 asks receivers to decompress.
fn names_in_data(rtype: u16) -> Option<(usize, usize)> {
    match rtype {
        2..=5 | 7..=9 | 12 | 39 => Some((0, 1)),
        6 | 14 | 17 => Some((0, 2)),
        15 | 18 | 21 | 36 => Some((2, 1)),
        26 => Some((2, 2)),
        24 => Some((18, 1)),
        30 => Some((0, 1)),
        33 => Some((6, 1)),
        _ => None,
    }
}

/// True for the types of RFC 1035, whose names may be compressed when written.
fn may_compress(rtype: u16) -> bool {
    matches!(rtype, 2..=9 | 12 | 14 | 15)
}

/// Builds a message; names are compressed against those written before.
pub struct Writer {
    octets: Vec<u8>,
    /// Lower-case suffixes written so far, with their offsets.
    suffixes: HashMap<Vec<u8>, u16>,
    counts: [u16; 4],
}

impl Writer {
    /// A message with `flags` and one question, given as octets (name, type, class) in the client's letter case.
    pub fn new(id: u16, flags: u16, question: &[u8]) -> Self {
        let mut octets = Vec::with_capacity(512);
        octets.extend_from_slice(&id.to_be_bytes());
        octets.extend_from_slice(&flags.to_be_bytes());
        octets.extend_from_slice(&[0; 8]);
        let mut res = Self { octets, suffixes: HashMap::new(), counts: [0; 4] };
        if !question.is_empty() {
            res.counts[0] = 1;
            let name_octets = question.len().saturating_sub(4);
            res.name(&question[..name_octets], true);
            res.octets.extend_from_slice(&question[name_octets..]);
        }
        res
    }

    /// Appends a record with data that holds no compressible name.
    pub fn record(&mut self, section: Section, owner: &[u8], rtype: u16, class: u16, ttl: u32, data: &[u8]) {
        self.record_head(section, owner, rtype, class, ttl);
        self.octets.extend_from_slice(&u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes());
        self.octets.extend_from_slice(data);
    }

    /// Copies `record` out of `message`; names inside known types are decompressed and compressed again.
    pub fn copy(&mut self, message: &[u8], record: &Record) -> Result<(), WireError> {
        self.copy_as(message, record, None)
    }

    /// As [`Writer::copy`], with another owner where one is given.
    pub fn copy_as(&mut self, message: &[u8], record: &Record, owner: Option<&[u8]>) -> Result<(), WireError> {
        let owner = match owner {
            Some(owner) => owner.to_vec(),
            None => read_name_cased(message, record.owner_at)?.0,
        };
        let Some((skip, names)) = names_in_data(record.rtype) else {
            self.record(record.section, &owner, record.rtype, record.class, record.ttl, record.data(message));
            return Ok(());
        };
        let mut parts = Vec::with_capacity(names);
        let mut at = record.data_at + skip;
        for _ in 0..names {
            let (name, after) = read_name_cased(message, at)?;
            parts.push(name);
            at = after;
        }
        if at > record.data_end || record.data_at + skip > record.data_end {
            return Err(WireError::Truncated);
        }
        self.record_head(record.section, &owner, record.rtype, record.class, record.ttl);
        let length_at = self.octets.len();
        self.octets.extend_from_slice(&[0, 0]);
        self.octets.extend_from_slice(&message[record.data_at..record.data_at + skip]);
        for name in &parts {
            self.name(name, may_compress(record.rtype));
        }
        self.octets.extend_from_slice(&message[at..record.data_end]);
        let length = u16::try_from(self.octets.len() - length_at - 2).unwrap_or(u16::MAX);
        self.octets[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    /// The whole message.
    pub fn finish(mut self) -> Vec<u8> {
        for (i, count) in self.counts.iter().enumerate() {
            self.octets[4 + 2 * i..6 + 2 * i].copy_from_slice(&count.to_be_bytes());
        }
        self.octets
    }

    fn record_head(&mut self, section: Section, owner: &[u8], rtype: u16, class: u16, ttl: u32) {
        self.name(owner, true);
        self.octets.extend_from_slice(&rtype.to_be_bytes());
        self.octets.extend_from_slice(&class.to_be_bytes());
        self.octets.extend_from_slice(&ttl.to_be_bytes());
        let count = &mut self.counts[section as usize + 1];
        *count = count.saturating_add(1);
    }

    /// Writes an uncompressed name, as a pointer from the longest suffix that stands already.
    fn name(&mut self, name: &[u8], compress: bool) {
        let mut at = 0;
        while let Some(&length) = name.get(at) {
            if length == 0 || usize::from(length) > LABEL_OCTETS_MAX {
                break;
            }
            if compress {
                let suffix = name[at..].to_ascii_lowercase();
                if let Some(&target) = self.suffixes.get(&suffix) {
                    self.octets.extend_from_slice(&(0xc000 | target).to_be_bytes());
                    return;
                }
                if let Ok(here) = u16::try_from(self.octets.len())
                    && here < 0x4000
                {
                    self.suffixes.insert(suffix, here);
                }
            }
            let end = (at + 1 + usize::from(length)).min(name.len());
            self.octets.extend_from_slice(&name[at..end]);
            at = end;
        }
        self.octets.push(0);
    }
}

/// The octets of a question.
pub fn question_octets(name: NameRef<'_>, qtype: u16, qclass: u16) -> Vec<u8> {
    let mut res = name.wire().to_vec();
    res.extend_from_slice(&qtype.to_be_bytes());
    res.extend_from_slice(&qclass.to_be_bytes());
    res
}
