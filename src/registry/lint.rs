//! Findings over whole snapshots that need only the rows (rules A.6). Pure; the severities are the rule book's, but where
//! a filing stays valid although a new one like it would be refused: that is a warning.
//!
//! Cost: one pass, a few look-ups a row.

use std::collections::hash_map::{Entry, RandomState};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasher;

use super::issue::{Issue, Severity};
use super::{Filing, FilingId, Snapshot};
use crate::model::{Day, DomainName, FilingNumber, NameRef, Status};

/// The day from which a site has exactly one domain (rule R6a).
const ONE_DOMAIN_SINCE: &str = "2019-04-22";
/// The date of the approved suffixes (rule R1); see conf/lists/README.md.
const SUFFIXES_SINCE: &str = "2022-08-30";
/// Top-level and second-level names under which domains can be filed.
const SUFFIXES: &str = include_str!("../../conf/lists/approved-suffixes.txt");

/// What a rule is about, for headings; empty for rules that are no rules of the book.
pub fn title(rule: &str) -> &'static str {
    match rule {
        "AMB-12" => "临时接入到期 · provisional access has ended",
        "D-D22" => "公共后缀 · public suffixes cannot be filed",
        "R1" => "后缀未获批准 · suffix not approved",
        "R3" => "域名过期 · domain registration has ended",
        "R4" => "域名未实名 · domain holder not verified",
        "R6a" => "一个网站多个域名 · several domains of one site, filed since 2019-04-22",
        "R6b" => "历史多域名网站 · several domains of one site, filed before 2019-04-22",
        "R8" => "IP 地址 · an address, filed at the local authority",
        "R14a" => "账号与主体不一致 · one account with several subjects",
        "R15a" => "省份不一致 · province and number disagree",
        "R17" => "备案服务号重复 · service code used twice",
        "R20" => "备案号有误 · number malformed, missing or used twice",
        "R21" => "域名冲突 · domain twice, with contradictions",
        "R22" => "非主域名 · spelling repaired to the registrable domain",
        "R23" => "空壳网站 · number without access provider",
        "S2" => "泛域名 · wildcard removed",
        "dates" => "日期矛盾 · dates contradict each other",
        "encoding" | "format" => "格式 · malformed",
        "event" => "变更事项 · event refused or doubtful",
        "limit" => "超限 · beyond a limit",
        _ => "",
    }
}

/// Checks every row, in the order they were read; then the numbers that several rows share.
pub fn lint(snapshot: &Snapshot, today: Day) -> Vec<Issue> {
    let mut linter = Linter::new(snapshot, today);
    for id in snapshot.ids().filter(|&id| snapshot.facts(id).status == Status::Active) {
        linter.row(id, &snapshot.filing(id));
    }
    linter.finish()
}

/// What is collected on the way over the rows: texts as hashes, for ten million of them would outweigh the registry.
/// A hash only leads to a row; what the row says decides.
struct Linter<'a> {
    snapshot: &'a Snapshot,
    today: Day,
    one_domain_since: Option<Day>,
    suffixes_since: Option<Day>,
    suffixes: HashSet<DomainName>,
    hasher: RandomState,
    by_site: Vec<(u64, FilingId)>,
    /// The first row of each main number, account and service code: later ones are held against it.
    by_subject_no: HashMap<u64, FilingId>,
    by_account: HashMap<u64, FilingId>,
    by_service_code: HashMap<u64, FilingId>,
    issues: Vec<Issue>,
}

impl<'a> Linter<'a> {
    fn new(snapshot: &'a Snapshot, today: Day) -> Self {
        let names = SUFFIXES.lines().filter(|line| !line.starts_with('#'));
        Self {
            snapshot,
            today,
            one_domain_since: Day::parse(ONE_DOMAIN_SINCE).ok(),
            suffixes_since: Day::parse(SUFFIXES_SINCE).ok(),
            suffixes: names.filter_map(|line| DomainName::from_text(line.trim()).ok()).collect(),
            hasher: RandomState::new(),
            by_site: Vec::new(),
            by_subject_no: HashMap::new(),
            by_account: HashMap::new(),
            by_service_code: HashMap::new(),
            issues: Vec::new(),
        }
    }

