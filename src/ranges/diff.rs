//! What a new table changes, in address space.

use std::fmt;

use super::span::{Family, Space, Span, Spans};
use super::table::{RangeMatch, Ranges};
use crate::registry::loaded::LINES_MAX;

/// The difference of two tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangesDiff {
    /// Needs a filing now and did not before.
    pub added: Space,
    /// Needed a filing before and does not now.
    pub removed: Space,
    /// Differs otherwise: region, provider, product or origin.
    pub changed: Space,
    /// What goes, for admission: mainland and our own space of each family.
    pub losses: Vec<Loss>,
}

/// How much of one kind of space goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// What it is, as in "mainland ipv4".
    pub what: &'static str,
    /// Addresses before.
    pub before: u128,
    /// Addresses that go.
    pub lost: u128,
}

impl Loss {
    /// The lost share in whole percent, rounded down.
    pub fn percent(self) -> u128 {
        self.lost.saturating_mul(100) / self.before.max(1)
    }
}

impl RangesDiff {
    /// How many spans of each kind, and the first prefixes that differ, for people.
    pub fn summary(&self) -> (Vec<(&'static str, usize)>, Vec<String>) {
        let kinds = [("added", "+", &self.added), ("changed", "~", &self.changed), ("removed", "-", &self.removed)];
        let counts = kinds.map(|(kind, _, space)| (kind, space.v4.len() + space.v6.len())).to_vec();
        let prefixes = kinds.iter().flat_map(|(_, sign, space)| {
            space.cidrs().into_iter().take(LINES_MAX).map(move |prefix| format!("{sign} {prefix}"))
        });
        (counts, prefixes.take(LINES_MAX).collect())
    }

    /// True when no address is judged otherwise.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

impl fmt::Display for RangesDiff {
    /// One prefix a line after `+`, `-` or `~`, IPv4 first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (sign, space) in [('+', &self.added), ('-', &self.removed), ('~', &self.changed)] {
            for prefix in space.cidrs() {
                writeln!(f, "{sign} {prefix}")?;
            }
        }
        Ok(())
    }
}

/// What one comparison collects of one family.
#[derive(Default)]
struct Found {
    added: Vec<Span>,
    removed: Vec<Span>,
    changed: Vec<Span>,
    mainland: (u128, u128),
    ours: (u128, u128),
}

/// Compares two tables. Cost: one pass over both.
pub fn diff(old: &Ranges, new: &Ranges) -> RangesDiff {
    let mut v4 = compare(old, new, Family::V4);
    let mut v6 = compare(old, new, Family::V6);
    let space = |take: fn(&mut Found) -> &mut Vec<Span>, v4: &mut Found, v6: &mut Found| Space {
        v4: Spans::new(std::mem::take(take(v4))),
        v6: Spans::new(std::mem::take(take(v6))),
    };
    let losses = [
        ("mainland ipv4", v4.mainland),
        ("mainland ipv6", v6.mainland),
        ("our own ipv4", v4.ours),
        ("our own ipv6", v6.ours),
    ];
    RangesDiff {
        added: space(|found| &mut found.added, &mut v4, &mut v6),
        removed: space(|found| &mut found.removed, &mut v4, &mut v6),
        changed: space(|found| &mut found.changed, &mut v4, &mut v6),
        losses: losses.map(|(what, (before, lost))| Loss { what, before, lost }).to_vec(),
    }
}

/// Walks the segments of both tables side by side.
fn compare(old: &Ranges, new: &Ranges, family: Family) -> Found {
    let (left, right) = (old.segments(family), new.segments(family));
    let (mut i, mut j, mut first) = (0, 0, 0);
    let mut res = Found::default();
    // Both cover the whole family, so that they end together.
    while let (Some((a, was)), Some((b, is))) = (left.get(i), right.get(j)) {
        let span = Span { first, last: a.last.min(b.last) };
        res.note(span, *was, *is, provider(old, *was) == provider(new, *is));
        i += usize::from(a.last == span.last);
        j += usize::from(b.last == span.last);
        first = span.last.saturating_add(1);
    }
    res
}

impl Found {
    /// Takes one span that both tables hold uniformly.
    fn note(&mut self, span: Span, was: Option<&RangeMatch>, is: Option<&RangeMatch>, same_provider: bool) {
        let needs = |found: Option<&RangeMatch>| found.is_some_and(|found| found.region.needs_filing());
        let ours = |found: Option<&RangeMatch>| found.is_some_and(|found| found.is_ours);
        let cells = |found: Option<&RangeMatch>| found.map(|found| (found.region, found.product, found.origin));
        match (needs(was), needs(is)) {
            (false, true) => self.added.push(span),
            (true, false) => self.removed.push(span),
            (false, false) | (true, true) => {
                if cells(was) != cells(is) || !same_provider {
                    self.changed.push(span);
                }
            }
        }
        let count = |sums: &mut (u128, u128), before: bool, after: bool| {
            if before {
                sums.0 = sums.0.saturating_add(span.count());
                sums.1 = sums.1.saturating_add(if after { 0 } else { span.count() });
            }
        };
        count(&mut self.mainland, needs(was), needs(is));
        count(&mut self.ours, ours(was), ours(is));
    }
}

/// Whose the match is; ids of two tables cannot be compared, names can.
fn provider<'a>(ranges: &'a Ranges, found: Option<&RangeMatch>) -> Option<&'a str> {
    found.and_then(|found| ranges.provider_name(found.tag))
}
