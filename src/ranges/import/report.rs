//! What an import tells of its sources and its result.

use std::fmt;
use std::path::PathBuf;

use super::collect::Collected;
use super::{Kind, Source};
use crate::count::plural;
use crate::ranges::span::{Family, Space, Spans};
use crate::registry::Issue;

/// Bits of an IPv6 site: what counts of IPv6 space are given in, /48.
const SITE_BITS: u32 = 128 - 48;

/// Figures of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Disjoint ranges, neighbours merged.
    pub ranges: usize,
    /// The fewest prefixes.
    pub prefixes: usize,
    /// IPv4 addresses, or IPv6 space in units of /48, rounded down.
    pub units: u128,
}

impl Figures {
    /// Counts spans of one family.
    fn of(family: Family, spans: &Spans) -> Self {
        let shift = if family == Family::V4 { 0 } else { SITE_BITS };
        Self { ranges: spans.len(), prefixes: spans.cidrs(family).len(), units: spans.count() >> shift }
    }
}

/// What one source said.
#[derive(Clone, Debug)]
pub struct SourceReport {
    /// The file.
    pub path: PathBuf,
    /// How it was read.
    pub kind: Kind,
    /// Rows of the country and of Hong Kong, Macau and Taiwan.
    pub rows: usize,
    /// Rows that do not count, though they should.
    pub bad_rows: usize,
    /// Findings.
    pub issues: Vec<Issue>,
    /// Its IPv4 space of the country.
    pub v4: Figures,
    /// Its IPv6 space of the country.
    pub v6: Figures,
}

/// What an import did.
#[derive(Clone, Debug)]
pub struct ImportReport {
    /// Each source, in the order given.
    pub sources: Vec<SourceReport>,
    /// How many had to agree.
    pub votes: usize,
    /// The resulting IPv4 space.
    pub v4: Figures,
    /// The resulting IPv6 space.
    pub v6: Figures,
}

impl ImportReport {
    /// Puts together what the sources said and what came of it.
    pub(super) fn new(sources: &[Source], collected: Vec<Collected>, votes: usize, space: &Space) -> Self {
        let report = |(source, found): (&Source, Collected)| SourceReport {
            path: source.path.clone(),
            kind: found.kind,
            rows: found.rows,
            bad_rows: found.bad_rows,
            v4: Figures::of(Family::V4, &found.wanted.v4),
            v6: Figures::of(Family::V6, &found.wanted.v6),
            issues: found.issues,
        };
        Self {
            sources: sources.iter().zip(collected).map(report).collect(),
            votes,
            v4: Figures::of(Family::V4, &space.v4),
            v6: Figures::of(Family::V6, &space.v6),
        }
    }
}

impl fmt::Display for ImportReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |what: &str, v4: Figures, v6: Figures| {
            writeln!(
                f,
                "{what}: {} IPv4 addresses in {} prefixes, {} IPv6 /48 in {} prefixes",
                v4.units, v4.prefixes, v6.units, v6.prefixes
            )
        };
        for source in &self.sources {
            let rows = match source.bad_rows {
                0 => format!("{} ({}, {})", source.path.display(), source.kind.label(), plural(source.rows, "row")),
                bad => format!(
                    "{} ({}, {}, {bad} bad)",
                    source.path.display(),
                    source.kind.label(),
                    plural(source.rows, "row")
                ),
            };
            line(&rows, source.v4, source.v6)?;
        }
        line(&format!("taken with {} of {} votes", self.votes, self.sources.len()), self.v4, self.v6)
    }
}
