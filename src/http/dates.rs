//! Times as texts, each made once a second and thread.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use time::macros::offset;
use time::{OffsetDateTime, UtcOffset};

/// An IMF-fixdate (RFC 9110 section 5.6.7), as fields of HTTP have it: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn imf_fixdate(now: SystemTime) -> [u8; 29] {
    thread_local! {
        static LAST: Cell<Made<29>> = const { Cell::new(Made::NONE) };
    }
    LAST.with(|last| Made::at(last, now, write_imf_fixdate))
}

/// RFC 3339 to the second, in the zone of the registry (UTC+8), as pages show it: `1994-11-06T16:49:37+08:00`.
pub fn registry_time(now: SystemTime) -> RegistryTime {
    thread_local! {
        static LAST: Cell<Made<25>> = const { Cell::new(Made::NONE) };
    }
    RegistryTime(LAST.with(|last| Made::at(last, now, write_registry_time)))
}

/// What [`registry_time`] gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistryTime([u8; 25]);

impl std::fmt::Display for RegistryTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Digits and marks.
        f.write_str(std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

/// A text and the second it is of.
#[derive(Clone, Copy)]
struct Made<const N: usize> {
    second: Option<u64>,
    text: [u8; N],
}

impl<const N: usize> Made<N> {
    const NONE: Self = Self { second: None, text: [0; N] };

    /// The text of `now`: the last one, or a new one by `make`.
    fn at(last: &Cell<Self>, now: SystemTime, make: fn(OffsetDateTime) -> [u8; N]) -> [u8; N] {
        // Before the epoch no clock of ours goes.
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut made = last.get();
        if made.second != Some(second) {
            let at = i64::try_from(second).ok().and_then(|second| OffsetDateTime::from_unix_timestamp(second).ok());
            made = Self { second: Some(second), text: make(at.unwrap_or(OffsetDateTime::UNIX_EPOCH)) };
            last.set(made);
        }
        made.text
    }
}

fn write_imf_fixdate(at: OffsetDateTime) -> [u8; 29] {
    const DAYS: [&[u8; 3]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];
    const MONTHS: [&[u8; 3]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    let mut res = *b"Sun, 06 Nov 1994 08:49:37 GMT";
    res[..3].copy_from_slice(DAYS[usize::from(at.weekday().number_days_from_monday())]);
    res[8..11].copy_from_slice(MONTHS[usize::from(u8::from(at.month())) - 1]);
    write_year(&mut res[12..16], at.year());
    for (from, number) in [(5, at.day()), (17, at.hour()), (20, at.minute()), (23, at.second())] {
        write_two(&mut res[from..from + 2], number);
    }
    res
}

fn write_registry_time(at: OffsetDateTime) -> [u8; 25] {
    const ZONE: UtcOffset = offset!(+8);
    // The last eight hours before the end of all dates stay as they are.
    let at = at.checked_to_offset(ZONE).unwrap_or(at);
    let mut res = *b"1994-11-06T16:49:37+08:00";
    write_year(&mut res[..4], at.year());
    for (from, number) in [(5, at.month().into()), (8, at.day()), (11, at.hour()), (14, at.minute()), (17, at.second())]
    {
        write_two(&mut res[from..from + 2], number);
    }
    res
}

fn write_two(to: &mut [u8], number: u8) {
    to.copy_from_slice(&[b'0' + number / 10 % 10, b'0' + number % 10]);
}

fn write_year(to: &mut [u8], year: i32) {
    let hundreds = u8::try_from(year.rem_euclid(10_000) / 100).unwrap_or_default();
    let rest = u8::try_from(year.rem_euclid(100)).unwrap_or_default();
    write_two(&mut to[..2], hundreds);
    write_two(&mut to[2..], rest);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn texts_have_the_fixed_forms_and_follow_the_clock() {
        for (second, fixdate, registry) in [
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06T16:49:37+08:00"),
            (784_111_778, "Sun, 06 Nov 1994 08:49:38 GMT", "1994-11-06T16:49:38+08:00"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06T16:49:37+08:00"),
            (0, "Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01T08:00:00+08:00"),
            (1_767_196_799, "Wed, 31 Dec 2025 15:59:59 GMT", "2025-12-31T23:59:59+08:00"),
            (1_767_196_800, "Wed, 31 Dec 2025 16:00:00 GMT", "2026-01-01T00:00:00+08:00"),
            (1_709_164_800, "Thu, 29 Feb 2024 00:00:00 GMT", "2024-02-29T08:00:00+08:00"),
            (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT", "9999-12-31T23:59:59+08:00"),
        ] {
            let now = UNIX_EPOCH + Duration::from_secs(second) + Duration::from_millis(999);
            assert_eq!(imf_fixdate(now), fixdate.as_bytes());
            assert_eq!(registry_time(now).to_string(), registry);
        }
        assert_eq!(&imf_fixdate(UNIX_EPOCH - Duration::from_secs(1)), b"Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
