//! Checks that need several rows together: rows that share a number, an account, a service code or a subject.
//!
//! On the way over the rows only hashes are kept, for ten million texts would outweigh the registry. A hash leads to rows;
//! what the rows say decides.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};

use super::row::{At, PERSON, finding, number};
use super::{Findings, Options};
use crate::model::{Day, FilingNumber, NumberKind, Status};
use crate::registry::event::main_number;
use crate::registry::issue::Severity;
use crate::registry::{Filing, FilingId, Snapshot};

/// The day from which a site has exactly one domain, and provinces limit sites (rules R6a, R7).
const ONE_DOMAIN_SINCE: &str = "2019-04-22";
/// Keys that a row has at most, as good as: a row with all five is rare.
pub(super) const KEYS_A_ROW: usize = 4;
/// Rows of one group that are unpacked; a million rows under one number are said once, not a million times.
const GROUP_ROWS_MAX: usize = 10_000;

/// What rows can share.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Account = 1,
    Code = 2,
    Main = 3,
    Site = 4,
    Subject = 5,
}

/// One row under one shared text.
#[derive(Clone, Copy)]
pub(super) struct Key {
    /// The kind, then a hash of the text.
    hash: u64,
    /// A hash of what rows of the group must agree in; [`NOT_IN_FORCE`] of a row that is not in force.
    value: u32,
    /// Where the row is.
    position: u32,
}

/// The value of rows that are not in force yet.
const NOT_IN_FORCE: u32 = 0;

impl Key {
    /// The part of the keys it belongs to.
    pub fn part(&self, parts: u64) -> u64 {
        (self.hash >> 8) % parts
    }

    fn kind(&self) -> u8 {
        (self.hash >> 56) as u8
    }
}

/// Calls `visit` with the keys of a row.
pub(super) fn keys(hasher: &RandomState, id: FilingId, row: &Filing, mut visit: impl FnMut(Key)) {
    let key = |kind: Kind, text: &str, value: u32| Key {
        hash: u64::from(kind as u8) << 56 | hasher.hash_one(text) >> 8,
        value,
        position: id.position(),
    };
    // Never that of a row that is not in force.
    let value = |text: Option<&str>| text.map_or(1, |text| hasher.hash_one(text) as u32 | 2);
    match row.status {
        Status::Active => {}
        // A main number that is known before its first site counts: of a subject without sites (rule R23).
        Status::Pending | Status::Rejected => {
            if let Some(main) = &row.subject_no {
                visit(key(Kind::Main, main, NOT_IN_FORCE));
            }
            return;
        }
        Status::Cancelled | Status::Expired => return,
    }
    let subject = row.subject.as_deref();
    if let Some(site_no) = row.site_no.as_deref() {
        let main = main_number(site_no);
        // A main number alone, as of a licence, stands for as many sites as its holder has.
        if main != site_no {
            visit(key(Kind::Site, site_no, 1));
        }
        visit(key(Kind::Main, &main, value(subject)));
        let is_unit = row.subject_type.as_deref().is_some_and(|nature| nature != PERSON);
        if let Some(subject) = subject.filter(|_| is_unit && main.contains("ICP备")) {
            visit(key(Kind::Subject, subject, value(Some(&main))));
        }
    }
    if let Some(account) = row.account.as_deref() {
        visit(key(Kind::Account, account, value(subject)));
    }
    if let Some(code) = row.service_code.as_deref() {
        visit(key(Kind::Code, code, value(row.site_no.as_deref())));
    }
}

/// Checks the groups of all keys of one part.
pub(super) fn check(snapshot: &Snapshot, mut keys: Vec<Key>, options: &Options<'_>, found: &mut Findings) {
    keys.sort_unstable_by_key(|key| (key.hash, key.position));
    let limits_sites = options.lists.provinces.iter().any(|known| known.sites_per_subject.is_some());
    let limits_accounts = options.lists.provinces.iter().any(|known| known.sites_per_account.is_some());
    for group in keys.chunk_by(|a, b| a.hash == b.hash) {
        let differs = group.iter().any(|key| key.value != group[0].value);
        let is_shell = group.iter().all(|key| key.value == NOT_IN_FORCE);
        let kind = group[0].kind();
        let is_of_interest = match kind {
            kind if kind == Kind::Main as u8 => is_shell || differs || (limits_sites && group.len() > 1),
            kind if kind == Kind::Site as u8 => group.len() > 1,
            kind if kind == Kind::Account as u8 => group.len() > 1 && (differs || limits_accounts),
            _ => differs,
        };
        if !is_of_interest {
            continue;
        }
        let mut rows: Vec<Filing> =
            group.iter().take(GROUP_ROWS_MAX).map(|key| snapshot.filing(FilingId::at(key.position))).collect();
        rows.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        let mut checker = GroupChecker { options, found };
        match kind {
            kind if kind == Kind::Main as u8 => checker.main(rows, is_shell),
            kind if kind == Kind::Site as u8 => each_of(rows, |row| row.site_no.clone(), |rows| checker.site(rows)),
            kind if kind == Kind::Account as u8 => {
                each_of(rows, |row| row.account.clone(), |rows| checker.account(rows));
            }
            kind if kind == Kind::Code as u8 => {
                each_of(rows, |row| row.service_code.clone(), |rows| checker.code(rows));
            }
            _ => each_of(rows, |row| row.subject.clone(), |rows| checker.subject(rows)),
        }
    }
}

