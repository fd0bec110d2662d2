//! The linter of a running gate: behind the reloads, at idle rank, with little memory; what it finds are gauges and a log.
//!
//! It runs when the rows, the lists or the day are others than those it looked at last, and rests in between for many
//! times as long as it took: a large registry that changes by the minute is not linted by the minute.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use ipnet::IpNet;

use super::{Loaded, State, Store, lock};
use crate::model::Day;
use crate::registry::diff::Change;
use crate::registry::lint::against::SiteMoves;
use crate::registry::lint::{KEYS_MAX_BESIDE, ListDate, Lists, Options, lint_loaded};
use crate::registry::source::Stamp;
use crate::registry::state::Plan;

/// It rests this many times as long as it worked: a twentieth of one core at most.
const REST_FACTOR: u32 = 20;
/// Findings against an older state that go to the log one by one.
const LOGGED_MAX: usize = 20;

/// Says whether an address is ours on the mainland, by the ranges of the gate.
pub type OurAddresses = Arc<dyn Fn(&IpNet) -> bool + Send + Sync>;

/// What it looked at last, and what waits for it.
#[derive(Default)]
pub(super) struct Linting {
    /// Generation, day and stamps of the lists.
    seen: Option<(u64, Day, Vec<Option<Stamp>>)>,
    rests_until: Option<Instant>,
    /// Of the reloads since.
    moves: SiteMoves,
    dates: Vec<ListDate>,
    ours: Option<OurAddresses>,
    stop: Arc<AtomicBool>,
}

impl Store {
    /// Tells the linter what addresses are ours, for rule R16; without it that rule is not checked here.
    pub fn lint_with_addresses(&self, ours: OurAddresses) {
        lock(&self.linting).ours = Some(ours);
    }

    /// When there is something new to lint: at once, or after the rest; `None` while there is nothing.
    pub fn lint_due(&self, now: SystemTime) -> Option<Instant> {
        let loaded = self.loaded()?;
        let wanted = self.lint_subject(&loaded, now);
        let linting = lock(&self.linting);
        let is_news = linting.seen.as_ref() != Some(&wanted);
        is_news.then(|| linting.rests_until.unwrap_or_else(Instant::now))
    }

    /// The lists in use with their dates; empty before the first pass.
    pub fn lint_lists(&self) -> Vec<ListDate> {
        lock(&self.linting).dates.clone()
    }

    /// Ends a pass that is going on, if there is one.
    pub fn stop_linting(&self) {
        lock(&self.linting).stop.store(true, Ordering::Relaxed);
    }

    /// Lints what is published. Blocks for as long as it takes, without holding up reloads.
    pub fn lint_beside(&self, now: SystemTime) {
        let Some(loaded) = self.loaded() else { return };
        let begun = Instant::now();
        let subject = self.lint_subject(&loaded, now);
        let (moves, ours, stop) = {
            let mut linting = lock(&self.linting);
            linting.stop = Arc::default();
            (std::mem::take(&mut linting.moves), linting.ours.clone(), linting.stop.clone())
        };
        let is_done = self.lint_once(&loaded, (&moves, ours, &stop), now);
        let mut linting = lock(&self.linting);
        linting.rests_until = Instant::now().checked_add(begun.elapsed() * REST_FACTOR);
        if is_done {
            linting.seen = Some(subject);
        } else {
            // Reloads meanwhile may have noted more; what was taken is the older part.
            linting.moves = moves.followed_by(std::mem::take(&mut linting.moves));
        }
    }

    /// False when it was stopped.
    fn lint_once(
        &self,
        loaded: &Arc<Loaded>,
        (moves, ours, stop): (&SiteMoves, Option<OurAddresses>, &AtomicBool),
        now: SystemTime,
    ) -> bool {
        let lists = match Lists::load(&self.settings.lint) {
            Ok(lists) => lists,
            Err(error) => {
                tracing::warn!(%error, "list of registry.lint not used, findings are not counted anew");
                return true;
            }
        };
        lock(&self.linting).dates.clone_from(&lists.dates);
        let is_ours = |net: &IpNet| ours.as_ref().is_none_or(|ours| ours(net));
        let options = Options {
            ours: Some((&self.settings.provider, &is_ours)),
            findings_max: 0,
            keys_max: KEYS_MAX_BESIDE,
            stop: Some(stop),
            ..Options::new(Day::at(now), &lists)
        };
        let Some((mut found, reasons)) = lint_loaded(&self.settings, loaded, &options, now) else { return false };
        for reason in reasons {
            tracing::debug!(%reason, "file not linted");
        }
        if !moves.is_empty() {
            let kept = Options { findings_max: LOGGED_MAX, ..options };
            let Some(older) = moves.findings(&loaded.snapshot, &kept) else { return false };
            for finding in &older.issues {
                tracing::warn!(%finding, "registry change against the rules");
            }
            found.merge(older);
        }
        self.counters.linted(found.by_rule());
        true
    }

    fn lint_subject(&self, loaded: &Loaded, now: SystemTime) -> (u64, Day, Vec<Option<Stamp>>) {
        let stamps = self.settings.lint.paths().map(|path: &PathBuf| Stamp::at(path).ok()).collect();
        (loaded.snapshot.generation(), Day::at(now), stamps)
    }

    /// Remembers what an admitted plan does to sites, for the next pass.
    pub(super) fn note_moves(&self, state: &State, plan: &Plan) {
        let mut linting = lock(&self.linting);
        for change in &plan.diff.changes {
            if linting.moves.is_full() {
                return;
            }
            let name = change.domain().as_ref();
            let old = (!matches!(change, Change::Added(_))).then(|| state.table.find(name)).flatten();
            let new = (!matches!(change, Change::Removed(_))).then(|| plan.table.find(name)).flatten();
            let (old, new) = (old.map(|at| state.table.filing(at)), new.map(|at| plan.table.filing(at)));
            linting.moves.note(old.as_ref(), new.as_ref());
        }
    }
}
