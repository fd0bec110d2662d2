//! Rows of all files to one row a domain.
//!
//! The rule, independent of the order of rows and files: equal rows merge silently. Of rows that contradict each other
//! (域名冲突, rule R21) the one with the latest `updated_on` counts where all have one; else the strictest counts, since a false
//! allow cannot be taken back. Every contradiction is reported with both places. Changes files come after, by path.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;

use super::Filing;
use super::event::Rows;
use super::issue::{Issue, Severity};
use crate::model::Status;

/// Merges rows; contradictions become issues at the rows that do not count.
pub fn merge(filings: Vec<Filing>, issues: &mut Vec<Issue>) -> Rows {
    let mut res = Rows::with_capacity(filings.len());
    let mut repeated: std::collections::BTreeMap<_, Vec<Filing>> = std::collections::BTreeMap::new();
    for filing in filings {
        match res.entry(filing.domain.clone()) {
            Entry::Vacant(entry) => drop(entry.insert(filing)),
            Entry::Occupied(entry) => repeated.entry(entry.key().clone()).or_default().push(filing),
        }
    }
    for (domain, mut rows) in repeated {
        rows.extend(res.remove(&domain));
        let chosen = rows.swap_remove(choose(&rows));
        rows.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        for row in rows.iter().filter(|row| !says_the_same(&chosen, row)) {
            let message = format!("{domain} is also at {}:{}, which counts (域名冲突)", chosen.file, chosen.line);
            issues.push(Issue::at(Severity::Error, "R21", &row.file, row.line, message));
        }
        res.insert(domain, chosen);
    }
    res
}

/// The row that counts among several of one domain: a function of the set, not of its order.
fn choose(rows: &[Filing]) -> usize {
    let latest = rows.iter().map(|row| row.updated_on).max().flatten();
    let all_dated = rows.iter().all(|row| row.updated_on.is_some());
    let candidates = rows.iter().enumerate().filter(|(_, row)| !all_dated || row.updated_on == latest);
    candidates.max_by_key(|(_, row)| strictness(row)).map_or(0, |(i, _)| i)
}

/// Greater means stricter; the place breaks ties, so that the order is total.
fn strictness(f: &Filing) -> impl Ord {
    (
        f.restricted,
        (f.status != Status::Active, f.status as u8),
        Reverse(f.access.len()),
        Reverse(f.provisional_access_until),
        Reverse((f.access.clone(), f.site_no.clone(), f.expires_on, f.origin.clone(), f.addresses.clone())),
        Reverse((f.file.clone(), f.line)),
    )
}

/// True when the two rows lead to the same verdicts and show the same numbers.
fn says_the_same(a: &Filing, b: &Filing) -> bool {
    let key = |f: &Filing| {
        let dates = (f.provisional_access_until, f.expires_on);
        (f.site_no.clone(), f.access.clone(), f.status, f.restricted, dates, f.origin.clone())
    };
    key(a) == key(b) && a.addresses == b.addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Day, DomainName};

    fn row(line: u32, access: &[&str], status: Status, updated: Option<&str>) -> Filing {
        Filing {
            access: access.iter().map(|&id| id.to_owned()).collect(),
            status,
            updated_on: updated.map(|text| Day::parse(text).expect("a day")),
            line,
            ..Filing::new(DomainName::from_text("x.cn").expect("a name"))
        }
    }

    fn merged(rows: &[Filing]) -> (u32, usize) {
        let mut issues = Vec::new();
        let res = merge(rows.to_vec(), &mut issues);
        (res.values().next().expect("one row").line, issues.len())
    }

    #[test]
    fn equal_rows_merge_in_silence() {
        assert_eq!(merged(&[row(2, &["self"], Status::Active, None), row(9, &["self"], Status::Active, None)]), (2, 0));
    }

    #[test]
    fn of_contradicting_rows_the_latest_then_the_strictest_counts() {
        let old = row(2, &["self"], Status::Active, Some("2026-01-01"));
        let new = row(3, &["self"], Status::Cancelled, Some("2026-02-01"));
        let undated = row(4, &["other"], Status::Active, None);
        let ours = row(5, &["self", "other"], Status::Active, None);
        for rows in [[old.clone(), new.clone()], [new, old]] {
            assert_eq!(merged(&rows), (3, 1));
        }
        for rows in [[undated.clone(), ours.clone()], [ours, undated]] {
            assert_eq!(merged(&rows), (4, 1));
        }
    }
}
