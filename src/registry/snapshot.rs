//! One immutable state of the registry, and how verdicts ask it.
//!
//! What verdicts read (names, facts) lies apart from what people read (all other columns).

use std::net::IpAddr;
use std::sync::Arc;

use super::Filing;
use super::index::NameIndex;
use crate::model::{Facts, NameRef, Status, SuffixTable};

/// A row of one snapshot; meaningless in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FilingId(u32);

/// Everything known at one generation.
pub struct Snapshot {
    generation: u64,
    suffixes: Arc<SuffixTable>,
    index: NameIndex,
    facts: Vec<Facts>,
    cold: Vec<Filing>,
    bind_check: bool,
}

impl Snapshot {
    /// Builds generation `generation` from merged rows as `provider` sees them. Of rows with one domain the last counts.
    pub fn build(
        generation: u64,
        suffixes: Arc<SuffixTable>,
        provider: &str,
        bind_check: bool,
        mut filings: Vec<Filing>,
    ) -> Self {
        // Sorted by name: snapshots of equal rows are equal whatever the order of files, and diffs are a merge.
        filings.sort_by(|a, b| a.domain.cmp(&b.domain));
        filings.reverse();
        filings.dedup_by(|a, b| a.domain == b.domain);
        filings.reverse();
        let index = NameIndex::build(filings.iter().map(|filing| filing.domain.as_ref()));
        let facts = filings.iter().map(|filing| filing.facts(provider)).collect();
        let cold = filings;
        Self { generation, suffixes, index, facts, cold, bind_check }
    }

    /// An empty registry, generation 0: what is published while none could be loaded.
    pub fn empty(suffixes: Arc<SuffixTable>) -> Self {
        Self::build(0, suffixes, "", false, Vec::new())
    }

    /// Counts publications, from 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The public suffix table of this generation.
    pub fn suffixes(&self) -> &SuffixTable {
        &self.suffixes
    }

    /// The row of exactly `domain`. Never a fingerprint match. Cost: one probe.
    pub fn find(&self, domain: NameRef<'_>) -> Option<FilingId> {
        self.index.find(domain).map(FilingId)
    }

    /// What verdicts read of a row.
    pub fn facts(&self, id: FilingId) -> Facts {
        self.facts[id.0 as usize]
    }

    /// The whole row, for people.
    pub fn filing(&self, id: FilingId) -> Filing {
        self.row(id).clone()
    }

    /// The whole row, borrowed.
    pub fn row(&self, id: FilingId) -> &Filing {
        &self.cold[id.0 as usize]
    }

    /// True when bind checking is on, the row lists addresses, and `addr` is none of them (D-H23).
    pub fn is_unbound(&self, id: FilingId, addr: IpAddr) -> bool {
        self.bind_check && self.row(id).is_unbound(addr)
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// Rows in order of their names.
    pub fn rows(&self) -> impl Iterator<Item = &Filing> {
        self.cold.iter()
    }

    /// How many rows are in each state.
    pub fn rows_by_status(&self) -> [(Status, usize); 5] {
        Status::ALL.map(|(status, _, _)| (status, self.facts.iter().filter(|facts| facts.status == status).count()))
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("generation", &self.generation)
            .field("rows", &self.len())
            .finish_non_exhaustive()
    }
}
