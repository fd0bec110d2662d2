//! Checks that need one row in force alone.

use super::lists::CategoryKind;
use super::{Findings, Options};
use crate::model::number::letter_in_use;
use crate::model::{FilingNumber, NameRef, NumberKind, Status};
use crate::registry::Filing;
use crate::registry::event::main_number;
use crate::registry::issue::{Issue, Severity};

/// The word of rows whose subject is a person.
pub(super) const PERSON: &str = "个人";
/// Words in the nature of a subject from abroad.
const FOREIGN: [&str; 3] = ["外国", "境外", "港澳台"];
/// Words in the nature of a company of the mainland with money from abroad: it files by its own licence (rule N7).
const INVESTED: [&str; 5] = ["投资", "外资", "独资", "合资", "合作"];

/// True for subjects from abroad, which file by a branch or an office (rule R19).
pub(super) fn is_foreign(row: &Filing) -> bool {
    let has_one_of = |text: &str, words: &[&str]| words.iter().any(|word| text.contains(word));
    row.subject_type.as_deref().is_some_and(|text| has_one_of(text, &FOREIGN) && !has_one_of(text, &INVESTED))
}

/// True for the number of a site or service; false for a main number alone, which stands for all of a subject's.
pub(super) fn is_of_site(site_no: &str) -> bool {
    main_number(site_no) != site_no
}

/// True for subjects that are an office of somebody.
pub(super) fn is_office(row: &Filing) -> bool {
    row.subject.as_deref().is_some_and(|subject| ["办事处", "代表处"].iter().any(|word| subject.ends_with(word)))
}

/// The parsed site number of a row.
pub(super) fn number(row: &Filing) -> Option<FilingNumber> {
    FilingNumber::parse(row.site_no.as_deref()?, i32::MAX).ok().map(|(number, _)| number)
}

/// A cell, for findings.
pub(super) type At<'a> = (&'a str, &'a str);

/// A finding about a cell of a row, in both languages.
pub(super) fn finding(
    row: &Filing,
    severity: Severity,
    rule: &'static str,
    (key, value): At<'_>,
    [en, zh]: [String; 2],
) -> Issue {
    Issue::at(severity, rule, &row.file, row.line, en).in_cell(key, 0, value).in_chinese(zh)
}

/// Checks a row, if it is in force.
pub(super) fn check(row: &Filing, options: &Options<'_>, found: &mut Findings) {
    if row.status != Status::Active {
        return;
    }
    let number = number(row);
    let mut checker = RowChecker { row, options, found };
    checker.suffix();
    checker.registrar();
    checker.state();
    checker.dates();
    checker.site();
    checker.category();
    checker.main_alone(number.as_ref());
    checker.province(number.as_ref());
    checker.addresses();
    checker.office(number.as_ref());
}

struct RowChecker<'a, 'b> {
    row: &'a Filing,
    options: &'a Options<'a>,
    found: &'b mut Findings,
}

impl RowChecker<'_, '_> {
    fn note(&mut self, severity: Severity, rule: &'static str, at: At<'_>, text: [String; 2]) {
        self.found.push(finding(self.row, severity, rule, at, text));
    }

    /// Rule R1. A filing older than the list was approved under another one.
    fn suffix(&mut self) {
        let (row, lists) = (self.row, self.options.lists);
        let Some(suffix) = row.domain.as_ref().parent() else { return };
        if lists.is_approved(suffix) || is_documentation(suffix) {
            return;
        }
        let is_new = row.filed_on.is_some_and(|day| day >= lists.suffixes_since);
        let severity = if is_new { Severity::Error } else { Severity::Warning };
        let (suffix, since) = (suffix.to_unicode(), lists.suffixes_since);
        let text = [
            format!("no domain is filed under .{suffix}; approved on {since}"),
            format!(".{suffix} 不在 {since} 的获批后缀之列"),
        ];
        self.note(severity, "R1", ("domain", &row.domain.to_string()), text);
    }

    /// Rule R2, where a list of registrars is given.
    fn registrar(&mut self) {
        let Some(registrar) = self.row.registrar.as_deref() else { return };
        let known = &self.options.lists.registrars;
        if !known.is_empty() && !known.contains(registrar.trim()) {
            let domain = &self.row.domain;
            let text = [
                format!("the registrar of {domain} is not on the list; expected one of registry.lint.registrars"),
                format!("{domain} 的注册商不在 registry.lint.registrars 之列"),
            ];
            self.note(Severity::Error, "R2", ("registrar", registrar), text);
        }
    }

