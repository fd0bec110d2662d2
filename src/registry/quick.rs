//! The quick way for usual rows of a CSV: straight from cells to an arena entry and its record.
//!
//! One rule, two speeds: what is not certain to be read alike and without a finding by [`super::row::read_row`] is left to
//! it. Certain are plain ASCII domains in lower case directly below a listed suffix, numbers in canonical spelling, days
//! that exist, and texts. A property test holds the two ways together.

use std::collections::HashMap;

use super::arena::Rows;
use super::code::{CompactNumber, compact, write_day, write_number, write_text};
use super::dictionary::{Dictionary, Remembered, TEXTS_MAX};
use super::domain::is_reserved;
use super::record::{Shared, field};
use super::row::{CELL_OCTETS_MAX, KEYS, read_list};
use crate::model::{Day, Facts, NameRef, OriginSide, Status, SuffixTable};

/// The first year that numbers were given out in, as the number's own parser has it.
const YEAR_MIN: i32 = 1999;
/// Columns whose presence sends a row the slow way: rare, and each with checks of its own.
const SLOW: [&str; 5] = ["addresses", "ip_filed", "origin", "provisional_access_until", "real_name"];

/// A row's cells by key, in the order of [`KEYS`].
type Cells<'a> = [&'a str; KEYS.len()];

/// What the access column says, as `provider` sees it.
#[derive(Clone, Copy)]
struct Access {
    /// Number of the joined set; unused for the empty set.
    number: u32,
    here: bool,
    is_empty: bool,
}

/// Reads usual rows; one a worker and file.
pub struct Quick<'a> {
    dictionary: &'a Dictionary,
    provider: &'a str,
    suffixes: &'a SuffixTable,
    year: i32,
    /// Per column its place in [`KEYS`]; `None` for the operator's own.
    columns: Vec<Option<usize>>,
    access: HashMap<Box<str>, Option<Access>>,
}

