//! Cold records: everything of a row that only people read, in some twenty-five octets.
//!
//! ```text
//! line │ which fields follow │ fields in the order of their bits
//! ```
//!
//! The line counts from the block the row stands in, so that lines inserted above a block rewrite nothing. Texts that many
//! rows share are numbers of the dictionary; a main number that is the stem of the site number is one bit. Status,
//! restriction, end of registration and provisional access stand in the arena entry.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::Filing;
use super::code::{Codes, compact, read_filing_number, write_day, write_filing_number, write_number, write_text};
use super::dictionary::{Dictionary, Remembered};
use crate::model::{Day, Facts, NameRef};

/// One bit a field; a field without its bit is absent. Bits that are flags have no octets.
pub mod field {
    /// 接入商, if any.
    pub const ACCESS: u32 = 1 << 0;
    /// 网站备案号.
    pub const SITE_NO: u32 = 1 << 1;
    /// Flag: 主体备案号 is the stem of 网站备案号.
    pub const SUBJECT_IS_STEM: u32 = 1 << 2;
    /// 性质.
    pub const SUBJECT_TYPE: u32 = 1 << 3;
    /// Province.
    pub const PROVINCE: u32 = 1 << 4;
    /// 审核通过日期.
    pub const FILED_ON: u32 = 1 << 5;
    /// 更新日期.
    pub const UPDATED_ON: u32 = 1 << 6;
    /// 来源.
    pub const SOURCE: u32 = 1 << 7;
    /// 主体备案号 in full.
    pub const SUBJECT_NO: u32 = 1 << 8;
    /// 主办单位.
    pub const SUBJECT: u32 = 1 << 9;
    /// 网站名称.
    pub const SITE_NAME: u32 = 1 << 10;
    /// 类别.
    pub const CATEGORY: u32 = 1 << 11;
    /// 注册商.
    pub const REGISTRAR: u32 = 1 << 12;
    /// Flag: 实名 is yes.
    pub const REAL_NAME: u32 = 1 << 13;
    /// Flag: 实名 is no.
    pub const NO_REAL_NAME: u32 = 1 << 14;
    /// 前置审批.
    pub const APPROVAL: u32 = 1 << 15;
    /// 账号.
    pub const ACCOUNT: u32 = 1 << 16;
    /// 备案服务号.
    pub const SERVICE_CODE: u32 = 1 << 17;
    /// 源站.
    pub const ORIGIN: u32 = 1 << 18;
    /// 地址.
    pub const ADDRESSES: u32 = 1 << 19;
    /// Flag: 管局备案.
    pub const IP_FILED: u32 = 1 << 20;
}

/// Writes records; one a worker.
#[derive(Clone, Copy)]
pub struct Shared<'a>(pub &'a Dictionary);

impl Shared<'_> {
    /// Appends a text: its number in the dictionary plus one, or 0 and the text.
    pub fn write(self, remembered: &mut Remembered, out: &mut Vec<u8>, text: &str) {
        match remembered.number(self.0, text) {
            Some(number) => write_number(out, u64::from(number) + 1),
            None => {
                out.push(0);
                write_text(out, text);
            }
        }
    }

    fn read(self, codes: &mut Codes<'_>) -> String {
        match codes.number() {
            0 => codes.text().to_owned(),
            number => {
                let number = u32::try_from(number - 1).unwrap_or(u32::MAX);
                self.0.text(number).map_or_else(String::new, |text| text.to_string())
            }
        }
    }
}

