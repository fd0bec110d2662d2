//! One immutable state of the registry, and how verdicts ask it.

use std::net::IpAddr;
use std::sync::Arc;

use std::collections::HashMap;

use super::Filing;
use crate::model::{DomainName, Facts, NameRef, SuffixTable};

/// A row of one snapshot; meaningless in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FilingId(u32);

/// Everything known at one generation.
pub struct Snapshot {
    generation: u64,
    suffixes: Arc<SuffixTable>,
    rows: Vec<(Filing, Facts)>,
    index: HashMap<DomainName, FilingId>,
    bind_check: bool,
}

impl Snapshot {
    /// Builds generation `generation` from merged rows as `provider` sees them. Of rows with one domain the last counts.
    pub fn build(
        generation: u64,
        suffixes: Arc<SuffixTable>,
        provider: &str,
        bind_check: bool,
        filings: Vec<Filing>,
    ) -> Self {
        let mut rows = Vec::with_capacity(filings.len());
        let mut index = HashMap::new();
        for filing in filings {
            let id = FilingId(u32::try_from(rows.len()).expect("the loader limits rows to fewer than 2^32"));
            index.insert(filing.domain.clone(), id);
            let facts = filing.facts(provider);
            rows.push((filing, facts));
        }
        Self { generation, suffixes, rows, index, bind_check }
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
        self.index.get(domain.wire()).copied()
    }

    /// What verdicts read of a row.
    pub fn facts(&self, id: FilingId) -> Facts {
        self.rows[id.0 as usize].1
    }

    /// The whole row, for people.
    pub fn filing(&self, id: FilingId) -> Filing {
        self.rows[id.0 as usize].0.clone()
    }

    /// True when bind checking is on, the row lists addresses, and `addr` is none of them (D-H23).
    pub fn is_unbound(&self, id: FilingId, addr: IpAddr) -> bool {
        self.bind_check && self.rows[id.0 as usize].0.is_unbound(addr)
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}