impl<'a> Quick<'a> {
    /// A reader of rows with these columns.
    pub fn new(
        dictionary: &'a Dictionary,
        provider: &'a str,
        suffixes: &'a SuffixTable,
        year: i32,
        columns: &[Option<&'static str>],
    ) -> Self {
        let place = |key: &str| KEYS.iter().position(|(known, _)| *known == key);
        let columns = columns.iter().map(|key| key.and_then(place)).collect();
        Self { dictionary, provider, suffixes, year, columns, access: HashMap::new() }
    }

    /// Appends the row that `line` spells, without its line feed and without quotes; false leaves it to the slow way.
    pub fn read(&mut self, remembered: &mut Remembered, line: &str, number: u32, rows: &mut Rows) -> bool {
        self.try_read(remembered, line, number, rows).is_some()
    }

    fn try_read(&mut self, remembered: &mut Remembered, line: &str, number: u32, rows: &mut Rows) -> Option<()> {
        let cells = self.cells(line)?;
        let cell = |key: usize| cells[key];
        let mut wire = [0; 256];
        let name = self.domain(cell(key::DOMAIN), &mut wire)?;
        let spelling = cell(key::DOMAIN_UNICODE);
        if !spelling.is_empty() && spelling != cell(key::DOMAIN) {
            return None;
        }
        let access = self.access(remembered, cell(key::ACCESS))?;
        let status = Status::parse(cell(key::STATUS))?;
        let restricted = match cell(key::RESTRICTED) {
            "" | "0" => false,
            "1" => true,
            _ => return None,
        };
        let site = self.number(cell(key::SITE_NO))?;
        let subject = self.number(cell(key::SUBJECT_NO))?;
        if site.is_none() && !matches!(status, Status::Pending | Status::Rejected) {
            return None;
        }
        let subject_is_stem = match (site, subject) {
            (Some(site), Some(_)) if cell(key::SITE_NO)[..site.main_octets()] == *cell(key::SUBJECT_NO) => true,
            (Some(_), Some(_)) => return None,
            (_, Some(subject)) if !subject.is_main() => return None,
            _ => false,
        };
        let filed_on = day(cell(key::FILED_ON))?;
        let updated_on = day(cell(key::UPDATED_ON))?;
        let facts = Facts {
            status,
            accessed_here: access.here,
            access_is_empty: access.is_empty,
            restricted,
            provisional_until: None,
            expires_on: day(cell(key::EXPIRES_ON))?,
            origin: OriginSide::Unknown,
        };
        let subject_in_full = subject.filter(|_| !subject_is_stem);
        let flags = [
            (!access.is_empty, field::ACCESS),
            (site.is_some(), field::SITE_NO),
            (subject_is_stem, field::SUBJECT_IS_STEM),
            (filed_on.is_some(), field::FILED_ON),
            (updated_on.is_some(), field::UPDATED_ON),
            (subject_in_full.is_some(), field::SUBJECT_NO),
        ];
        let present = flags.iter().filter(|(is_present, _)| *is_present).fold(0, |sum, (_, bit)| sum | bit);
        let present =
            TEXTS.iter().filter(|(key, _, _)| !cells[*key].is_empty()).fold(present, |sum, (_, bit, _)| sum | bit);

        rows.push_entry(name.wire(), &facts);
        let out = &mut rows.cold;
        write_number(out, u64::from(number));
        write_number(out, u64::from(present));
        if !access.is_empty {
            write_number(out, u64::from(access.number) + 1);
        }
        if let Some(site) = site {
            site.write(out);
        }
        let shared = Shared(self.dictionary);
        let mut texts = TEXTS.iter().filter(|(key, _, _)| !cells[*key].is_empty()).peekable();
        let mut write_up_to = |out: &mut Vec<u8>, bit: u32| {
            while let Some(&(key, _, is_shared)) = texts.next_if(|(_, own, _)| *own < bit) {
                if is_shared {
                    shared.write(remembered, out, cells[key]);
                } else {
                    write_text(out, cells[key]);
                }
            }
        };
        write_up_to(out, field::FILED_ON);
        for day in [filed_on, updated_on].into_iter().flatten() {
            write_day(out, day.number());
        }
        write_up_to(out, field::SUBJECT_NO);
        if let Some(subject) = subject_in_full {
            subject.write(out);
        }
        write_up_to(out, u32::MAX);
        Some(())
    }

    /// The cells by key, trimmed; `None` where a cell asks for a closer look or their number is not the header's.
    fn cells<'b>(&self, line: &'b str) -> Option<Cells<'b>> {
        let mut res = [""; KEYS.len()];
        let mut columns = self.columns.iter();
        for cell in line.split(',') {
            let Some(key) = *columns.next()? else { continue };
            if cell.len() > CELL_OCTETS_MAX {
                return None;
            }
            // Blanks around a domain are reported.
            res[key] = if key == key::DOMAIN { cell } else { cell.trim() };
        }
        let is_slow = columns.next().is_some() || key::SLOW.iter().any(|&key| !res[key].is_empty());
        (!is_slow).then_some(res)
    }

    /// A plain domain directly below a listed suffix.
    fn domain<'b>(&self, text: &str, wire: &'b mut [u8; 256]) -> Option<NameRef<'b>> {
        let text = text.as_bytes();
        if text.len() > 253 {
            return None;
        }
        let (mut label_at, mut at) = (0, 1);
        for &octet in text {
            match octet {
                b'a'..=b'z' | b'0'..=b'9' | b'-' => wire[at] = octet,
                b'.' => {
                    close_label(wire, label_at, at)?;
                    label_at = at;
                }
                _ => return None,
            }
            at += 1;
        }
        close_label(wire, label_at, at)?;
        let top = &wire[label_at + 1..at];
        // Letters only: no address ends so, and neither does an A-label.
        if !top.iter().all(u8::is_ascii_lowercase) || is_reserved(top) {
            return None;
        }
        wire[at] = 0;
        let name = NameRef::from_canonical_wire(&wire[..=at]);
        let is_registrable = self.suffixes.registrable(name).is_some_and(|domain| domain.wire().len() == at + 1);
        (is_registrable && self.suffixes.lists_top_level(name)).then_some(name)
    }

    fn access(&mut self, remembered: &mut Remembered, text: &str) -> Option<Access> {
        if text.is_empty() {
            return Some(Access { number: 0, here: false, is_empty: true });
        }
        if let Some(&known) = self.access.get(text) {
            return known;
        }
        let ids = read_list(text, |_| ()).ok();
        let access = ids.and_then(|ids| {
            let number = remembered.number(self.dictionary, &ids.join(";")).filter(|_| !ids.is_empty())?;
            Some(Access { number, here: ids.iter().any(|id| id == self.provider), is_empty: false })
        });
        if self.access.len() < TEXTS_MAX {
            self.access.insert(text.into(), access);
        }
        access
    }

    /// A number in canonical spelling, or none; the outer `None` asks for a closer look.
    fn number(&self, text: &str) -> Option<Option<CompactNumber>> {
        if text.is_empty() {
            return Some(None);
        }
        let number = compact(text.as_bytes())?;
        let is_possible = number.year().is_none_or(|year| (YEAR_MIN..=self.year).contains(&year));
        is_possible.then_some(Some(number))
    }
}

/// Places in [`KEYS`].
mod key {
    use super::KEYS;

    const fn place(key: &str) -> usize {
        let mut at = 0;
        while at < KEYS.len() {
            if equal(KEYS[at].0.as_bytes(), key.as_bytes()) {
                return at;
            }
            at += 1;
        }
        panic!("not a key")
    }

