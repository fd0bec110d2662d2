//! Rows of all files to one row a domain.
//!
//! The rule, independent of the order of rows and files: equal rows merge silently. Of rows that contradict each other
//! (域名冲突, rule R21) the one with the latest `updated_on` counts where all have one; else the strictest counts, since a false
//! allow cannot be taken back: the one with which the provider lets the least through. Every contradiction is reported with
//! both places. Changes files come after, by path.

use std::cmp::Reverse;

use ipnet::IpNet;

use super::Filing;
use super::issue::{Issue, Severity};
use crate::model::{OriginSide, Status};

/// Which of several rows of one domain counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its position among the rows.
    pub at: usize,
    /// True when some other row says something else.
    pub is_contested: bool,
}

/// Chooses among `count` rows, which `row` gives one at a time, as `provider` sees them: a function of the set, not of its
/// order.
///
/// Rows are asked for again rather than kept: one domain may have a million.
pub fn choose(provider: &str, count: usize, row: impl Fn(usize) -> Filing) -> Choice {
    let mut latest = None;
    let mut all_dated = true;
    for i in 0..count {
        let updated_on = row(i).updated_on;
        all_dated &= updated_on.is_some();
        latest = latest.max(updated_on);
    }
    let mut chosen: Option<(usize, Filing)> = None;
    for i in 0..count {
        let next = row(i);
        let is_candidate = !all_dated || next.updated_on == latest;
        let is_stricter = |best: &Filing| strictness(&next, provider) > strictness(best, provider);
        if is_candidate && chosen.as_ref().is_none_or(|(_, best)| is_stricter(best)) {
            chosen = Some((i, next));
        }
    }
    let Some((at, best)) = chosen else { return Choice { at: 0, is_contested: false } };
    let is_contested = (0..count).any(|i| i != at && !says_the_same(&best, &row(i)));
    Choice { at, is_contested }
}

/// Reports the rows that contradict the one that counts, in order of their places.
pub fn report(provider: &str, rows: &mut [Filing], issues: &mut Vec<Issue>) {
    let Choice { at, .. } = choose(provider, rows.len(), |i| rows[i].clone());
    rows.swap(0, at);
    let Some((chosen, others)) = rows.split_first_mut() else { return };
    others.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    for row in others.iter().filter(|row| !says_the_same(chosen, row)) {
        let message = format!("{} is also at {}:{}, which counts (域名冲突)", row.domain, chosen.file, chosen.line);
        issues.push(Issue::at(Severity::Error, "R21", &row.file, row.line, message));
    }
}

/// Greater means stricter for `provider`; texts and the place break ties, so that the order is total.
///
/// The order is the one in which verdicts ask: what blocks everywhere, then what blocks at our servers, then where.
fn strictness(f: &Filing, provider: &str) -> impl Ord {
    let facts = f.facts(provider);
    let origin = match facts.origin {
        OriginSide::Ours => 2,
        OriginSide::Unknown => 1,
        OriginSide::Other => 0,
    };
    let for_verdicts = (
        facts.restricted,
        (facts.status != Status::Active, facts.status as u8),
        !facts.accessed_here,
        // No date comes before every date.
        Reverse(facts.provisional_until),
        Reverse(bound_addresses(f)),
        (facts.expires_on.is_some(), Reverse(facts.expires_on)),
        origin,
    );
    let texts = (f.access.clone(), f.site_no.clone(), f.origin.clone(), f.addresses.clone());
    (for_verdicts, Reverse(f.access.len()), Reverse(texts), Reverse((f.file.clone(), f.line)))
}

/// How many addresses a row is bound to; a row that lists none is bound to no fewer than all.
fn bound_addresses(f: &Filing) -> u128 {
    let sizes = f.addresses.iter().map(|net| {
        let host_bits = match net {
            IpNet::V4(net) => 32 - net.prefix_len(),
            IpNet::V6(net) => 128 - net.prefix_len(),
        };
        1u128.checked_shl(u32::from(host_bits)).unwrap_or(u128::MAX)
    });
    if f.addresses.is_empty() { u128::MAX } else { sizes.fold(0, u128::saturating_add) }
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
        report("self", &mut rows.to_vec(), &mut issues);
        let choice = choose("self", rows.len(), |i| rows[i].clone());
        assert_eq!(choice.is_contested, !issues.is_empty());
        (rows[choice.at].line, issues.len())
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

    #[test]
    fn the_stricter_row_is_the_one_that_lets_the_provider_serve_less() {
        let day = |text: &str| Some(Day::parse(text).expect("a day"));
        let net = |text: &str| vec![text.parse().expect("a prefix")];
        let here = || row(9, &["self"], Status::Active, None);
        let elsewhere = || row(9, &["tencent"], Status::Active, None);
        let several = || row(9, &["p1", "p2"], Status::Active, None);
        let cases = [
            (Filing { restricted: true, ..here() }, row(9, &[], Status::Cancelled, None)),
            (row(9, &["self"], Status::Pending, None), elsewhere()),
            (elsewhere(), here()),
            (several(), here()),
            (row(9, &[], Status::Active, None), here()),
            (elsewhere(), Filing { provisional_access_until: day("2027-01-01"), ..elsewhere() }),
            (
                Filing { provisional_access_until: day("2026-01-01"), ..elsewhere() },
                Filing { provisional_access_until: day("2027-01-01"), ..elsewhere() },
            ),
            (Filing { addresses: net("192.0.2.1/32"), ..here() }, here()),
            (Filing { addresses: net("192.0.2.9/32"), ..here() }, Filing { addresses: net("192.0.2.0/24"), ..here() }),
            (Filing { expires_on: day("2026-01-01"), ..here() }, Filing { expires_on: day("2027-01-01"), ..here() }),
            (Filing { expires_on: day("2026-01-01"), ..here() }, here()),
            (Filing { origin: Some("self".to_owned()), ..elsewhere() }, elsewhere()),
            (elsewhere(), Filing { origin: Some("other".to_owned()), ..elsewhere() }),
        ];
        for (stricter, laxer) in cases {
            let stricter = Filing { line: 5, ..stricter };
            for rows in [[stricter.clone(), laxer.clone()], [laxer.clone(), stricter.clone()]] {
                assert_eq!(merged(&rows), (5, 1), "{stricter:?}\n{laxer:?}");
            }
        }
    }
}
