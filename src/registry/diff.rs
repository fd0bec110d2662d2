//! What a new snapshot changes: who comes, who goes, whose verdicts may turn.

use std::cmp::Ordering;

use super::{Filing, Snapshot};
use crate::model::DomainName;

/// One domain that differs.
#[derive(Clone, Debug)]
pub enum Change {
    /// New.
    Added(DomainName),
    /// The part verdicts read differs; sentences name what, old then new.
    Changed(DomainName, Vec<String>),
    /// Gone.
    Removed(DomainName),
}

/// The difference of two snapshots, in order of names.
#[derive(Clone, Debug, Default)]
pub struct Diff {
    /// Domains that differ.
    pub changes: Vec<Change>,
    /// How many are new.
    pub added: usize,
    /// How many differ.
    pub changed: usize,
    /// How many are gone.
    pub removed: usize,
}

/// Compares two snapshots. Cost: one pass over both.
pub fn diff(old: &Snapshot, new: &Snapshot) -> Diff {
    let mut res = Diff::default();
    let (mut left, mut right) = (old.rows().peekable(), new.rows().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return res,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.domain.cmp(&b.domain),
        };
        if order == Ordering::Less {
            res.removed += 1;
            res.changes.extend(left.next().map(|row| Change::Removed(row.domain.clone())));
        } else if order == Ordering::Greater {
            res.added += 1;
            res.changes.extend(right.next().map(|row| Change::Added(row.domain.clone())));
        } else if let (Some(a), Some(b)) = (left.next(), right.next()) {
            let what = differences(a, b);
            if !what.is_empty() {
                res.changed += 1;
                res.changes.push(Change::Changed(a.domain.clone(), what));
            }
        }
    }
}

fn differences(a: &Filing, b: &Filing) -> Vec<String> {
    let mut res = Vec::new();
    let mut compare = |key: &str, old: String, new: String| {
        if old != new {
            res.push(format!("{key}: {old} → {new}"));
        }
    };
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".to_owned());
    let day = |value: Option<crate::model::Day>| value.map_or_else(|| "–".to_owned(), |day| day.to_string());
    compare("status", a.status.label().to_owned(), b.status.label().to_owned());
    compare("access", a.access.join(";"), b.access.join(";"));
    compare("site_no", text(&a.site_no), text(&b.site_no));
    compare("restricted", a.restricted.to_string(), b.restricted.to_string());
    compare("expires_on", day(a.expires_on), day(b.expires_on));
    compare("provisional_access_until", day(a.provisional_access_until), day(b.provisional_access_until));
    compare("origin", text(&a.origin), text(&b.origin));
    if a.addresses != b.addresses {
        res.push("addresses differ".to_owned());
    }
    res
}
