//! Compact codes of values in cold records: whole numbers, days, filing numbers, texts.
//!
//! Readers never fail: octets that end early read as zeros and empty texts. What is read is for people; nothing a verdict
//! needs passes through here.

use std::borrow::Cow;

use crate::model::number::PROVINCES;

/// Day that most filings lie near: 2015-01-01. Days within 22 years of it take two octets.
const MIDDLE_DAY: i32 = 16_436;

/// Appends a whole number, seven bits an octet, lowest first.
pub fn write_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a day.
pub fn write_day(out: &mut Vec<u8>, day: i32) {
    let from_middle = i64::from(day) - i64::from(MIDDLE_DAY);
    // Sign in the lowest bit, so that near days are short in both directions.
    write_number(out, ((from_middle << 1) ^ (from_middle >> 63)) as u64);
}

/// Appends a text with its length.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    write_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Reads codes one after another.
pub struct Codes<'a> {
    rest: &'a [u8],
}

impl<'a> Codes<'a> {
    /// Reads from the start of `octets`.
    pub fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// One octet.
    pub fn octet(&mut self) -> u8 {
        let Some((&first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        first
    }

    /// A whole number.
    pub fn number(&mut self) -> u64 {
        let mut res = 0;
        for shift in (0..64).step_by(7) {
            let octet = self.octet();
            res |= u64::from(octet & 0x7f) << shift;
            if octet < 0x80 {
                break;
            }
        }
        res
    }

    /// So many octets; zeros where there are fewer left.
    pub fn take(&mut self, count: usize) -> Cow<'a, [u8]> {
        match self.rest.split_at_checked(count) {
            Some((taken, rest)) => {
                self.rest = rest;
                Cow::Borrowed(taken)
            }
            None => {
                self.rest = &[];
                Cow::Owned(vec![0; count])
            }
        }
    }

    /// A sixteen-octet number.
    pub fn long(&mut self) -> i128 {
        i128::from_le_bytes(self.take(16)[..].try_into().unwrap_or_default())
    }

    /// A day.
    pub fn day(&mut self) -> i32 {
        let code = self.number();
        let from_middle = (code >> 1) as i64 ^ -((code & 1) as i64);
        i32::try_from(from_middle.saturating_add(i64::from(MIDDLE_DAY))).unwrap_or(0)
    }

    /// A text.
    pub fn text(&mut self) -> &'a str {
        let length = usize::try_from(self.number()).unwrap_or(usize::MAX).min(self.rest.len());
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        std::str::from_utf8(text).unwrap_or("")
    }
}

//--- Filing numbers --------------------------------------------------------------------------------------------------

/// What stands between the province letter and the digits, how many digits follow, and what closes the main number.
const FORMS: [(&str, usize, &str); 5] =
    [("ICP备", 10, "号"), ("ICP备", 8, "号"), ("ICP证", 6, "号"), ("B2-", 8, ""), ("A2.B1.B2-", 8, "")];
/// Octets of a province letter.
const PROVINCE_OCTETS: usize = 3;
/// The province of a form that has none: above every letter's number.
const NO_PROVINCE: usize = 31;

/// Appends the canonical text of a filing number; forms that are rare stand as text.
pub fn write_filing_number(out: &mut Vec<u8>, text: &str) {
    match compact(text.as_bytes()) {
        Some(compact) => compact.write(out),
        None => {
            out.push(0);
            write_text(out, text);
        }
    }
}

/// Reads a filing number: main number and service part; a text that stands as it is counts as main number whole.
pub fn read_filing_number(codes: &mut Codes<'_>) -> (String, String) {
    let lead = usize::from(codes.octet());
    if lead == 0 {
        return (codes.text().to_owned(), String::new());
    }
    let (form, province) = ((lead - 1) / 32, (lead - 1) % 32);
    let (middle, count, end) = FORMS.get(form).copied().unwrap_or_default();
    let letter = PROVINCES.get(province * PROVINCE_OCTETS..(province + 1) * PROVINCE_OCTETS).unwrap_or("");
    let digits = codes.number();
    let main = format!("{letter}{middle}{digits:0count$}{end}");
    let service = codes.number();
    let suffix = ["", "A", "X", ""][service as usize & 3];
    let service = if service == 0 { String::new() } else { format!("-{}{suffix}", service >> 2) };
    (main, service)
}

/// A number of a usual form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactNumber {
    form: usize,
    province: usize,
    digits: u64,
    /// Number × 4 + letter; 0 without a service part.
    service: u64,
    main_octets: usize,
}

impl CompactNumber {
    /// Appends the code.
    pub fn write(self, out: &mut Vec<u8>) {
        let lead = 1 + self.form * 32 + self.province;
        out.push(u8::try_from(lead).expect("five forms of 32 provinces fit an octet"));
        write_number(out, self.digits);
        write_number(out, self.service);
    }

    /// True without a service part.
    pub fn is_main(self) -> bool {
        self.service == 0
    }

    /// How many octets of the text are the main number.
    pub fn main_octets(self) -> usize {
        self.main_octets
    }

