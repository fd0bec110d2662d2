//! What differs after a look-up table was built anew: a walk over the blocks that came and went.
//!
//! A whole table replaced is millions of names; no set of them is made. Rows that went are read in the order in which they
//! lie, each once, and so are rows that came; what is looked up by name is the look-up tables.

use super::arena::split;
use super::cores::on_all_cores;
use super::diff::{Change, Diff, Standing, compare_rows};
use super::files::KnownBlock;
use super::table::{BATCH, Table};
use crate::model::{Day, NameRef};

/// Two tables, and the day on which verdicts are compared.
#[derive(Clone, Copy)]
pub(super) struct Comparison<'a> {
    pub old: &'a Table,
    pub new: &'a Table,
    pub today: Day,
}

impl Comparison<'_> {
    /// Counts what happened to `name`, whose row was `before` and is `now`.
    pub fn count(&self, diff: &mut Diff, name: NameRef<'_>, before: Option<u32>, now: Option<u32>) {
        let standing =
            |table: &Table, row: Option<u32>| row.map(|row| Standing::of(&table.arena.entry(row).facts(), self.today));
        diff.count_standing(standing(self.old, before), standing(self.new, now));
        match (before, now) {
            (None, None) => {}
            (Some(_), None) => diff.count(Change::Removed(name.to_name())),
            (None, Some(_)) => diff.count(Change::Added(name.to_name())),
            (Some(before), Some(now)) => {
                if let Some(what) = compare_rows(self.old, before, self.new, now) {
                    diff.count(Change::Changed(name.to_name(), what));
                }
            }
        }
    }
}

/// Spans of positions whose rows came and went, ascending.
#[derive(Default)]
pub(super) struct Moves {
    came: Vec<(u32, u32)>,
    went: Vec<(u32, u32)>,
}

impl Moves {
    pub fn new(came: &[KnownBlock], went: &[KnownBlock]) -> Self {
        let spans = |blocks: &[KnownBlock]| {
            let mut res: Vec<(u32, u32)> = blocks.iter().map(|block| (block.begin, block.end)).collect();
            res.sort_unstable();
            res
        };
        Self { came: spans(came), went: spans(went) }
    }

    /// What differs in names of which rows came or went, except those that `is_elsewhere` says are counted elsewhere.
    pub fn difference(&self, comparison: &Comparison<'_>, is_elsewhere: impl Fn(NameRef<'_>) -> bool + Sync) -> Diff {
        let Comparison { old, new, .. } = *comparison;
        // Rows that counted and went: their names are gone, or another row counts now.
        let mut res = count_all(
            &self.went,
            |diff, span| {
                each(old, new, span, |name, before, now, position| {
                    if before == Some(position) && !is_elsewhere(name) {
                        comparison.count(diff, name, before, now);
                    }
                });
            },
            // Rows in files are read in order; what was read of either table is not needed again.
            || [old, new].into_iter().for_each(|table| table.arena.let_go()),
        );
        // Rows that came and count: of a new name, or in place of a row that stayed.
        res.merge(count_all(
            &self.came,
            |diff, span| {
                each(new, old, span, |name, now, before, position| {
                    let is_counted = before.is_some_and(|before| self.has_gone(before));
                    if now == Some(position) && !is_counted && !is_elsewhere(name) {
                        comparison.count(diff, name, before, now);
                    }
                });
            },
            || [old, new].into_iter().for_each(|table| table.arena.let_go()),
        ));
        res
    }

    fn has_gone(&self, position: u32) -> bool {
        let after = self.went.partition_point(|&(begin, _)| begin <= position);
        after.checked_sub(1).is_some_and(|i| position < self.went[i].1)
    }
}

/// Calls `visit` with each row of a span of `own`: name, the rows that count for it in `own` and in `other`, its position.
fn each(
    own: &Table,
    other: &Table,
    &(begin, end): &(u32, u32),
    mut visit: impl FnMut(NameRef<'_>, Option<u32>, Option<u32>, u32),
) {
    let mut positions = own.arena.span(begin, end);
    let mut pending: Vec<(u64, u32)> = Vec::with_capacity(BATCH);
    loop {
        pending.clear();
        pending.extend(positions.by_ref().take(BATCH).map(|at| (own.key.hash(own.arena.entry(at).name()), at)));
        if pending.is_empty() {
            return;
        }
        // Asked for first, all the buckets are fetched side by side.
        for &(hash, _) in &pending {
            own.base.search(hash);
            other.base.search(hash);
        }
        for &(hash, at) in &pending {
            let name = own.arena.entry(at).name();
            let find = |table: &Table| table.find_hashed(hash, name).map(|found| found.position);
            visit(name, find(own), find(other), at);
        }
    }
}

/// What `work` counts over all spans, ascending; those of one chunk one after the other, then `done` is called.
fn count_all(spans: &[(u32, u32)], work: impl Fn(&mut Diff, &(u32, u32)) + Sync, done: impl Fn() + Sync) -> Diff {
    let chunks: Vec<&[(u32, u32)]> = spans.chunk_by(|a, b| split(a.0).0 == split(b.0).0).collect();
    let counted = on_all_cores(&chunks, |spans| {
        let mut res = Diff::default();
        spans.iter().for_each(|span| work(&mut res, span));
        done();
        res
    });
    counted.expect("counting does not panic").into_iter().fold(Diff::default(), |mut all, diff| {
        all.merge(diff);
        all
    })
}
