//! Rows by a part of their name: for people, one pass over the names.

use super::{FilingId, Snapshot};
use crate::model::NameRef;

/// The rows at or below `suffix`, at most `limit`, in order of names.
pub fn below(snapshot: &Snapshot, suffix: NameRef<'_>, limit: usize) -> Vec<FilingId> {
    search(snapshot, limit, |name| name.is_at_or_below(suffix))
}

/// The rows whose first label begins with `text`, which is compared in lower case, at most `limit`, in order of names.
pub fn beginning_with(snapshot: &Snapshot, text: &str, limit: usize) -> Vec<FilingId> {
    let wanted = text.to_ascii_lowercase();
    search(snapshot, limit, |name| name.labels().next().is_some_and(|label| label.starts_with(wanted.as_bytes())))
}

fn search(snapshot: &Snapshot, limit: usize, is_wanted: impl Fn(NameRef<'_>) -> bool) -> Vec<FilingId> {
    let mut res: Vec<FilingId> = snapshot.ids().filter(|&id| is_wanted(snapshot.name(id))).take(limit).collect();
    res.sort_by(|&a, &b| snapshot.name(a).cmp(&snapshot.name(b)));
    res
}
