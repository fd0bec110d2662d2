//! Comma-separated country sets: a prefix or first and last address, then a country or an AS number.
//!
//! With a header the columns are found by name, without one by what stands in the first row. Addresses may be written as
//! numbers, as the `-num` files of published sets do.

use super::collect::Collector;
use super::operators::Operators;
use crate::ranges::prefix::{Block, parse_addr};
use crate::ranges::span::{Family, Span};

/// Header names of a column with prefixes, the surest first; likewise below.
const NETWORK_NAMES: [&str; 5] = ["network", "cidr", "prefix", "ip_range", "range"];
/// First addresses.
const FIRST_NAMES: [&str; 5] = ["first", "start", "start_ip", "ip_range_start", "range_start"];
/// Last addresses.
const LAST_NAMES: [&str; 5] = ["last", "end", "end_ip", "ip_range_end", "range_end"];
/// Country codes.
const COUNTRY_NAMES: [&str; 6] = ["country_code", "country_iso_code", "iso_code", "cc", "country", "region"];
/// AS numbers.
const ASN_NAMES: [&str; 3] = ["asn", "autonomous_system_number", "as_number"];

/// Which columns hold the block.
#[derive(Clone, Copy, Debug)]
enum Blocks {
    /// A prefix or `first-last` in one.
    One(usize),
    /// First and last address apart.
    Two(usize, usize),
}

/// Which column tells the country.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// An AS number, looked up among the operators.
    Asn(usize),
    /// A country code.
    Country(usize),
}

/// Where in a row what stands.
#[derive(Clone, Copy, Debug)]
struct Layout {
    blocks: Blocks,
    place: Place,
}

/// Reads a whole table.
pub(super) fn read(text: &str, operators: &Operators, into: &mut Collector<'_>) -> Result<(), String> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .comment(Some(b'#'))
        .buffer_capacity(256 << 10)
        .from_reader(text.as_bytes());
    let mut record = csv::StringRecord::new();
    let mut layout = None;
    while reader.read_record(&mut record).map_err(|error| error.to_string())? {
        let known = match layout {
            Some(known) => known,
            None => {
                let (known, is_header) = layout_of(&record)?;
                if matches!(known.place, Place::Asn(_)) && operators.is_empty() {
                    return Err("names AS numbers; expected a list of operators beside it".to_owned());
                }
                layout = Some(known);
                if is_header {
                    continue;
                }
                known
            }
        };
        let country = match known.place {
            Place::Country(at) => record.get(at).unwrap_or(""),
            Place::Asn(at) => {
                let number = record.get(at).and_then(|text| text.trim().parse().ok());
                number.and_then(|number| operators.country(number)).unwrap_or("")
            }
        };
        if !into.concerns(country) {
            continue;
        }
        match span_of(known.blocks, &record) {
            Ok((family, span)) => into.take(country, family, span)?,
            Err(message) => {
                let line = record.position().map_or(0, |at| u32::try_from(at.line()).unwrap_or(u32::MAX));
                into.bad(line, &record.iter().collect::<Vec<_>>().join(","), &message)?;
            }
        }
    }
    Ok(())
}

/// The layout, and whether the row it was read from is a header.
fn layout_of(record: &csv::StringRecord) -> Result<(Layout, bool), String> {
    let named = |names: &[&str]| {
        // Earlier names are the surer ones.
        names.iter().find_map(|name| record.iter().position(|cell| cell.trim().eq_ignore_ascii_case(name)))
    };
    let (network, first, last) = (named(&NETWORK_NAMES), named(&FIRST_NAMES), named(&LAST_NAMES));
    let blocks = match (network, first, last) {
        (Some(at), _, _) => Some(Blocks::One(at)),
        (None, Some(first), Some(last)) => Some(Blocks::Two(first, last)),
        (None, _, _) => None,
    };
    let place = named(&COUNTRY_NAMES).map(Place::Country).or_else(|| named(&ASN_NAMES).map(Place::Asn));
    if let (Some(blocks), Some(place)) = (blocks, place) {
        return Ok((Layout { blocks, place }, true));
    }
    let blocks = if span_of(Blocks::Two(0, 1), record).is_ok() { Blocks::Two(0, 1) } else { Blocks::One(0) };
    let at = if matches!(blocks, Blocks::One(_)) { 1 } else { 2 };
    let cell = record.get(at).unwrap_or("").trim();
    let is_number = !cell.is_empty() && cell.bytes().all(|octet| octet.is_ascii_digit());
    let place = if is_number { Place::Asn(at) } else { Place::Country(at) };
    if span_of(blocks, record).is_err() || (!is_number && cell.len() != 2) {
        return Err(
            "line 1: expected network,country or first,last,country or first,last,asn, or a header that says so"
                .to_owned(),
        );
    }
    Ok((Layout { blocks, place }, false))
}

/// The block of a row.
fn span_of(blocks: Blocks, record: &csv::StringRecord) -> Result<(Family, Span), String> {
    let cell = |at: usize| record.get(at).unwrap_or("").trim();
    match blocks {
        Blocks::One(at) => Block::parse(cell(at)).map(Block::span).map_err(|error| error.to_string()),
        Blocks::Two(first, last) => {
            let (family, low) = address_of(cell(first))?;
            let (other, high) = address_of(cell(last))?;
            if family != other || high < low {
                return Err("expected first and last address of one family, in ascending order".to_owned());
            }
            Ok((family, Span { first: low, last: high }))
        }
    }
}

/// An address in its standard form or as a number; a number above the IPv4 ones is IPv6.
fn address_of(text: &str) -> Result<(Family, u128), String> {
    let is_number = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    if let Some(value) = text.parse::<u128>().ok().filter(|_| is_number) {
        let family = if value > Family::V4.max() { Family::V6 } else { Family::V4 };
        return Ok((family, value));
    }
    parse_addr(text).map(Family::of).map_err(|error| error.to_string())
}