    fn note(&mut self, row: &Filing, severity: Severity, rule: &'static str, cell: (&str, &str), message: String) {
        self.issues.push(Issue::at(severity, rule, &row.file, row.line, message).in_cell(cell.0, 0, cell.1));
    }

    fn row(&mut self, id: FilingId, row: &Filing) {
        let number = row.site_no.as_deref().and_then(|text| FilingNumber::parse(text, i32::MAX).ok());
        let number = number.map(|(number, _)| number);
        if let Some(site_no) = &row.site_no {
            self.by_site.push((self.hasher.hash_one(site_no), id));
        }
        self.suffix(row);
        self.state(row);
        self.dates(row);
        if let Some(number) = &number {
            self.province(row, number);
            self.subject(id, row, number);
        }
        self.holders(id, row);
    }

    /// Rule R1. A filing older than the list was approved under another one.
    fn suffix(&mut self, row: &Filing) {
        let Some(suffix) = row.domain.as_ref().parent() else { return };
        if self.is_approved(suffix) || is_documentation(suffix) {
            return;
        }
        let is_new = row.filed_on.is_some() && row.filed_on >= self.suffixes_since;
        let severity = if is_new { Severity::Error } else { Severity::Warning };
        let domain = &row.domain;
        let message = format!("no domain is filed under .{}; approved on {SUFFIXES_SINCE}", suffix.to_unicode());
        self.note(row, severity, "R1", ("domain", &domain.to_string()), message);
    }

    fn is_approved(&self, suffix: NameRef<'_>) -> bool {
        let mut at = Some(suffix).filter(|name| !name.is_root());
        while let Some(name) = at {
            if self.suffixes.contains(name.wire()) {
                return true;
            }
            at = name.parent().filter(|name| !name.is_root());
        }
        false
    }

    /// Rules R3, R4, R23, AMB-12.
    fn state(&mut self, row: &Filing) {
        let domain = &row.domain;
        if row.access.is_empty() {
            let message =
                format!("{domain} is numbered but nobody gives access (空壳网站); the authority will deregister it");
            self.note(row, Severity::Warning, "R23", ("access", ""), message);
        }
        if let Some(end) = row.expires_on.filter(|end| *end < self.today) {
            let message = format!("the registration of {domain} has ended");
            self.note(row, Severity::Error, "R3", ("expires_on", &end.to_string()), message);
        }
        if row.real_name == Some(false) {
            let message = format!("{domain} is not verified (域名实名认证)");
            self.note(row, Severity::Error, "R4", ("real_name", "0"), message);
        }
        if let Some(last) = row.provisional_access_until.filter(|last| *last < self.today) {
            let message = format!("provisional access of {domain} has ended");
            self.note(row, Severity::Info, "AMB-12", ("provisional_access_until", &last.to_string()), message);
        }
    }

    /// Dates that cannot all be true.
    fn dates(&mut self, row: &Filing) {
        let domain = &row.domain;
        let dated = [("filed_on", row.filed_on), ("updated_on", row.updated_on)];
        for (key, day) in dated.into_iter().filter_map(|(key, day)| Some((key, day?))) {
            if day > self.today {
                let message = format!("{domain}: a day that has not come yet; expected at most {}", self.today);
                self.note(row, Severity::Warning, "dates", (key, &day.to_string()), message);
            }
        }
        if let (Some(filed), Some(updated)) = (row.filed_on, row.updated_on)
            && updated < filed
        {
            let message = format!("{domain} was updated before it was filed on {filed}");
            self.note(row, Severity::Warning, "dates", ("updated_on", &updated.to_string()), message);
        }
    }

    /// Rule R15a.
    fn province(&mut self, row: &Filing, number: &FilingNumber) {
        if let (Some(letter), Some(province)) = (number.province(), row.province.as_deref())
            && !province.starts_with(letter)
        {
            let message = format!("the number of {} was given out in {letter}", row.domain);
            self.note(row, Severity::Error, "R15a", ("province", province), message);
        }
    }