/// Appends the record of `filing`, standing on line `line` of its block.
pub fn write_record(
    dictionary: &Dictionary,
    remembered: &mut Remembered,
    out: &mut Vec<u8>,
    filing: &Filing,
    line: u32,
) {
    let shared = Shared(dictionary);
    let present = presence(filing);
    write_number(out, u64::from(line));
    write_number(out, u64::from(present));
    if present & field::ACCESS != 0 {
        shared.write(remembered, out, &filing.access.join(";"));
    }
    if let Some(number) = &filing.site_no {
        write_filing_number(out, number);
    }
    for text in [&filing.subject_type, &filing.province].into_iter().flatten() {
        shared.write(remembered, out, text);
    }
    for day in [filing.filed_on, filing.updated_on].into_iter().flatten() {
        write_day(out, day.number());
    }
    if let Some(text) = &filing.source {
        shared.write(remembered, out, text);
    }
    if present & field::SUBJECT_NO != 0 {
        write_filing_number(out, filing.subject_no.as_deref().unwrap_or_default());
    }
    for text in [&filing.subject, &filing.site_name].into_iter().flatten() {
        write_text(out, text);
    }
    for text in [&filing.category, &filing.registrar].into_iter().flatten() {
        shared.write(remembered, out, text);
    }
    for text in [&filing.approval, &filing.account, &filing.service_code].into_iter().flatten() {
        write_text(out, text);
    }
    if let Some(text) = &filing.origin {
        shared.write(remembered, out, text);
    }
    if !filing.addresses.is_empty() {
        let texts: Vec<String> = filing.addresses.iter().map(ToString::to_string).collect();
        write_text(out, &texts.join(";"));
    }
}

fn presence(filing: &Filing) -> u32 {
    use field::*;
    let site = filing.site_no.as_deref();
    let stem = site.and_then(|site| compact(site.as_bytes()).map(|number| &site[..number.main_octets()]));
    let subject_is_stem = stem.is_some() && filing.subject_no.as_deref() == stem;
    let bits = [
        (!filing.access.is_empty(), ACCESS),
        (site.is_some(), SITE_NO),
        (subject_is_stem, SUBJECT_IS_STEM),
        (filing.subject_type.is_some(), SUBJECT_TYPE),
        (filing.province.is_some(), PROVINCE),
        (filing.filed_on.is_some(), FILED_ON),
        (filing.updated_on.is_some(), UPDATED_ON),
        (filing.source.is_some(), SOURCE),
        (filing.subject_no.is_some() && !subject_is_stem, SUBJECT_NO),
        (filing.subject.is_some(), SUBJECT),
        (filing.site_name.is_some(), SITE_NAME),
        (filing.category.is_some(), CATEGORY),
        (filing.registrar.is_some(), REGISTRAR),
        (filing.real_name == Some(true), REAL_NAME),
        (filing.real_name == Some(false), NO_REAL_NAME),
        (filing.approval.is_some(), APPROVAL),
        (filing.account.is_some(), ACCOUNT),
        (filing.service_code.is_some(), SERVICE_CODE),
        (filing.origin.is_some(), ORIGIN),
        (!filing.addresses.is_empty(), ADDRESSES),
        (filing.ip_filed, IP_FILED),
    ];
    bits.iter().filter(|(is_present, _)| *is_present).fold(0, |sum, (_, bit)| sum | bit)
}

/// Reads the record at the start of `octets` into a row; `facts` are those of its arena entry. File and line are the
/// caller's: `line` of the result counts from the block.
pub fn read_record(dictionary: &Dictionary, octets: &[u8], name: NameRef<'_>, facts: &Facts) -> Filing {
    let shared = Shared(dictionary);
    let mut codes = Codes::new(octets);
    let line = u32::try_from(codes.number()).unwrap_or(0);
    let present = u32::try_from(codes.number()).unwrap_or(0);
    let has = |bit: u32| present & bit != 0;
    let mut res = Filing {
        status: facts.status,
        restricted: facts.restricted,
        expires_on: facts.expires_on,
        provisional_access_until: facts.provisional_until,
        ip_filed: has(field::IP_FILED),
        real_name: (has(field::REAL_NAME) || has(field::NO_REAL_NAME)).then_some(has(field::REAL_NAME)),
        line,
        ..Filing::new(name.to_name())
    };
    if has(field::ACCESS) {
        res.access = shared.read(&mut codes).split(';').map(str::to_owned).collect();
    }
    if has(field::SITE_NO) {
        let (main, service) = read_filing_number(&mut codes);
        res.site_no = Some(format!("{main}{service}"));
        res.subject_no = has(field::SUBJECT_IS_STEM).then_some(main);
    }
    let shared_text = |bit: u32, codes: &mut Codes<'_>| has(bit).then(|| shared.read(codes));
    res.subject_type = shared_text(field::SUBJECT_TYPE, &mut codes);
    res.province = shared_text(field::PROVINCE, &mut codes);
    res.filed_on = has(field::FILED_ON).then(|| Day::from_number(codes.day()));
    res.updated_on = has(field::UPDATED_ON).then(|| Day::from_number(codes.day()));
    res.source = shared_text(field::SOURCE, &mut codes);
    if has(field::SUBJECT_NO) {
        let (main, service) = read_filing_number(&mut codes);
        res.subject_no = Some(main + &service);
    }
    let text = |bit: u32, codes: &mut Codes<'_>| has(bit).then(|| codes.text().to_owned());
    res.subject = text(field::SUBJECT, &mut codes);
    res.site_name = text(field::SITE_NAME, &mut codes);
    res.category = shared_text(field::CATEGORY, &mut codes);
    res.registrar = shared_text(field::REGISTRAR, &mut codes);
    res.approval = text(field::APPROVAL, &mut codes);
    res.account = text(field::ACCOUNT, &mut codes);
    res.service_code = text(field::SERVICE_CODE, &mut codes);
    res.origin = shared_text(field::ORIGIN, &mut codes);
    if has(field::ADDRESSES) {
        res.addresses = codes.text().split(';').filter_map(|text| text.parse().ok()).collect();
    }
    res
}