    const fn equal(a: &[u8], b: &[u8]) -> bool {
        let mut at = 0;
        while at < a.len() && at < b.len() && a[at] == b[at] {
            at += 1;
        }
        at == a.len() && at == b.len()
    }

    pub const ACCESS: usize = place("access");
    pub const ACCOUNT: usize = place("account");
    pub const APPROVAL: usize = place("approval");
    pub const CATEGORY: usize = place("category");
    pub const DOMAIN: usize = place("domain");
    pub const DOMAIN_UNICODE: usize = place("domain_unicode");
    pub const EXPIRES_ON: usize = place("expires_on");
    pub const FILED_ON: usize = place("filed_on");
    pub const PROVINCE: usize = place("province");
    pub const REGISTRAR: usize = place("registrar");
    pub const RESTRICTED: usize = place("restricted");
    pub const SERVICE_CODE: usize = place("service_code");
    pub const SITE_NAME: usize = place("site_name");
    pub const SITE_NO: usize = place("site_no");
    pub const SOURCE: usize = place("source");
    pub const STATUS: usize = place("status");
    pub const SUBJECT: usize = place("subject");
    pub const SUBJECT_NO: usize = place("subject_no");
    pub const SUBJECT_TYPE: usize = place("subject_type");
    pub const UPDATED_ON: usize = place("updated_on");
    pub const SLOW: [usize; super::SLOW.len()] = {
        let mut res = [0; super::SLOW.len()];
        let mut at = 0;
        while at < res.len() {
            res[at] = place(super::SLOW[at]);
            at += 1;
        }
        res
    };
}

/// Columns of free text in the order of the record: place of the key, bit of the field, whether the text is shared.
const TEXTS: [(usize, u32, bool); 10] = [
    (key::SUBJECT_TYPE, field::SUBJECT_TYPE, true),
    (key::PROVINCE, field::PROVINCE, true),
    (key::SOURCE, field::SOURCE, true),
    (key::SUBJECT, field::SUBJECT, false),
    (key::SITE_NAME, field::SITE_NAME, false),
    (key::CATEGORY, field::CATEGORY, true),
    (key::REGISTRAR, field::REGISTRAR, true),
    (key::APPROVAL, field::APPROVAL, false),
    (key::ACCOUNT, field::ACCOUNT, false),
    (key::SERVICE_CODE, field::SERVICE_CODE, false),
];

/// Writes the length of the label that began at `label_at` and ends at `at`, if it is a plain host label.
fn close_label(wire: &mut [u8; 256], label_at: usize, at: usize) -> Option<()> {
    let label = &wire[label_at + 1..at];
    let is_plain = matches!(label, [first, .., last] if *first != b'-' && *last != b'-')
        || matches!(label, [only] if *only != b'-');
    if !is_plain || label.len() > 63 || label.starts_with(b"xn--") {
        return None;
    }
    wire[label_at] = u8::try_from(label.len()).ok()?;
    Some(())
}

/// A day of the calendar, or none; the outer `None` asks for a closer look.
fn day(text: &str) -> Option<Option<Day>> {
    let text: &[u8; 10] = match text.as_bytes() {
        [] => return Some(None),
        text => text.try_into().ok()?,
    };
    let digit = |at: usize| text[at].is_ascii_digit().then(|| i32::from(text[at] - b'0'));
    let year = digit(0)? * 1000 + digit(1)? * 100 + digit(2)? * 10 + digit(3)?;
    let (month, of_month) = (digit(5)? * 10 + digit(6)?, digit(8)? * 10 + digit(9)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if text[4] != b'-' || text[7] != b'-' || !(1..=days).contains(&of_month) {
        return None;
    }
    // Years count from March, so that a leap day is a year's last.
    let (march_year, march_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let of_year = (153 * march_month + 2) / 5 + of_month - 1;
    let leap_days = march_year.div_euclid(4) - march_year.div_euclid(100) + march_year.div_euclid(400);
    /// Days from 1 March of the year 0 to 1970-01-01.
    const TO_1970: i32 = 719_468;
    Some(Some(Day::from_number(march_year * 365 + leap_days + of_year - TO_1970)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for number in (-719_000..100_000).step_by(17).chain([-719_162, 0, 11_016]) {
            let text = Day::from_number(number).to_string();
            if text.len() == 10 {
                assert_eq!(day(&text), Day::parse(&text).ok().map(Some), "{text}");
            }
        }
        assert_eq!(day(""), Some(None));
    }

    proptest! {
        #[test]
        fn what_reads_as_a_day_is_one(text in "[0-9]{3,4}-[0-9]{2}-[0-9]{1,2}") {
            prop_assert_eq!(day(&text), Day::parse(&text).ok().map(Some));
        }
    }
}
