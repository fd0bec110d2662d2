//! What commands read: the configuration, and the data it leads to.

use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;

use super::Common;
use crate::config::{self, Loaded};
use crate::model::SuffixTable;
use crate::ops::load_line::LoadLine;
use crate::policy::View;
use crate::ranges;
use crate::ranges::Ranges;
use crate::registry;
use crate::registry::{LoadError, Snapshot, Store};

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
    load_registry(&loaded.config.registry, now).context("registry")
}

/// Loads a registry, telling on a terminal how far it is.
pub fn load_registry(settings: &registry::Settings, now: SystemTime) -> Result<Arc<registry::Loaded>, LoadError> {
    let store = Store::new(settings.clone());
    let _line = LoadLine::begin(store.progress());
    registry::load_store(&store, now)
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
    Ok(View { rules: Arc::new(settings.rules.clone()), registry, ranges, faults: Vec::new(), shadow: None })
}