/// The line within its block of the record at the start of `octets`, and the octets that do not depend on it.
pub fn split_line(octets: &[u8]) -> (u32, &[u8]) {
    let mut codes = Codes::new(octets);
    let line = u32::try_from(codes.number()).unwrap_or(0);
    (line, codes.rest())
}

/// Hashes of the main numbers that the record at the start of `octets` stands under: its own and its site number's.
pub fn main_number_hashes(octets: &[u8]) -> [Option<u32>; 2] {
    let mut codes = Codes::new(octets);
    codes.number();
    let present = u32::try_from(codes.number()).unwrap_or(0);
    let skip_shared = |codes: &mut Codes<'_>, bits: u32| {
        for _ in 0..(present & bits).count_ones() {
            if codes.number() == 0 {
                codes.text();
            }
        }
    };
    skip_shared(&mut codes, field::ACCESS);
    let of_site = (present & field::SITE_NO != 0).then(|| number_hash(&mut codes));
    if present & field::SUBJECT_NO == 0 {
        return [of_site, None];
    }
    skip_shared(&mut codes, field::SUBJECT_TYPE | field::PROVINCE);
    for _ in 0..(present & (field::FILED_ON | field::UPDATED_ON)).count_ones() {
        codes.number();
    }
    skip_shared(&mut codes, field::SOURCE);
    [of_site, Some(number_hash(&mut codes))]
}

/// The hash of a main number, as [`main_number_hashes`] has it.
pub fn main_number_hash(main_number: &str) -> u32 {
    let mut out = Vec::new();
    write_filing_number(&mut out, main_number);
    number_hash(&mut Codes::new(&out))
}

fn number_hash(codes: &mut Codes<'_>) -> u32 {
    let lead = codes.octet();
    let mut hasher = SipHasher13::new_with_keys(0, 0);
    if lead == 0 {
        hasher.write(super::event::main_number(codes.text()).as_bytes());
    } else {
        hasher.write_u8(lead);
        hasher.write_u64(codes.number());
        codes.number();
    }
    hasher.finish() as u32
}

