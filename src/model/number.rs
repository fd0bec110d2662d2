//! Filing numbers (备案号) and licence numbers (许可证号), either of which is a valid number (rule N9, rules B.1).
//!
//! Text is canonicalised first (width, blanks, dashes, letter case, a missing 号), then parsed. What had to be repaired is
//! reported, so that an operator can mend the table; what cannot be read is an error that says what would have been right.

use thiserror::Error;

mod hint;

pub use hint::{PROVINCE_NAMES, hint};

/// The letters of the 31 provinces in use (rules B.1).
pub const PROVINCES: &str = "京津冀晋蒙辽吉黑沪苏浙皖闽赣鲁豫鄂湘粤桂琼渝蜀黔滇藏陕陇青宁新";
/// Letters people write instead, with the one in use.
const PROVINCE_MISTAKES: [(char, char); 4] = [('川', '蜀'), ('贵', '黔'), ('云', '滇'), ('甘', '陇')];
/// Longest text looked at; the longest real number has 28 characters.
const NUMBER_CHARS_MAX: usize = 64;
/// The first year of filings.
const YEAR_MIN: i32 = 1999;
/// Largest service number: five digits.
const SERVICE_MAX: u32 = 99_999;

/// Why text is no filing number.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NumberError {
    /// A number of digits that no form has.
    #[error("{found} digits after {after}; expected {expected}")]
    DigitCount {
        /// What stands before the digits.
        after: &'static str,
        /// Digits found.
        found: usize,
        /// Digits a form has.
        expected: &'static str,
    },
    /// Control characters or markup.
    #[error("holds a character no number can hold; expected a form such as 京ICP备2021000001号-1")]
    ForbiddenCharacter,
    /// A first character that is no province.
    #[error("{0} is not a province letter; expected one of {PROVINCES}")]
    NoSuchProvince(char),
    /// 公安备案号: another regime, never a substitute.
    #[error(
        "this is a public-security number (公安备案号), not a filing number; expected a form such as 京ICP备2021000001号-1"
    )]
    PublicSecurity,
    /// A service part that is none.
    #[error("{0:?} is not a service number; expected - and 1 to 99999, then A for an app or X for a mini-program")]
    ServicePart(String),
    /// No known form.
    #[error("not a filing number; expected a form such as 京ICP备2021000001号-1, 京ICP证030173号 or 粤B2-20090059")]
    UnknownForm,
    /// A year no number was given out in.
    #[error("year {0} is impossible; expected {YEAR_MIN} to this year")]
    Year(i32),
}

/// What a number was given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NumberKind {
    /// A service number of an app (suffix A).
    App,
    /// A filing (备).
    Filing,
    /// A licence (证, or the B2 family).
    Licence,
    /// A service number of a mini-program (suffix X).
    MiniProgram,
    /// A service number with a letter nobody has published.
    OtherService,
}

impl NumberKind {
    /// The label in JSON and findings.
    pub fn label(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Filing => "filing",
            Self::Licence => "licence",
            Self::MiniProgram => "mini-program",
            Self::OtherService => "other-service",
        }
    }
}

/// A number in canonical spelling.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FilingNumber {
    main: String,
    service: Option<String>,
    kind: NumberKind,
    province: Option<char>,
}

/// The province letter in use for one that people write instead of it, 川 for 蜀; `None` for any other text.
pub fn letter_in_use(text: &str) -> Option<char> {
    let mut letters = text.trim().chars();
    let only = letters.next().filter(|_| letters.next().is_none())?;
    PROVINCE_MISTAKES.iter().find(|(wrong, _)| *wrong == only).map(|(_, right)| *right)
}

/// What had to be repaired while reading; empty for canonical spelling.
pub type Repairs = Vec<&'static str>;