    /// Rule R20: a main number belongs to one subject.
    fn subject(&mut self, id: FilingId, row: &Filing, number: &FilingNumber) {
        let Some(subject) = row.subject.as_deref() else { return };
        let hash = self.hasher.hash_one(number.main());
        let Some(first) = first_of(self.snapshot, &mut self.by_subject_no, hash, id) else { return };
        let known = first.site_no.as_deref().and_then(|text| FilingNumber::parse(text, i32::MAX).ok());
        let is_same_number = known.is_some_and(|(known, _)| known.main() == number.main());
        if is_same_number && first.subject.as_deref().is_some_and(|known| known != subject) {
            let message = format!(
                "{} belongs to {} at {}:{}",
                number.main(),
                first.subject.as_deref().unwrap_or_default(),
                first.file,
                first.line
            );
            self.note(row, Severity::Error, "R20", ("subject", subject), message);
        }
    }

    /// Rules R14a and R17.
    fn holders(&mut self, id: FilingId, row: &Filing) {
        if let (Some(account), Some(subject)) = (row.account.as_deref(), row.subject.as_deref()) {
            let hash = self.hasher.hash_one(account);
            let first = first_of(self.snapshot, &mut self.by_account, hash, id);
            let first = first.filter(|first| first.account.as_deref() == Some(account));
            if let Some(first) = first.filter(|first| first.subject.as_deref().is_some_and(|known| known != subject)) {
                let message = format!("the account files for another subject at {}:{}", first.file, first.line);
                self.note(row, Severity::Error, "R14a", ("account", account), message);
            }
        }
        if let Some(code) = row.service_code.as_deref() {
            let hash = self.hasher.hash_one(code);
            let first = first_of(self.snapshot, &mut self.by_service_code, hash, id);
            let first = first.filter(|first| first.service_code.as_deref() == Some(code));
            // The domains of one site share its code.
            if let Some(first) = first.filter(|first| first.site_no != row.site_no) {
                let message = format!("is used by {} at {}:{} already", first.domain, first.file, first.line);
                self.note(row, Severity::Error, "R17", ("service_code", code), message);
            }
        }
    }

    fn finish(mut self) -> Vec<Issue> {
        let mut by_site = std::mem::take(&mut self.by_site);
        by_site.sort_unstable_by_key(|&(hash, id)| (hash, id.position()));
        let mut shared: BTreeMap<String, Vec<Filing>> = BTreeMap::new();
        for rows in by_site.chunk_by(|a, b| a.0 == b.0).filter(|rows| rows.len() > 1) {
            for &(_, id) in rows {
                let row = self.snapshot.filing(id);
                shared.entry(row.site_no.clone().unwrap_or_default()).or_default().push(row);
            }
        }
        for (site_no, rows) in shared.iter().filter(|(_, rows)| rows.len() > 1) {
            self.shared_number(site_no, rows);
        }
        self.issues
    }

    /// Rules R6a and R6b: several domains under one site number.
    fn shared_number(&mut self, site_no: &str, rows: &[Filing]) {
        let is_new = rows.iter().any(|row| row.filed_on.is_some() && row.filed_on >= self.one_domain_since);
        let (severity, rule, what) = if is_new {
            (Severity::Error, "R6a", "a site filed since 2019-04-22 has exactly one domain")
        } else {
            (Severity::Info, "R6b", "legacy-multi: a site filed before 2019-04-22 may keep several domains")
        };
        for row in rows.iter().skip(1) {
            let message = format!("{what}; also at {}:{}", rows[0].file, rows[0].line);
            self.note(row, severity, rule, ("site_no", site_no), message);
        }
    }
}

/// The row that came first under `hash`; `None` when this one does.
fn first_of(snapshot: &Snapshot, known: &mut HashMap<u64, FilingId>, hash: u64, id: FilingId) -> Option<Filing> {
    match known.entry(hash) {
        Entry::Vacant(entry) => {
            entry.insert(id);
            None
        }
        Entry::Occupied(entry) => Some(snapshot.filing(*entry.get())),
    }
}