/// Calls `visit` with the rows of each text: almost always one, for a hash seldom stands for two.
fn each_of(rows: Vec<Filing>, text: impl Fn(&Filing) -> Option<String>, mut visit: impl FnMut(&[Filing])) {
    let texts: BTreeSet<Option<String>> = rows.iter().map(&text).collect();
    if texts.len() == 1 {
        return visit(&rows);
    }
    for one in texts {
        let some: Vec<Filing> = rows.iter().filter(|row| text(row) == one).cloned().collect();
        visit(&some);
    }
}

struct GroupChecker<'a, 'b> {
    options: &'a Options<'a>,
    found: &'b mut Findings,
}

impl GroupChecker<'_, '_> {
    fn note(&mut self, row: &Filing, severity: Severity, rule: &'static str, at: At<'_>, text: [String; 2]) {
        self.found.push(finding(row, severity, rule, at, text));
    }

    /// Rules R6a and R6b: several domains under one site number.
    fn site(&mut self, rows: &[Filing]) {
        let [first, others @ ..] = rows else { return };
        let since = Day::parse(ONE_DOMAIN_SINCE).ok();
        let is_new = rows.iter().any(|row| row.filed_on.is_some() && row.filed_on >= since);
        let (severity, rule, [en, zh]) = if is_new {
            let text =
                ["a site filed since 2019-04-22 has exactly one domain", "2019-04-22 起备案的网站只能有一个域名"];
            (Severity::Error, "R6a", text)
        } else {
            let text = [
                "legacy-multi: a site filed before 2019-04-22 may keep several domains",
                "历史多域名网站：2019-04-22 之前备案的可保留多个域名",
            ];
            (Severity::Info, "R6b", text)
        };
        for row in others {
            let place = format!("{}:{}", first.file, first.line);
            let text = [format!("{en}; also at {place}"), format!("{zh}；另见 {place}")];
            self.note(row, severity, rule, ("site_no", row.site_no.as_deref().unwrap_or_default()), text);
        }
    }

    /// Rules R7, R20 and R23 of the rows under one main number.
    fn main(&mut self, rows: Vec<Filing>, is_shell: bool) {
        let main_of = |row: &Filing| match row.status {
            Status::Active => row.site_no.as_deref().map(main_number),
            _ => row.subject_no.clone(),
        };
        each_of(rows, main_of, |rows| {
            let active: Vec<&Filing> = rows.iter().filter(|row| row.status == Status::Active).collect();
            match (active.first(), rows.first()) {
                // A subject whose first site is being looked at will have one.
                (None, Some(first)) if is_shell && rows.iter().all(|row| row.status != Status::Pending) => {
                    self.shell(first);
                }
                (Some(first), _) => {
                    self.one_subject(first, &active);
                    self.sites(first, &active);
                }
                _ => {}
            }
        });
    }

    /// Rule R23: a main number under which no site is filed.
    fn shell(&mut self, row: &Filing) {
        let main = row.subject_no.as_deref().unwrap_or_default();
        let text = [
            format!("no filed site stands under {main} (空壳主体); the authority will deregister it"),
            format!("{main} 之下没有已备案网站（空壳主体），将被注销"),
        ];
        self.note(row, Severity::Warning, "R23", ("subject_no", main), text);
    }

    /// Rule R20: a main number belongs to one subject.
    fn one_subject(&mut self, first: &Filing, rows: &[&Filing]) {
        let Some(first) = std::iter::once(&first).chain(rows).find(|row| row.subject.is_some()) else { return };
        let main = first.site_no.as_deref().map(main_number).unwrap_or_default();
        let holder = first.subject.as_deref().unwrap_or_default();
        for row in rows {
            let Some(subject) = row.subject.as_deref().filter(|subject| *subject != holder) else { continue };
            let place = format!("{}:{}", first.file, first.line);
            let text = [format!("{main} belongs to {holder} at {place}"), format!("{main} 属于{holder}（{place}）")];
            self.note(row, Severity::Error, "R20", ("subject", subject), text);
        }
    }

