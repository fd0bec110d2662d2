//! What an answer message leads to: addresses, chain, services, TTLs. Read once, kept beside the message.
//!
//! The verdict belongs to the query name, so nothing here is attached to an owner inside the chain (D-D1 to D-D3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bytes::Bytes;

use super::edns::{ExtendedError, extended_errors, rcode_high};
use super::svcb::{self, Service};
use super::wire::{self, Record, Section, WireError, flag, rcode, rtype};
use crate::model::DomainName;

/// Addresses of one answer, hints included; an answer with more is not passed on, for all of them must be judged.
const ADDRESSES_MAX: usize = 4096;

/// An answer with what it leads to.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The message as it came, ID 0.
    pub message: Bytes,
    /// Its records.
    pub records: Vec<Record>,
    /// Header flags.
    pub flags: u16,
    /// The response code's upper bits, out of the OPT.
    pub rcode_high: u8,
    /// Addresses in the answer section, hints included.
    pub addresses: Vec<IpAddr>,
    /// CNAME and DNAME targets in the answer section; never a service's target, which its owner may choose freely.
    pub chain: Vec<DomainName>,
    /// Services that name another target, whose addresses are judged too (D-D6), and whether they are aliases.
    pub targets: Vec<(DomainName, bool)>,
    /// True when the answer section holds HTTPS or SVCB records.
    pub has_services: bool,
    /// An alias out of the local zones that the client, by RD, did not ask to be followed.
    pub open_alias: Option<DomainName>,
    /// True when some HTTPS or SVCB record carries `ech`.
    pub has_ech: bool,
    /// Extended errors of the sender.
    pub errors: Vec<ExtendedError>,
    /// How long the answer may be used; `None` means not at all.
    pub lifetime: Option<Duration>,
}

impl Answer {
    /// Reads a message. An error means it cannot be walked, and must not be passed on.
    pub fn read(message: Bytes) -> Result<Self, WireError> {
        let records = wire::records(&message)?;
        // What stands behind the last record is nobody's; our OPT goes there.
        let end = match records.last() {
            Some(record) => record.data_end,
            None => wire::questions_end(&message)?,
        };
        let message = message.slice(..end);
        let mut res = Self {
            flags: wire::u16_at(&message, 2)?,
            rcode_high: rcode_high(&records),
            addresses: Vec::new(),
            chain: Vec::new(),
            targets: Vec::new(),
            has_services: false,
            open_alias: None,
            has_ech: false,
            errors: extended_errors(&message)?,
            lifetime: None,
            records: Vec::new(),
            message: message.clone(),
        };
        for record in &records {
            // A name that we cannot read is one that a client may read otherwise.
            wire::read_name_cased(&message, record.owner_at)?;
            // Of any class: clients are known to look at the type alone.
            if record.section == Section::Answer {
                res.answer_record(&message, record)?;
            }
        }
        if res.addresses.len() > ADDRESSES_MAX {
            return Err(WireError::TooLarge);
        }
        res.lifetime = lifetime(&message, &records, res.rcode());
        res.records = records;
        Ok(res)
    }

    /// The response code, the OPT's upper bits included.
    pub fn rcode(&self) -> u16 {
        u16::from(self.rcode_high) << 4 | self.flags & flag::RCODE
    }

    /// True when the answer section holds records of the type, or any for ANY.
    pub fn has_records(&self, qtype: u16) -> bool {
        let mut answers = self.records.iter().filter(|record| record.section == Section::Answer);
        answers.any(|record| record.rtype == qtype || qtype == rtype::ANY)
    }

    /// The octets of its question, and where the records begin.
    pub fn question_end(&self) -> Result<usize, WireError> {
        wire::questions_end(&self.message)
    }

    fn answer_record(&mut self, message: &[u8], record: &Record) -> Result<(), WireError> {
        match record.rtype {
            rtype::A | rtype::AAAA => self.addresses.push(address(message, record)?),
            rtype::CNAME | rtype::DNAME => {
                let (target, after) = wire::read_name(message, record.data_at)?;
                if after > record.data_end {
                    return Err(WireError::Truncated);
                }
                self.chain.push(target);
            }
            rtype::HTTPS | rtype::SVCB => {
                let Service { target, hints, has_ech, is_alias } = svcb::read(message, record)?;
                self.addresses.extend(hints);
                self.targets.extend(target.map(|target| (target, is_alias)));
                self.has_services = true;
                self.has_ech |= has_ech;
            }
            _ => {}
        }
        Ok(())
    }
}

/// The address in an A or AAAA record.
pub fn address(message: &[u8], record: &Record) -> Result<IpAddr, WireError> {
    let data = record.data(message);
    if let Ok(octets) = <[u8; 4]>::try_from(data) {
        return Ok(IpAddr::V4(Ipv4Addr::from(octets)));
    }
    <[u8; 16]>::try_from(data).map(|octets| IpAddr::V6(Ipv6Addr::from(octets))).map_err(|_| WireError::Truncated)
}

/// The smallest TTL of an answer; for a negative one the SOA's, by its own TTL and MINIMUM (RFC 2308 section 5).
fn lifetime(message: &[u8], records: &[Record], rcode: u16) -> Option<Duration> {
    // RFC 9520 section 3.2: failures are kept, and not for long.
    const FAILURE: Duration = Duration::from_secs(2);
    let usable = |record: &&Record| record.rtype != rtype::OPT;
    match rcode {
        rcode::NOERROR | rcode::NXDOMAIN => {}
        rcode::SERVFAIL | rcode::REFUSED => return Some(FAILURE),
        _ => return None,
    }
    // "should be treated as if the entire value was zero" when the top bit is set (RFC 2181 section 8).
    let seconds = |ttl: u32| if ttl > i32::MAX as u32 { 0 } else { ttl };
    let answers = records.iter().filter(usable).filter(|record| record.section == Section::Answer);
    let positive = answers.clone().any(|record| record.rtype != rtype::CNAME && record.rtype != rtype::RRSIG);
    let smallest = answers.map(|record| seconds(record.ttl)).min();
    if positive && rcode == rcode::NOERROR {
        return smallest.map(|ttl| Duration::from_secs(u64::from(ttl)));
    }
    let soa = records.iter().find(|record| record.section == Section::Authority && record.rtype == rtype::SOA)?;
    let minimum = wire::u32_at(message, soa.data_end.saturating_sub(4)).ok()?;
    let ttl = seconds(soa.ttl).min(seconds(minimum)).min(smallest.unwrap_or(u32::MAX));
    Some(Duration::from_secs(u64::from(ttl)))
}