    /// Rules R3, R4, R23, AMB-12.
    fn state(&mut self) {
        let (row, today) = (self.row, self.options.today);
        let domain = &row.domain;
        if row.access.is_empty() {
            let text = [
                format!("{domain} is numbered but nobody gives access (空壳网站); the authority will deregister it"),
                format!("{domain} 有备案号而无接入商（空壳网站），将被注销"),
            ];
            self.note(Severity::Warning, "R23", ("access", ""), text);
        }
        if let Some(end) = row.expires_on.filter(|end| *end < today) {
            let text = [format!("the registration of {domain} has ended"), format!("{domain} 的注册已到期")];
            self.note(Severity::Error, "R3", ("expires_on", &end.to_string()), text);
        }
        if row.real_name == Some(false) {
            let text = [format!("{domain} is not verified (域名实名认证)"), format!("{domain} 未完成域名实名认证")];
            self.note(Severity::Error, "R4", ("real_name", "0"), text);
        }
        if let Some(last) = row.provisional_access_until.filter(|last| *last < today) {
            let text = [format!("provisional access of {domain} has ended"), format!("{domain} 的临时接入已到期")];
            self.note(Severity::Info, "AMB-12", ("provisional_access_until", &last.to_string()), text);
        }
    }

    /// Dates that cannot all be true.
    fn dates(&mut self) {
        let (row, today) = (self.row, self.options.today);
        let domain = &row.domain;
        for (key, day) in [("filed_on", row.filed_on), ("updated_on", row.updated_on)] {
            if let Some(day) = day.filter(|day| *day > today) {
                let text = [
                    format!("{domain}: a day that has not come yet; expected at most {today}"),
                    format!("{domain}：日期尚未到来，应不晚于 {today}"),
                ];
                self.note(Severity::Warning, "dates", (key, &day.to_string()), text);
            }
        }
        if let (Some(filed), Some(updated)) = (row.filed_on, row.updated_on)
            && updated < filed
        {
            let text = [
                format!("{domain} was updated before it was filed on {filed}"),
                format!("{domain} 的更新日期早于审核通过日期 {filed}"),
            ];
            self.note(Severity::Warning, "dates", ("updated_on", &updated.to_string()), text);
        }
    }

    /// Rule R11: a word that the subject's own name does not have.
    fn site(&mut self) {
        let Some(name) = self.row.site_name.as_deref() else { return };
        let subject = self.row.subject.as_deref().unwrap_or_default();
        let words = &self.options.lists.naming_words;
        if let Some(word) = words.iter().find(|word| name.contains(*word) && !subject.contains(*word)) {
            let text = [
                format!("holds {word}, which the subject's name does not (registry.lint.naming-words)"),
                format!("含有主体名称所没有的“{word}”（registry.lint.naming-words）"),
            ];
            self.note(Severity::Warning, "R11", ("site_name", name), text);
        }
    }

    /// Rules R10, R12, R13.
    fn category(&mut self) {
        let row = self.row;
        let Some(category) = row.category.as_deref() else { return };
        match self.options.lists.category(category) {
            Some(CategoryKind::Organisation) if row.subject_type.as_deref() == Some(PERSON) => {
                let text = [
                    format!("{} belongs to a person; such a site is filed by a unit", row.domain),
                    format!("{} 的主体为个人，此类网站须由单位备案", row.domain),
                ];
                self.note(Severity::Error, "R10", ("category", category), text);
            }
            Some(CategoryKind::Approval) => self.approval(category),
            Some(CategoryKind::Forum(since)) => {
                let is_new = since.is_none_or(|since| row.filed_on.is_some_and(|day| day >= since));
                let (severity, [en, zh]) = if is_new {
                    (Severity::Error, ["can no longer be filed", "已无法办理备案"])
                } else {
                    (Severity::Info, ["was filed while that was possible, and stays", "在停办之前备案，可保留"])
                };
                let text = [format!("the forum {} {en}", row.domain), format!("论坛 {} {zh}", row.domain)];
                self.note(severity, "R13", ("category", category), text);
            }
            Some(CategoryKind::Organisation) | None => {}
        }
    }