    /// The year the number was given out in, where its digits tell.
    pub fn year(self) -> Option<i32> {
        let year = match self.form {
            0 => self.digits / 1_000_000,
            1 if self.digits / 1_000_000 >= 99 => 1999,
            1 => 2000 + self.digits / 1_000_000,
            2 => return None,
            _ => self.digits / 10_000,
        };
        i32::try_from(year).ok()
    }
}

/// Takes apart a number in canonical spelling of a usual form.
pub fn compact(text: &[u8]) -> Option<CompactNumber> {
    let (province, after) = match province_number(text.get(..PROVINCE_OCTETS)?) {
        Some(province) => (province, PROVINCE_OCTETS),
        None => (NO_PROVINCE, 0),
    };
    let rest = &text[after..];
    FORMS.iter().enumerate().find_map(|(form, &(middle, count, end))| {
        let rest = rest.strip_prefix(middle.as_bytes())?;
        if province == NO_PROVINCE && form < 3 {
            return None;
        }
        let digits = digits(rest.get(..count)?)?;
        let rest = rest[count..].strip_prefix(end.as_bytes())?;
        let main_octets = text.len() - rest.len();
        Some(CompactNumber { form, province, digits, service: service(rest)?, main_octets })
    })
}

/// `-7A` as number and letter; nothing is 0.
fn service(rest: &[u8]) -> Option<u64> {
    if rest.is_empty() {
        return Some(0);
    }
    let part = rest.strip_prefix(b"-")?;
    let (part, letter) = match part.split_last()? {
        (b'A', part) => (part, 1),
        (b'X', part) => (part, 2),
        _ => (part, 0),
    };
    // No leading zero: those are repaired, and the code has no place for them.
    let is_canonical = !part.is_empty() && part.len() <= 5 && part[0] != b'0';
    if is_canonical { Some(digits(part)? << 2 | letter) } else { None }
}

fn digits(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0, |sum, &octet| octet.is_ascii_digit().then(|| sum * 10 + u64::from(octet - b'0')))
}

/// Which of the province letters this is.
fn province_number(letter: &[u8]) -> Option<usize> {
    PROVINCES.as_bytes().chunks_exact(PROVINCE_OCTETS).position(|known| known == letter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FilingNumber;
    use proptest::prelude::*;

    fn round_trip(text: &str) -> (String, usize) {
        let mut out = Vec::new();
        write_filing_number(&mut out, text);
        let mut codes = Codes::new(&out);
        let (main, service) = read_filing_number(&mut codes);
        assert!(codes.rest().is_empty(), "{text}");
        (main + &service, out.len())
    }

    #[test]
    fn numbers_of_every_form_are_read_back() {
        for (text, main, octets_max) in [
            ("京ICP备2021000001号-1", "京ICP备2021000001号", 7),
            ("粤ICP备13000001号", "粤ICP备13000001号", 6),
            ("京ICP证030173号-12X", "京ICP证030173号", 6),
            ("粤B2-20090059-1626X", "粤B2-20090059", 8),
            ("A2.B1.B2-20090001", "A2.B1.B2-20090001", 8),
            ("闽ICP备B2-20050038", "闽ICP备B2-20050038", 30),
            ("闽ICP备B2-20050038号-3A", "闽ICP备B2-20050038号", 40),
            ("合字B2-20090001-3Q", "合字B2-20090001", 40),
        ] {
            let (found, octets) = round_trip(text);
            assert_eq!(found, text);
            assert!(octets <= octets_max, "{text}: {octets} octets");
            assert_eq!(FilingNumber::parse(text, 2026).expect(text).0.main(), main);
            assert!(compact(text.as_bytes()).is_none_or(|compact| &text[..compact.main_octets()] == main));
        }
    }

    #[test]
    fn codes_that_end_early_read_as_nothing() {
        for octets in [&[][..], &[0xff], &[0, 200, b'x'], &[1], &[255, 255, 255]] {
            let mut codes = Codes::new(octets);
            let _ = (read_filing_number(&mut codes), codes.number(), codes.day(), codes.text());
            assert!(codes.rest().is_empty());
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(number in any::<u64>(), day in -800_000i32..3_000_000, text in ".{0,40}") {
            let mut out = Vec::new();
            write_number(&mut out, number);
            write_day(&mut out, day);
            write_text(&mut out, &text);
            let mut codes = Codes::new(&out);
            prop_assert_eq!((codes.number(), codes.day(), codes.text()), (number, day, text.as_str()));
            prop_assert_eq!(round_trip(&text).0, text);
        }

        #[test]
        fn what_is_compact_is_canonical(text in "[京粤川]?(ICP备|ICP证|B2-)[0-9]{6,10}号?(-[0-9]{0,5}[AXQ]?)?") {
            if let Some(compact) = compact(text.as_bytes()) {
                prop_assert_eq!(&round_trip(&text).0, &text);
                let (number, repairs) = match FilingNumber::parse(&text, i32::MAX) {
                    Ok(found) => found,
                    // The digits name a year before filings began; that is for the parser to say.
                    Err(error) => {
                        prop_assert!(error.to_string().contains("is impossible"), "{text}: {error}");
                        return Ok(());
                    }
                };
                prop_assert_eq!((number.to_text(), repairs.len()), (text.clone(), 0));
                prop_assert_eq!(number.main(), &text[..compact.main_octets()]);
            }
        }
    }
}