/// Names for examples and tests (RFC 6761 sections 6.2 and 6.5).
fn is_documentation(suffix: NameRef<'_>) -> bool {
    matches!(suffix.labels().last(), Some(b"example" | b"test"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::SuffixTable;

    fn day(text: &str) -> Day {
        Day::parse(text).expect(text)
    }

    fn row(domain: &str, site_no: &str) -> Filing {
        Filing {
            site_no: Some(site_no.to_owned()),
            access: vec!["self".to_owned()],
            ..Filing::new(DomainName::from_text(domain).expect(domain))
        }
    }

    fn rules(rows: Vec<Filing>) -> Vec<(&'static str, Severity)> {
        let snapshot = Snapshot::build(1, Arc::new(SuffixTable::built_in()), "self", false, rows);
        lint(&snapshot, day("2026-11-24")).into_iter().map(|issue| (issue.rule, issue.severity)).collect()
    }

    #[test]
    fn sound_rows_have_no_findings() {
        let other = Filing { province: Some("粤".to_owned()), ..row("b.com.cn", "粤ICP备2021000002号-1") };
        assert_eq!(
            rules(vec![row("a.cn", "京ICP备2021000001号-1"), other, row("a.example", "京ICP备2021000003号-1")]),
            []
        );
    }

    #[test]
    fn each_rule_finds_its_rows() {
        let subject = |name: &str, row: Filing| Filing { subject: Some(name.to_owned()), ..row };
        let plain = || row("a.cn", "京ICP备2021000001号-1");
        let second = || row("b.cn", "京ICP备2021000001号-2");
        for (rows, rule, severity) in [
            (vec![row("a.io", "京ICP备2021000001号-1")], "R1", Severity::Warning),
            (
                vec![Filing { filed_on: Some(day("2023-01-01")), ..row("a.io", "京ICP备2021000001号-1") }],
                "R1",
                Severity::Error,
            ),
            (vec![Filing { expires_on: Some(day("2026-11-23")), ..plain() }], "R3", Severity::Error),
            (vec![Filing { real_name: Some(false), ..plain() }], "R4", Severity::Error),
            (vec![Filing { access: Vec::new(), ..plain() }], "R23", Severity::Warning),
            (vec![Filing { province: Some("沪".to_owned()), ..plain() }], "R15a", Severity::Error),
            (vec![Filing { filed_on: Some(day("2027-01-01")), ..plain() }], "dates", Severity::Warning),
            (
                vec![Filing { filed_on: Some(day("2020-01-01")), updated_on: Some(day("2019-01-01")), ..plain() }],
                "dates",
                Severity::Warning,
            ),
            (vec![subject("甲", plain()), subject("乙", second())], "R20", Severity::Error),
            (
                vec![plain(), Filing { filed_on: Some(day("2020-01-01")), ..row("b.cn", "京ICP备2021000001号-1") }],
                "R6a",
                Severity::Error,
            ),
            (vec![plain(), row("b.cn", "京ICP备2021000001号-1")], "R6b", Severity::Info),
            (
                [plain(), second()].map(|row| Filing { service_code: Some("s".to_owned()), ..row }).to_vec(),
                "R17",
                Severity::Error,
            ),
            (
                [subject("甲", plain()), subject("乙", row("c.cn", "沪ICP备2021000009号-1"))]
                    .map(|row| Filing { account: Some("x".to_owned()), ..row })
                    .to_vec(),
                "R14a",
                Severity::Error,
            ),
        ] {
            assert_eq!(rules(rows), [(rule, severity)]);
            assert!(!title(rule).is_empty(), "{rule}");
        }
    }

    #[test]
    fn rows_that_are_not_active_are_left_alone() {
        assert_eq!(rules(vec![Filing { status: Status::Cancelled, access: Vec::new(), ..row("a.io", "x") }]), []);
    }
}
