//! What a new snapshot changes: who comes, who goes, whose verdicts may turn.

use super::loaded::LINES_MAX;
use super::table::Table;
use super::{Filing, FilingId, Snapshot};
use crate::count::plural;
use crate::model::{Day, DomainName, Facts, Status};

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

/// Domains that a [`Diff`] names; more are counted only. A whole table replaced is millions, which nobody reads.
pub const CHANGES_MAX: usize = 10_000;

/// The difference of two snapshots.
#[derive(Clone, Debug, Default)]
pub struct Diff {
    /// Domains that differ, in order of names; at most [`CHANGES_MAX`].
    pub changes: Vec<Change>,
    /// How many are new.
    pub added: usize,
    /// How many differ.
    pub changed: usize,
    /// How many are gone.
    pub removed: usize,
    /// Names that stand worse than before: what was served here or filed is so no more.
    pub blocked: usize,
    /// Of those, names whose row is gone.
    pub lost: usize,
    /// Names that stand better.
    pub released: usize,
}

/// Where a name stands for verdicts, from worst to best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// No filing in force.
    Unfiled,
    /// Filed, without access here.
    Elsewhere,
    /// Filed, with access here.
    Here,
}

impl Standing {
    /// The standing that a row gives on `today`.
    pub fn of(facts: &Facts, today: Day) -> Self {
        let is_provisional = facts.provisional_until.is_some_and(|last| today <= last);
        if facts.status != Status::Active || facts.restricted {
            Self::Unfiled
        } else if facts.accessed_here || is_provisional {
            Self::Here
        } else {
            Self::Elsewhere
        }
    }
}

impl Change {
    /// The domain that differs.
    pub fn domain(&self) -> &DomainName {
        match self {
            Self::Added(domain) | Self::Changed(domain, _) | Self::Removed(domain) => domain,
        }
    }
}

impl Diff {
    /// Counts a change, and keeps it while there is room.
    pub fn count(&mut self, change: Change) {
        match &change {
            Change::Added(_) => self.added += 1,
            Change::Changed(..) => self.changed += 1,
            Change::Removed(_) => self.removed += 1,
        }
        if self.changes.len() < CHANGES_MAX {
            self.changes.push(change);
        }
    }

    /// Adds what another one counted.
    pub fn merge(&mut self, other: Self) {
        let Self { changes, added, changed, removed, blocked, lost, released } = other;
        let room = CHANGES_MAX.saturating_sub(self.changes.len());
        self.changes.extend(changes.into_iter().take(room));
        self.added += added;
        self.changed += changed;
        self.removed += removed;
        self.blocked += blocked;
        self.lost += lost;
        self.released += released;
    }

    /// Counts what a change does to verdicts; `None` where there is no row.
    pub fn count_standing(&mut self, before: Option<Standing>, now: Option<Standing>) {
        let of = |standing: Option<Standing>| standing.unwrap_or(Standing::Unfiled);
        self.blocked += usize::from(of(now) < of(before));
        self.lost += usize::from(of(now) < of(before) && now.is_none());
        self.released += usize::from(of(now) > of(before));
    }

    /// Why this is more likely an accident than an edit, where `old_active` rows were in force and a loss of up to
    /// `max_percent` of the filed names is none.
    ///
    /// Names are counted by what verdicts make of them: a lost row that was not in force loses nothing, and a table that
    /// lost a provider's access loses every name of it though no row is gone.
    pub fn loss(&self, old_active: usize, max_percent: u8) -> Option<String> {
        /// Names whose rows were edited to the worse, and are still there, below which nobody suspects an accident.
        const EDITED_MIN: usize = 10;
        let Self { blocked, lost, removed, .. } = *self;
        let percent = |names: usize| names * 100 / old_active.max(1);
        let is_too_much = |names: usize| percent(names) > usize::from(max_percent);
        let is_accident = is_too_much(lost) || (blocked >= EDITED_MIN && is_too_much(blocked));
        (is_accident && old_active > 0).then(|| {
            format!(
                "{blocked} of {old_active} filed names would be blocked ({} %, at most {max_percent} %: registry.max-shrink-percent), {} would go",
                percent(blocked),
                plural(removed, "row")
            )
        })
    }

    /// How much of each kind, and the first domains that differ, for people.
    pub fn summary(&self) -> (Vec<(&'static str, usize)>, Vec<String>) {
        let counts = vec![
            ("added", self.added),
            ("changed", self.changed),
            ("removed", self.removed),
            ("blocked", self.blocked),
            ("released", self.released),
        ];
        let line = |change: &Change| match change {
            Change::Added(domain) => format!("+ {domain}"),
            Change::Changed(domain, what) => format!("~ {domain}: {}", what.join("; ")),
            Change::Removed(domain) => format!("- {domain}"),
        };
        (counts, self.changes.iter().take(LINES_MAX).map(line).collect())
    }

    /// True when nothing differs.
    pub fn is_empty(&self) -> bool {
        self.added + self.changed + self.removed == 0
    }

    /// Brings the named domains into order.
    pub fn sort(&mut self) {
        self.changes.sort_by(|a, b| a.domain().cmp(b.domain()));
    }
}

/// Compares two snapshots. Cost: one look-up a row on either side. How many are blocked and released is as of `today`.
pub fn diff_on(old: &Snapshot, new: &Snapshot, today: Day) -> Diff {
    let standing = |snapshot: &Snapshot, domain: &DomainName| {
        let facts = snapshot.find(domain.as_ref()).map(|id| snapshot.facts(id));
        facts.map(|facts| Standing::of(&facts, today))
    };
    let mut res = Diff::default();
    each_change(old, new, |change| {
        res.count_standing(standing(old, change.domain()), standing(new, change.domain()));
        res.count(change);
    });
    res.sort();
    res
}

/// As [`diff_on`], with provisional access counted as if it never ended.
pub fn diff(old: &Snapshot, new: &Snapshot) -> Diff {
    diff_on(old, new, Day::from_number(i32::MIN))
}

/// Calls `visit` with each domain that differs, in no particular order.
pub fn each_change(old: &Snapshot, new: &Snapshot, mut visit: impl FnMut(Change)) {
    for id in new.ids() {
        let entry = new.table().arena.entry(id.position());
        match old.find(entry.name()) {
            None => visit(Change::Added(entry.name().to_name())),
            Some(before) => {
                if let Some(what) = compare(old, before, new, id) {
                    visit(Change::Changed(entry.name().to_name(), what));
                }
            }
        }
    }
    for id in old.ids() {
        let name = old.table().arena.entry(id.position()).name();
        if new.find(name).is_none() {
            visit(Change::Removed(name.to_name()));
        }
    }
}

/// What differs between two rows of one domain; `None` when nothing does.
pub fn compare(old: &Snapshot, before: FilingId, new: &Snapshot, now: FilingId) -> Option<Vec<String>> {
    compare_rows(old.table(), before.position(), new.table(), now.position())
}

/// As [`compare`], of positions.
pub(super) fn compare_rows(a: &Table, before: u32, b: &Table, now: u32) -> Option<Vec<String>> {
    let of_one_dictionary = std::sync::Arc::ptr_eq(&a.dictionary, &b.dictionary);
    if of_one_dictionary && a.arena.says_the_same(before, &b.arena, now) {
        return None;
    }
    Some(differences(&a.filing(before), &b.filing(now))).filter(|what| !what.is_empty())
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