/// How many octets the record at the start of `octets` takes.
pub fn record_octets(octets: &[u8]) -> usize {
    let mut codes = Codes::new(octets);
    codes.number();
    let present = u32::try_from(codes.number()).unwrap_or(0);
    let count = |bits: u32| (present & bits).count_ones();
    let skip_shared = |codes: &mut Codes<'_>, times: u32| {
        for _ in 0..times {
            if codes.number() == 0 {
                codes.text();
            }
        }
    };
    let skip_filing_number = |codes: &mut Codes<'_>, times: u32| {
        for _ in 0..times {
            if codes.octet() == 0 {
                codes.text();
            } else {
                codes.number();
                codes.number();
            }
        }
    };
    skip_shared(&mut codes, count(field::ACCESS));
    skip_filing_number(&mut codes, count(field::SITE_NO));
    skip_shared(&mut codes, count(field::SUBJECT_TYPE | field::PROVINCE));
    for _ in 0..count(field::FILED_ON | field::UPDATED_ON) {
        codes.number();
    }
    skip_shared(&mut codes, count(field::SOURCE));
    skip_filing_number(&mut codes, count(field::SUBJECT_NO));
    for _ in 0..count(field::SUBJECT | field::SITE_NAME) {
        codes.text();
    }
    skip_shared(&mut codes, count(field::CATEGORY | field::REGISTRAR));
    for _ in 0..count(field::APPROVAL | field::ACCOUNT | field::SERVICE_CODE) {
        codes.text();
    }
    skip_shared(&mut codes, count(field::ORIGIN));
    for _ in 0..count(field::ADDRESSES) {
        codes.text();
    }
    octets.len() - codes.rest().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DomainName;
    use proptest::prelude::*;

    fn optional_text() -> impl Strategy<Value = Option<String>> {
        proptest::option::of("[^;]{1,12}")
    }

    prop_compose! {
        fn filing()(
            texts in proptest::collection::vec(optional_text(), 9),
            numbers in (0..5usize, 0..4usize),
            access in proptest::collection::btree_set("[a-z0-9]{1,6}", 0..4),
            days in proptest::collection::vec(proptest::option::of(-1000i32..60_000), 4),
            flags in (any::<bool>(), proptest::option::of(any::<bool>()), any::<bool>()),
            addresses in proptest::collection::vec(any::<std::net::IpAddr>(), 0..3),
            line in any::<u32>(),
        ) -> Filing {
            let site_numbers = [None, Some("京ICP备2021000001号-1"), Some("粤B2-20090059"), Some("合字B2-20090001-3"), Some("x")];
            let subject_numbers = [None, Some("京ICP备2021000001号"), Some("粤B2-20090059"), Some("合字B2-20090001")];
            let owned = |text: Option<&str>| text.map(str::to_owned);
            let day = |i: usize| days[i].map(Day::from_number);
            Filing {
                site_no: owned(site_numbers[numbers.0]),
                subject_no: owned(subject_numbers[numbers.1]),
                access: access.into_iter().collect(),
                subject: texts[0].clone(),
                subject_type: texts[1].clone(),
                province: texts[2].clone(),
                site_name: texts[3].clone(),
                category: texts[4].clone(),
                approval: texts[5].clone(),
                service_code: texts[6].clone(),
                account: texts[7].clone(),
                registrar: texts[8].clone(),
                source: texts[0].clone(),
                origin: texts[1].clone(),
                filed_on: day(0),
                updated_on: day(1),
                expires_on: day(2),
                provisional_access_until: day(3),
                restricted: flags.0,
                real_name: flags.1,
                ip_filed: flags.2,
                addresses: addresses.into_iter().map(ipnet::IpNet::from).collect(),
                line,
                ..Filing::new(DomainName::from_text("here.cn").expect("a name"))
            }
        }
    }

    proptest! {
        #[test]
        fn a_row_is_read_back_as_it_was(filing in filing()) {
            let dictionary = Dictionary::default();
            let mut out = Vec::new();
            write_record(&dictionary, &mut Remembered::default(), &mut out, &filing, filing.line);
            let whole = out.len();
            out.extend_from_slice(b"the next record");
            let found = read_record(&dictionary, &out, filing.domain.as_ref(), &filing.facts("self"));
            prop_assert_eq!(format!("{found:?}"), format!("{filing:?}"));
            prop_assert_eq!(record_octets(&out), whole);
            prop_assert_eq!(split_line(&out).0, filing.line);
        }

        #[test]
        fn any_octets_read_without_harm(octets in proptest::collection::vec(any::<u8>(), 0..60)) {
            let name = DomainName::from_text("here.cn").expect("a name");
            let facts = Filing::new(name.clone()).facts("self");
            let _ = (read_record(&Dictionary::default(), &octets, name.as_ref(), &facts), record_octets(&octets));
        }
    }
}