impl FilingNumber {
    /// Reads `text`; `year_max` is the current year.
    ///
    /// Returns the number with what was repaired. Source: rules B.1. Cost: a few passes over at most 64 characters.
    pub fn parse(text: &str, year_max: i32) -> Result<(Self, Repairs), NumberError> {
        let (clean, mut repairs) = canonical_characters(text)?;
        if clean.contains("公网安备") {
            return Err(NumberError::PublicSecurity);
        }
        let mut rest = clean.as_str();
        let province = take_province(&mut rest, &mut repairs)?;
        let lead: String = province.into_iter().collect();
        let (main, kind) = if let Some(after) = rest.strip_prefix("ICP备B2-") {
            rest = after;
            let digits = take_digits(&mut rest, "ICP备B2-", &[8], "8", year_max)?;
            let sign = if take(&mut rest, "号") { "号" } else { "" };
            (format!("{lead}ICP备B2-{digits}{sign}"), NumberKind::Filing)
        } else if let Some(after) = rest.strip_prefix("ICP备") {
            rest = after;
            let digits = take_digits(&mut rest, "ICP备", &[8, 10], "8 or 10", year_max)?;
            take_sign(&mut rest, &mut repairs);
            (format!("{lead}ICP备{digits}号"), NumberKind::Filing)
        } else if let Some(after) = rest.strip_prefix("ICP证") {
            rest = after;
            let digits = take_digits(&mut rest, "ICP证", &[6], "6", year_max)?;
            take_sign(&mut rest, &mut repairs);
            (format!("{lead}ICP证{digits}号"), NumberKind::Licence)
        } else {
            let classes = take_classes(&mut rest, province.is_some())?;
            let digits = take_digits(&mut rest, "the licence class", &[8], "8", year_max)?;
            (format!("{lead}{classes}-{digits}"), NumberKind::Licence)
        };
        if province.is_none() && kind == NumberKind::Filing {
            return Err(clean.chars().next().map_or(NumberError::UnknownForm, NumberError::NoSuchProvince));
        }
        let (service, kind) = take_service(rest, kind, &mut repairs)?;
        Ok((Self { main, service, kind, province }, repairs))
    }

    /// 主体备案号 or licence number.
    pub fn main(&self) -> &str {
        &self.main
    }

    /// The site or service number, main number and suffix; `None` where only the main number was given.
    pub fn site(&self) -> Option<String> {
        self.service.as_ref().map(|service| format!("{}-{service}", self.main))
    }

    /// The whole canonical spelling.
    pub fn to_text(&self) -> String {
        self.site().unwrap_or_else(|| self.main.clone())
    }

    /// What it was given for.
    pub fn kind(&self) -> NumberKind {
        self.kind
    }

    /// The province letter; `None` for ministry licences.
    pub fn province(&self) -> Option<char> {
        self.province
    }
}

/// Folds width, case, dashes and blanks; refuses control characters and markup.
fn canonical_characters(text: &str) -> Result<(String, Repairs), NumberError> {
    let mut repairs = Repairs::new();
    let mut note = |what: &'static str| {
        if !repairs.contains(&what) {
            repairs.push(what);
        }
    };
    let mut res = String::new();
    for (i, c) in text.chars().enumerate() {
        if i >= NUMBER_CHARS_MAX || (c.is_control() && c != '\t') || matches!(c, '<' | '>' | '"') {
            return Err(NumberError::ForbiddenCharacter);
        }
        match c {
            '\u{feff}' | '\u{200b}'..='\u{200d}' => note("invisible characters removed"),
            _ if c.is_whitespace() => note("blanks removed"),
            '。' | '.' if text.chars().skip(i + 1).all(|c| c.is_whitespace()) => note("full stop removed"),
            '–' | '—' | '−' | '‐' | '‑' | '－' | '_' => {
                note("dash replaced by -");
                res.push('-');
            }
            '\u{ff01}'..='\u{ff5e}' => {
                note("full-width characters replaced");
                res.extend(char::from_u32(u32::from(c) - 0xfee0).map(|c| c.to_ascii_uppercase()));
            }
            'a'..='z' => {
                note("lower-case letters replaced");
                res.push(c.to_ascii_uppercase());
            }
            _ => res.push(c),
        }
    }
    Ok((res, repairs))
}

fn take(rest: &mut &str, prefix: &str) -> bool {
    match rest.strip_prefix(prefix) {
        Some(after) => {
            *rest = after;
            true
        }
        None => false,
    }
}

fn take_sign(rest: &mut &str, repairs: &mut Repairs) {
    if take(rest, "号") {
        return;
    }
    // "2021000001-1号": the sign slipped behind the service number.
    if let Some(before) = rest.strip_suffix('号') {
        *rest = before;
        repairs.push("号 moved before the service number");
    } else {
        repairs.push("号 added");
    }
}

/// The province letter, if the text starts with one; a usual mistake is replaced.
fn take_province(rest: &mut &str, repairs: &mut Repairs) -> Result<Option<char>, NumberError> {
    let Some(first) = rest.chars().next() else { return Err(NumberError::UnknownForm) };
    if let Some(&(_, right)) = PROVINCE_MISTAKES.iter().find(|&&(wrong, _)| wrong == first) {
        *rest = &rest[first.len_utf8()..];
        repairs.push("province letter replaced by the one in use (川→蜀 贵→黔 云→滇 甘→陇)");
        return Ok(Some(right));
    }
    if PROVINCES.contains(first) {
        *rest = &rest[first.len_utf8()..];
        return Ok(Some(first));
    }
    let names_filing = rest.chars().skip(1).collect::<String>().starts_with("ICP");
    if !first.is_ascii() && first != '合' && names_filing {
        return Err(NumberError::NoSuchProvince(first));
    }
    Ok(None)
}

