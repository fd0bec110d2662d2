//! Statistics files of the address registries, plain and extended.
//!
//! One record a line: `registry|cc|type|start|value|date|status[|opaque-id…]`, after a version line and summary lines. Of
//! IPv4 the value counts addresses and need not be a power of two; of IPv6 it is a prefix length. Source: the registries'
//! "RIR statistics exchange format", version 2.3.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use thiserror::Error;

use super::collect::Collector;
use crate::ranges::span::{Family, Span};
use crate::ranges::special::special_reason;
use crate::registry::Severity;

/// What one line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Nothing of interest: comment, version line, AS number, space not handed out.
    Skip,
    /// Address space handed out in a country.
    Space {
        /// Two upper-case letters.
        country: &'a str,
        /// The family.
        family: Family,
        /// The addresses.
        span: Span,
        /// True when the date is neither empty nor `YYYYMMDD`; the space is good all the same.
        is_date_odd: bool,
    },
    /// How many records of a type the file holds.
    Summary {
        /// The type.
        kind: &'a str,
        /// The number.
        count: u64,
    },
}

/// Why a line is no record.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum LineError {
    /// The start is no address of its type.
    #[error(
        "the start is no address; expected four decimal numbers or an IPv6 address, without blanks or leading zeros"
    )]
    Address,
    /// The value is no count.
    #[error("the value is no count of IPv4 addresses; expected 1 or more, not running past 255.255.255.255")]
    Count,
    /// The country is malformed.
    #[error("the country is no code; expected two upper-case letters")]
    Country,
    /// Too few columns.
    #[error("too few columns; expected registry|cc|type|start|value|date|status")]
    Columns,
    /// Bits are set below the prefix.
    #[error("bits are set below the prefix length")]
    HostBits,
    /// The type is unknown.
    #[error("unknown type; expected asn, ipv4 or ipv6")]
    Kind,
    /// The value is no prefix length.
    #[error("the value is no IPv6 prefix length; expected 1 to 128")]
    Length,
    /// Space that no registry hands out.
    #[error("{0} and is never handed out")]
    Special(&'static str),
    /// The status is unknown.
    #[error("unknown status; expected allocated, assigned, available or reserved")]
    Status,
}

/// Reads one line; a byte-order mark before it and a line end after it are fine.
pub fn parse_line(line: &str) -> Result<Line<'_>, LineError> {
    let line = line.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
    if line.is_empty() || line.starts_with('#') || line.starts_with(|first: char| first.is_ascii_digit()) {
        return Ok(Line::Skip);
    }
    let cells: Vec<&str> = line.split('|').collect();
    if let [_, "*", kind, "*", count, "summary"] = cells[..] {
        return Ok(count.parse().map_or(Line::Skip, |count| Line::Summary { kind, count }));
    }
    let [_, country, kind, start, value, date, status, ..] = cells[..] else { return Err(LineError::Columns) };
    match status {
        "available" | "reserved" => return Ok(Line::Skip),
        "allocated" | "assigned" => {}
        _ => return Err(LineError::Status),
    }
    if country.len() != 2 || !country.bytes().all(|octet| octet.is_ascii_uppercase()) {
        return Err(LineError::Country);
    }
    let (family, span) = match kind {
        "asn" => return Ok(Line::Skip),
        "ipv4" => (Family::V4, parse_v4(start, value)?),
        "ipv6" => (Family::V6, parse_v6(start, value)?),
        _ => return Err(LineError::Kind),
    };
    if let Some(reason) = special_reason(family, span) {
        return Err(LineError::Special(reason));
    }
    let is_day = date.len() == 8 && date.bytes().all(|octet| octet.is_ascii_digit());
    Ok(Line::Space { country, family, span, is_date_odd: !date.is_empty() && !is_day })
}

/// The span of an IPv4 record.
fn parse_v4(start: &str, value: &str) -> Result<Span, LineError> {
    let start: Ipv4Addr = start.parse().map_err(|_| LineError::Address)?;
    let count = parse_number(value).filter(|count| *count > 0).ok_or(LineError::Count)?;
    let (_, first) = Family::of(IpAddr::V4(start));
    let last = first + u128::from(count) - 1;
    if last > Family::V4.max() { Err(LineError::Count) } else { Ok(Span { first, last }) }
}

/// The span of an IPv6 record.
fn parse_v6(start: &str, value: &str) -> Result<Span, LineError> {
    let start: Ipv6Addr = start.parse().map_err(|_| LineError::Address)?;
    let length = parse_number(value).and_then(|number| u8::try_from(number).ok()).filter(|length| *length > 0);
    let written = length.and_then(|length| Ipv6Net::new(start, length).ok()).ok_or(LineError::Length)?;
    if written.trunc() != written {
        return Err(LineError::HostBits);
    }
    Ok(Span::of(IpNet::V6(written)).1)
}

/// Digits only: no sign, no blank.
fn parse_number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|octet| octet.is_ascii_digit()))
}

/// Reads a whole file; fewer records than its summary lines say mean that it was cut short.
pub(super) fn read(text: &str, into: &mut Collector<'_>) -> Result<(), String> {
    let mut promised: Vec<(&str, u64)> = Vec::new();
    let (mut v4, mut v6) = (0, 0);
    for (i, line) in text.lines().enumerate() {
        let number = u32::try_from(i + 1).unwrap_or(u32::MAX);
        let cells: Vec<&str> = line.splitn(4, '|').collect();
        v4 += u64::from(cells.get(2) == Some(&"ipv4") && cells.get(1) != Some(&"*"));
        v6 += u64::from(cells.get(2) == Some(&"ipv6") && cells.get(1) != Some(&"*"));
        match parse_line(line) {
            Ok(Line::Skip) => {}
            Ok(Line::Summary { kind, count }) => promised.push((kind, count)),
            Ok(Line::Space { country, family, span, is_date_odd }) => {
                if is_date_odd && country == into.country() {
                    into.note(Severity::Warning, number, line, "odd date; expected YYYYMMDD or nothing");
                }
                into.take(country, family, span)?;
            }
            // What is wrong with rows of countries that do not matter is not our business.
            Err(error) if cells.len() < 4 || cells.get(1).is_some_and(|country| into.concerns(country)) => {
                into.bad(number, line, &error.to_string())?;
            }
            Err(_) => {}
        }
    }
    for (kind, count) in promised {
        let found = match kind {
            "ipv4" => v4,
            "ipv6" => v6,
            _ => continue,
        };
        if found < count {
            return Err(format!("holds {found} of the {count} {kind} records its summary names; it was cut short"));
        }
    }
    Ok(())
}