    /// Rule R7: sites of one subject.
    fn sites(&mut self, first: &Filing, rows: &[&Filing]) {
        let letter = number(first).as_ref().and_then(FilingNumber::province);
        let limit = letter.and_then(|letter| self.options.lists.province_of(letter)?.sites_per_subject);
        let Some(limit) = limit else { return };
        let since = Day::parse(ONE_DOMAIN_SINCE).ok();
        for row in beyond(limit, rows).into_iter().filter(|row| row.filed_on.is_some() && row.filed_on >= since) {
            let site_no = row.site_no.as_deref().unwrap_or_default();
            let text = [
                format!("more than {limit} sites of one subject, which its province does not take"),
                format!("该主体的网站超过 {limit} 个，省级管局不受理"),
            ];
            self.note(row, Severity::Error, "R7", ("site_no", site_no), text);
        }
    }

    /// Rules R14a and R14b.
    fn account(&mut self, rows: &[Filing]) {
        let known = rows.iter().find(|row| row.subject.is_some());
        if let Some(first) = known {
            for row in rows.iter().filter(|row| row.subject.is_some() && row.subject != first.subject) {
                let place = format!("{}:{}", first.file, first.line);
                let text = [
                    format!("the account files for another subject at {place}"),
                    format!("该账号已用于另一主体（{place}）"),
                ];
                self.note(row, Severity::Error, "R14a", ("account", row.account.as_deref().unwrap_or_default()), text);
            }
        }
        for known in self.options.lists.provinces.iter().filter(|known| known.sites_per_account.is_some()) {
            let of_province = |row: &&Filing| number(row).and_then(|number| number.province()) == Some(known.letter);
            let rows: Vec<&Filing> = rows.iter().filter(of_province).collect();
            let limit = known.sites_per_account.unwrap_or(usize::MAX);
            for row in beyond(limit, &rows) {
                let text = [
                    format!("{} takes at most {limit} in one account", known.letter),
                    format!("{}：每个账号的网站不超过 {limit} 个", known.name),
                ];
                self.note(row, Severity::Error, "R14b", ("account", row.account.as_deref().unwrap_or_default()), text);
            }
        }
    }

    /// Rule R17: a service code belongs to one site; its domains share it.
    fn code(&mut self, rows: &[Filing]) {
        let [first, others @ ..] = rows else { return };
        for row in others.iter().filter(|row| row.site_no != first.site_no) {
            let text = [
                format!("is used by {} at {}:{} already", first.domain, first.file, first.line),
                format!("已用于 {}（{}:{}）", first.domain, first.file, first.line),
            ];
            self.note(row, Severity::Error, "R17", ("service_code", row.service_code.as_deref().unwrap_or("")), text);
        }
    }

    /// Rule R20, the other way round: a unit has one main number. A warning, for two units may bear one name.
    fn subject(&mut self, rows: &[Filing]) {
        let is_filing = |row: &&Filing| {
            number(row).is_some_and(|number| number.kind() != NumberKind::Licence) && row.subject_no_of_site().is_some()
        };
        let rows: Vec<&Filing> = rows.iter().filter(is_filing).collect();
        let [first, others @ ..] = rows.as_slice() else { return };
        let main = first.subject_no_of_site();
        for row in others.iter().filter(|row| row.subject_no_of_site() != main) {
            let place = format!("{}:{}", first.file, first.line);
            let known = main.as_deref().unwrap_or_default();
            let text = [
                format!("the subject has the main number {known} at {place}"),
                format!("该主体另有主体备案号 {known}（{place}）"),
            ];
            self.note(row, Severity::Warning, "R20", ("site_no", row.site_no.as_deref().unwrap_or_default()), text);
        }
    }
}

/// The rows of sites beyond the first `limit`, in the order in which they were filed, one a site.
fn beyond<'a>(limit: usize, rows: &[&'a Filing]) -> Vec<&'a Filing> {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut sites: Vec<&'a Filing> = rows.to_vec();
    // Those of which no day is known were there before days were written down.
    sites.sort_by_key(|row| row.filed_on);
    sites.retain(|row| row.site_no.as_deref().is_some_and(|site_no| seen.insert(site_no)));
    sites.into_iter().skip(limit).collect()
}

impl Filing {
    /// The main number that the site number has as its stem.
    fn subject_no_of_site(&self) -> Option<String> {
        self.site_no.as_deref().map(main_number)
    }
}