/// `class("." class)*`, with 合字 before it for licences that cross provinces.
fn take_classes(rest: &mut &str, has_province: bool) -> Result<String, NumberError> {
    let lead = if !has_province && take(rest, "合字") { "合字" } else { "" };
    let (classes, after) = rest.split_once('-').ok_or(NumberError::UnknownForm)?;
    let is_class = |class: &str| matches!(class.as_bytes(), [b'A' | b'B' | b'D', b'1'..=b'9']);
    if !classes.split('.').all(is_class) {
        return Err(NumberError::UnknownForm);
    }
    *rest = after;
    Ok(format!("{lead}{classes}"))
}

fn take_digits<'a>(
    rest: &mut &'a str,
    after: &'static str,
    counts: &[usize],
    expected: &'static str,
    year_max: i32,
) -> Result<&'a str, NumberError> {
    let found = rest.bytes().take_while(u8::is_ascii_digit).count();
    if !counts.contains(&found) {
        return Err(NumberError::DigitCount { after, found, expected });
    }
    let (digits, tail) = rest.split_at(found);
    *rest = tail;
    let number = |text: &str| text.parse::<i32>().unwrap_or(0);
    let year = match (found, after) {
        (10, _) => Some(number(&digits[..4])),
        // Licences of the B2 family carry the whole year; filings of eight digits its last two.
        (8, "ICP备") => Some(if number(&digits[..2]) >= 99 { 1999 } else { 2000 + number(&digits[..2]) }),
        (8, _) => Some(number(&digits[..4])),
        _ => None,
    };
    match year {
        Some(year) if !(YEAR_MIN..=year_max).contains(&year) => Err(NumberError::Year(year)),
        _ => Ok(digits),
    }
}

/// `"-" 1*5DIGIT [kind]` or nothing.
fn take_service(
    rest: &str,
    kind: NumberKind,
    repairs: &mut Repairs,
) -> Result<(Option<String>, NumberKind), NumberError> {
    if rest.is_empty() {
        return Ok((None, kind));
    }
    let bad = || NumberError::ServicePart(rest.to_owned());
    let part = rest.strip_prefix('-').ok_or_else(bad)?;
    let digits_end = part.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, letter) = part.split_at(digits_end);
    let number: u32 = digits.parse().map_err(|_| bad())?;
    if number == 0 || number > SERVICE_MAX {
        return Err(bad());
    }
    if digits.starts_with('0') {
        repairs.push("leading zero removed");
    }
    let kind = match letter {
        "" => kind,
        "A" => NumberKind::App,
        "X" => NumberKind::MiniProgram,
        _ if letter.len() == 1 && letter.bytes().all(|o| o.is_ascii_uppercase()) => {
            repairs.push("unknown service letter");
            NumberKind::OtherService
        }
        _ => return Err(bad()),
    };
    Ok((Some(format!("{number}{letter}")), kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Own vectors: number spellings with verdict and canonical form.
    const VECTORS: &str = include_str!("../../tests/data/edge-numbers.jsonl");

    #[test]
    fn every_vector_gets_its_verdict_and_canonical_form() {
        for line in VECTORS.lines() {
            let row: serde_json::Value = serde_json::from_str(line).expect("a JSON row");
            let input = row["input"].as_str().expect("an input");
            let found = FilingNumber::parse(input, 2026);
            let verdict = match &found {
                Err(_) => "error",
                Ok((_, repairs)) if repairs.is_empty() => "ok",
                Ok(_) => "warn",
            };
            assert_eq!(verdict, row["verdict"], "{input}: {found:?}");
            if let Ok((number, _)) = found {
                assert_eq!(Some(number.main()), row["subject_no"].as_str(), "{input}");
                assert_eq!(number.site().as_deref(), row["site_no"].as_str(), "{input}");
                assert_eq!(Some(number.kind().label()), row["kind"].as_str(), "{input}");
            }
        }
    }

    #[test]
    fn canonical_numbers_parse_to_themselves() {
        for text in ["黔ICP备2025044274号-1X", "粤B2-20090059-1626X", "A2.B1.B2-20090001", "闽ICP备B2-20050038"] {
            let (number, repairs) = FilingNumber::parse(text, 2026).expect(text);
            assert_eq!((number.to_text().as_str(), repairs.len()), (text, 0));
        }
    }

    #[test]
    fn impossible_years_and_police_numbers_say_so() {
        assert_eq!(FilingNumber::parse("黔ICP备36325334号-6", 2026), Err(NumberError::Year(2036)));
        assert_eq!(FilingNumber::parse("粤公网安备44030502008569号", 2026), Err(NumberError::PublicSecurity));
    }
}
