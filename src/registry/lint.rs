//! Findings over whole snapshots that need only the rows (rules A.6). Pure; the severities are the rule book's.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use super::issue::{Issue, Severity};
use super::{Filing, FilingId, Snapshot};
use crate::model::{Day, FilingNumber, Status};

/// The day from which a site has exactly one domain (rule R6a).
const ONE_DOMAIN_SINCE: &str = "2019-04-22";

/// Checks every row, in the order they were read; then the numbers that several rows share.
pub fn lint(snapshot: &Snapshot, today: Day) -> Vec<Issue> {
    let mut res = Vec::new();
    let one_domain_since = Day::parse(ONE_DOMAIN_SINCE).ok();
    // Numbers as hashes first: ten million texts would take more memory than the registry.
    let hasher = RandomState::new();
    let mut by_site: Vec<(u64, FilingId)> = Vec::new();
    for id in snapshot.ids() {
        if snapshot.facts(id).status != Status::Active {
            continue;
        }
        let row = snapshot.filing(id);
        lint_row(&row, today, &mut res);
        if let Some(site_no) = row.site_no {
            by_site.push((hasher.hash_one(site_no), id));
        }
    }
    by_site.sort_unstable();
    let mut shared: BTreeMap<String, Vec<Filing>> = BTreeMap::new();
    for rows in by_site.chunk_by(|a, b| a.0 == b.0).filter(|rows| rows.len() > 1) {
        for &(_, id) in rows {
            let row = snapshot.filing(id);
            shared.entry(row.site_no.clone().unwrap_or_default()).or_default().push(row);
        }
    }
    for (site_no, rows) in shared.iter().filter(|(_, rows)| rows.len() > 1) {
        lint_shared_number(site_no, rows, one_domain_since, &mut res);
    }
    res
}

fn lint_row(row: &Filing, today: Day, res: &mut Vec<Issue>) {
    let mut note = |severity, rule, key: &str, value: &str, message: String| {
        res.push(Issue::at(severity, rule, &row.file, row.line, message).in_cell(key, 0, value));
    };
    let domain = row.domain.to_string();
    if row.access.is_empty() {
        note(
            Severity::Warning,
            "R23",
            "access",
            "",
            format!("{domain} is numbered but nobody gives access (空壳网站); the authority will deregister it"),
        );
    }
    if let Some(end) = row.expires_on.filter(|end| *end < today) {
        note(Severity::Error, "R3", "expires_on", &end.to_string(), format!("the registration of {domain} has ended"));
    }
    if row.real_name == Some(false) {
        note(Severity::Error, "R4", "real_name", "0", format!("{domain} is not verified (域名实名认证)"));
    }
    let number = row.site_no.as_deref().and_then(|text| FilingNumber::parse(text, i32::MAX).ok());
    let letter = number.and_then(|(number, _)| number.province());
    if let (Some(letter), Some(province)) = (letter, row.province.as_deref())
        && !province.starts_with(letter)
    {
        note(
            Severity::Error,
            "R15a",
            "province",
            province,
            format!("the number of {domain} was given out in {letter}"),
        );
    }
    if row.provisional_access_until.is_some_and(|last| last < today) {
        note(
            Severity::Info,
            "AMB-12",
            "provisional_access_until",
            "",
            format!("provisional access of {domain} has ended"),
        );
    }
}

/// Rules R6a and R6b: several domains under one site number.
fn lint_shared_number(site_no: &str, rows: &[Filing], one_domain_since: Option<Day>, res: &mut Vec<Issue>) {
    let is_new = rows.iter().any(|row| row.filed_on.is_some() && row.filed_on >= one_domain_since);
    let (severity, rule, what) = if is_new {
        (Severity::Error, "R6a", "a site filed since 2019-04-22 has exactly one domain")
    } else {
        (Severity::Info, "R6b", "legacy-multi: a site filed before 2019-04-22 may keep several domains")
    };
    for row in rows.iter().skip(1) {
        let message = format!("{what}; also at {}:{}", rows[0].file, rows[0].line);
        res.push(Issue::at(severity, rule, &row.file, row.line, message).in_cell("site_no", 0, site_no));
    }
}
