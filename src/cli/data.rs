//! What commands read: the configuration, and the data it leads to.

use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;

use super::Common;
use crate::config::{self, Loaded};
use crate::model::SuffixTable;
use crate::policy::View;
use crate::ranges;
use crate::ranges::Ranges;
use crate::registry;
use crate::registry::Snapshot;

/// Loads the configuration; its warnings go to standard error.
pub fn configuration(common: &Common) -> anyhow::Result<Loaded> {
    let loaded = config::load(common.config.as_deref()).context("configuration")?;
    for warning in &loaded.warnings {
        eprintln!("icpgate: warning: {warning}");
    }
    Ok(loaded)
}

/// The registry as a gate would load it at start.
pub fn registry(loaded: &Loaded, now: SystemTime) -> anyhow::Result<Arc<registry::Loaded>> {
    registry::load_paths(&loaded.config.registry, now).context("registry")
}

/// The ranges as a gate would load them at start.
pub fn ranges(loaded: &Loaded, now: SystemTime) -> anyhow::Result<Arc<ranges::Loaded>> {
    ranges::load_paths(&loaded.config.ranges, now).context("ranges")
}

/// What a gate would judge with. Data that are not configured at all are empty; notes say so.
pub fn view(loaded: &Loaded, now: SystemTime, notes: &mut Vec<String>) -> anyhow::Result<View> {
    let settings = &loaded.config;
    let registry = if settings.registry.paths.is_empty() {
        notes.push("no registry is configured (registry.paths): every name counts as unfiled".to_owned());
        Arc::new(Snapshot::empty(Arc::new(SuffixTable::built_in())))
    } else {
        registry(loaded, now)?.snapshot.clone()
    };
    let ranges = if settings.ranges.paths().is_empty() {
        notes.push("no ranges are configured (ranges.mainland, ranges.tags): no address is known".to_owned());
        Arc::new(Ranges::empty())
    } else {
        ranges(loaded, now)?.ranges.clone()
    };
    Ok(View { rules: Arc::new(settings.rules.clone()), registry, ranges, faults: Vec::new() })
}