    /// Rule R12: the document, or a note that none is needed and why.
    fn approval(&mut self, category: &str) {
        const NOT_NEEDED: [&str; 3] = ["不需要", "无需", "not needed"];
        let approval = self.row.approval.as_deref().unwrap_or_default().trim();
        let reason = NOT_NEEDED.iter().find_map(|words| approval.strip_prefix(words));
        let reason = reason.map(|reason| reason.trim_matches([':', '：', ' ', '，', ',']));
        let text = match (approval, reason) {
            ("" | "无" | "-" | "none", _) => [
                format!("a site of the category {category} needs an approval; expected its document"),
                format!("类别“{category}”须前置审批，应填写批文"),
            ],
            (_, Some("")) => [
                "says that none is needed, and not why; expected the reason behind it".to_owned(),
                "注明不需要而未说明理由".to_owned(),
            ],
            _ => return,
        };
        self.note(Severity::Error, "R12", ("approval", approval), text);
    }

    /// Rule R20: a site's number is the main number, `-` and a positive integer. Licences are written without one too,
    /// those of the old mixed form among them (rules N9, B.1).
    fn main_alone(&mut self, number: Option<&FilingNumber>) {
        let is_alone = |number: &&FilingNumber| {
            number.kind() == NumberKind::Filing && number.site().is_none() && !number.main().contains("备B2-")
        };
        let Some(number) = number.filter(is_alone) else { return };
        let (main, domain) = (number.main(), &self.row.domain);
        let text = [
            format!("is the main number; expected the number of the site {domain}, such as {main}-1"),
            format!("为主体备案号，应填写网站 {domain} 的备案号，如 {main}-1"),
        ];
        self.note(Severity::Error, "R20", ("site_no", main), text);
    }

    /// Rule R15a.
    fn province(&mut self, number: Option<&FilingNumber>) {
        let Some(province) = self.row.province.as_deref() else { return };
        let letter = number.and_then(FilingNumber::province);
        let domain = &self.row.domain;
        let known = self.options.lists.province(province);
        let text = match (known, letter) {
            (Some(known), Some(letter)) if known.letter != letter => {
                [format!("the number of {domain} was given out in {letter}"), format!("{domain} 的备案号属于{letter}")]
            }
            // Rules B.1: "accept the 31, warn and suggest".
            (Some(known), _) if letter_in_use(province).is_some() => {
                let right = known.letter.to_string();
                let text = [
                    format!("is not the letter that numbers have; expected {right}"),
                    format!("不是备案号所用的简称，应为 {right}"),
                ];
                let issue = finding(self.row, Severity::Warning, "R15a", ("province", province), text);
                return self.found.push(issue.with_fix(right));
            }
            (None, _) => [
                format!("is no province of the mainland; expected its letter, such as {}", letter.unwrap_or('京')),
                format!("不是内地省份，应填写简称，如 {}", letter.unwrap_or('京')),
            ],
            _ => return,
        };
        let issue = finding(self.row, Severity::Error, "R15a", ("province", province), text);
        self.found.push(issue.with_fix(letter.map(String::from).unwrap_or_default()));
    }

    /// Rule R16, where ranges are known. Of a row that others give access to as well, one address must be ours.
    fn addresses(&mut self) {
        let (row, Some((provider, is_ours))) = (self.row, self.options.ours) else { return };
        if row.addresses.is_empty() || !row.access.iter().any(|id| id == provider) {
            return;
        }
        let is_shared = row.access.len() > 1;
        let foreign: Vec<String> = row.addresses.iter().filter(|net| !is_ours(net)).map(ToString::to_string).collect();
        let is_wrong = if is_shared { foreign.len() == row.addresses.len() } else { !foreign.is_empty() };
        if is_wrong {
            let text = [
                format!("{} has access here and leads elsewhere; expected our mainland ranges", row.domain),
                format!("{} 在本接入商接入，地址却不在本接入商内地网段", row.domain),
            ];
            self.note(Severity::Error, "R16", ("addresses", &foreign.join(";")), text);
        }
    }

    /// Rule R19, the part that any row shows: an office of a foreign enterprise does not trade.
    fn office(&mut self, number: Option<&FilingNumber>) {
        let row = self.row;
        let subject = row.subject.as_deref().unwrap_or_default();
        let is_licensed =
            number.is_some_and(|number| number.kind() == NumberKind::Licence || number.main().contains("证"));
        if is_office(row) && is_licensed && is_foreign(row) {
            let text = [
                format!("{subject} is an office of a foreign enterprise and holds a licence to trade"),
                format!("{subject}为外国企业办事处，不得从事经营性业务"),
            ];
            self.note(Severity::Error, "R19", ("site_no", row.site_no.as_deref().unwrap_or_default()), text);
        }
    }
}

/// Names for examples and tests (RFC 6761 sections 6.2 and 6.5).
fn is_documentation(suffix: NameRef<'_>) -> bool {
    matches!(suffix.labels().last(), Some(b"example" | b"test"))
}
