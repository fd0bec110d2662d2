//! When a certificate expires: the one field that an operator is warned of.
//!
//! Reads no more of the DER (X.690) than the way to `notAfter` (RFC 5280 section 4.1.2.5). Nothing is decided by it here:
//! clients do that. A certificate that is written otherwise has no expiry as far as this module can tell.

use time::{Date, Month, PrimitiveDateTime, Time};

/// Tags of X.690 and RFC 5280 that stand on the way.
const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;

/// The end of the validity of a certificate in DER, in seconds since 1970.
///
/// `None` where the octets are no certificate, or the day is before 1970.
pub fn not_after(certificate: &[u8]) -> Option<u64> {
    let (signed, _) = element(certificate, SEQUENCE)?;
    let (fields, _) = element(signed, SEQUENCE)?;
    // The version is left out of version 1.
    let rest = element(fields, VERSION).map_or(fields, |(_, rest)| rest);
    let (_serial, rest) = element(rest, INTEGER)?;
    let (_algorithm, rest) = element(rest, SEQUENCE)?;
    let (_issuer, rest) = element(rest, SEQUENCE)?;
    let (validity, _) = element(rest, SEQUENCE)?;
    let (_, end) = moment(validity)?;
    let (seconds, _) = moment(end)?;
    u64::try_from(seconds?.assume_utc().unix_timestamp()).ok()
}

/// The content of the element that `octets` begin with, which must have this tag, and what follows it.
fn element(octets: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = octets.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // Up to four octets of length: a file of certificates is far shorter.
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |length, &octet| length << 8 | usize::from(octet)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length).filter(|_| found == tag)
}

/// The time that `octets` begin with, as far as it is one, and what follows it.
fn moment(octets: &[u8]) -> Option<(Option<PrimitiveDateTime>, &[u8])> {
    if let Some((text, rest)) = element(octets, GENERALIZED_TIME) {
        return Some((read(text, 4), rest));
    }
    let (text, rest) = element(octets, UTC_TIME)?;
    Some((read(text, 2), rest))
}

/// A time as RFC 5280 writes it: `YYMMDDHHMMSSZ`, or with a year of four digits.
fn read(text: &[u8], year_digits: usize) -> Option<PrimitiveDateTime> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if text.len() != year_digits + 10 || !text.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = text.split_at(year_digits);
    let year: i32 = year.parse().ok()?;
    // "Where YY is greater than or equal to 50, the year SHALL be interpreted as 19YY."
    let year = if year_digits == 4 { year } else { year + if year >= 50 { 1900 } else { 2000 } };
    let part = |at: usize| rest.get(2 * at..2 * at + 2)?.parse::<u8>().ok();
    let date = Date::from_calendar_date(year, Month::try_from(part(0)?).ok()?, part(1)?).ok()?;
    Some(date.with_time(Time::from_hms(part(2)?, part(3)?, part(4)?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An element of DER.
    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).expect("short");
        let head: Vec<u8> = match length {
            0..=0x7f => vec![tag, length.to_be_bytes()[1]],
            _ => [&[tag, 0x82][..], &length.to_be_bytes()].concat(),
        };
        [head, content.to_vec()].concat()
    }

    /// A certificate as far as its validity.
    fn certificate(version: &[u8], validity: &[u8], padding: usize) -> Vec<u8> {
        let issuer = der(SEQUENCE, &vec![0; padding]);
        let fields = [version, &der(INTEGER, &[1]), &der(SEQUENCE, &[]), &issuer, &der(SEQUENCE, validity)].concat();
        der(SEQUENCE, &der(SEQUENCE, &fields))
    }

    #[test]
    fn expiry_is_found_in_both_forms() {
        let begin = der(UTC_TIME, b"260101000000Z");
        let table: [(u8, &[u8], Option<u64>); 8] = [
            (UTC_TIME, b"261130235959Z", Some(1_796_083_199)),
            (UTC_TIME, b"491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, b"500101000000Z", None),
            (GENERALIZED_TIME, b"20500101000000Z", Some(2_524_608_000)),
            (GENERALIZED_TIME, b"99991231235959Z", Some(253_402_300_799)),
            (UTC_TIME, b"261330000000Z", None),
            (UTC_TIME, b"2611302359Z", None),
            (UTC_TIME, b"261130235959+0800", None),
        ];
        for (tag, text, expected) in table {
            let validity = [begin.clone(), der(tag, text)].concat();
            for version in [vec![], der(VERSION, &der(INTEGER, &[2]))] {
                for padding in [0, 300] {
                    assert_eq!(not_after(&certificate(&version, &validity, padding)), expected, "{tag:x} {text:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_cut_has_none() {
        let validity = [der(UTC_TIME, b"260101000000Z"), der(UTC_TIME, b"261130235959Z")].concat();
        let whole = certificate(&[], &validity, 3);
        assert!((0..whole.len()).all(|end| not_after(&whole[..end]).is_none()));
        assert_eq!(not_after(&[SEQUENCE, 0x85, 1, 1, 1, 1, 1]), None);
    }
}
