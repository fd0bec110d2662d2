//! What one source says, gathered row by row.

use std::sync::Arc;

use super::{ELSEWHERE, Kind};
use crate::ranges::parse::{BAD_ROWS_MAX, ISSUES_MAX};
use crate::ranges::span::{Family, Space, Span};
use crate::ranges::special::special_spans;
use crate::registry::{Issue, Severity};

/// Spans taken of one source: three times the rows of the largest published set.
pub const SPANS_MAX: usize = 20_000_000;

/// One source's word.
#[derive(Clone, Debug)]
pub struct Collected {
    /// How it was read.
    pub kind: Kind,
    /// Space of the country wanted, special-purpose space left out.
    pub wanted: Space,
    /// Space of Hong Kong, Macau and Taiwan, likewise.
    pub elsewhere: Space,
    /// Rows that count.
    pub rows: usize,
    /// Rows that do not, though they should.
    pub bad_rows: usize,
    /// Findings.
    pub issues: Vec<Issue>,
}

/// Gathers rows of one source.
pub(super) struct Collector<'a> {
    kind: Kind,
    file: Arc<str>,
    country: &'a str,
    wanted: Vec<(Family, Span)>,
    elsewhere: Vec<(Family, Span)>,
    rows: usize,
    bad_rows: usize,
    issues: Vec<Issue>,
}

impl<'a> Collector<'a> {
    /// Nothing gathered yet.
    pub(super) fn new(kind: Kind, file: Arc<str>, country: &'a str) -> Self {
        let (wanted, elsewhere, issues) = Default::default();
        Self { kind, file, country, wanted, elsewhere, rows: 0, bad_rows: 0, issues }
    }

    /// The country wanted.
    pub(super) fn country(&self) -> &'a str {
        self.country
    }

    /// True where the vote needs to know of `country`.
    pub(super) fn concerns(&self, country: &str) -> bool {
        let is = |code: &str| code.eq_ignore_ascii_case(country);
        is(self.country) || ELSEWHERE.into_iter().any(is)
    }

    /// Takes a row; rows of countries that do not matter are passed over.
    pub(super) fn take(&mut self, country: &str, family: Family, span: Span) -> Result<(), String> {
        if country.eq_ignore_ascii_case(self.country) {
            self.wanted.push((family, span));
        } else if self.concerns(country) {
            self.elsewhere.push((family, span));
        } else {
            return Ok(());
        }
        self.rows += 1;
        if self.rows > SPANS_MAX { Err(format!("more than {SPANS_MAX} rows that matter")) } else { Ok(()) }
    }

    /// Notes a row that does not count.
    pub(super) fn bad(&mut self, line: u32, value: &str, message: &str) -> Result<(), String> {
        self.note(Severity::Error, line, value, message);
        self.bad_rows += 1;
        if self.bad_rows <= BAD_ROWS_MAX {
            return Ok(());
        }
        let first = self.issues.iter().find(|issue| issue.severity == Severity::Error);
        let first = first.map(ToString::to_string).unwrap_or_default();
        let kind = self.kind.label();
        Err(format!("more than {BAD_ROWS_MAX} bad rows, read as {kind}; the first: {first}"))
    }

    /// Notes a finding.
    pub(super) fn note(&mut self, severity: Severity, line: u32, value: &str, message: &str) {
        if self.issues.len() < ISSUES_MAX {
            self.issues.push(Issue::at(severity, "format", &self.file, line, message).in_cell("row", 0, value));
        }
    }

    /// Sorts, merges, and leaves special-purpose space out.
    pub(super) fn finish(self) -> Collected {
        let of = |family| special_spans(family).into_iter().map(move |span| (family, span));
        let special = Space::new(Family::ALL.into_iter().flat_map(of));
        Collected {
            kind: self.kind,
            wanted: Space::new(self.wanted).minus(&special),
            elsewhere: Space::new(self.elsewhere).minus(&special),
            rows: self.rows,
            bad_rows: self.bad_rows,
            issues: self.issues,
        }
    }
}
