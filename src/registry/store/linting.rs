//! The linter of a running gate: behind the reloads, at idle rank, with little memory; what it finds are gauges and a log.
//!
//! It runs when the rows, the lists or the day are others than those it looked at last, and rests in between for many
//! times as long as it works: a large registry that changes by the minute is not linted by the minute.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use ipnet::IpNet;

use super::{Loaded, State, Store, lock};
use crate::model::Day;
use crate::registry::diff::{Change, Diff};
use crate::registry::lint::against::SiteMoves;
use crate::registry::lint::{KEYS_MAX_BESIDE, ListDate, Lists, Options, lint_loaded, parts};
use crate::registry::source::Stamp;
use crate::registry::state::Plan;

/// Rest after a pass, for each row and part of its keys: twenty times as long as it works on one, so that it takes a twentieth
/// of one core at most. Not as measured: a pass that had to wait for the processor has not worked.
const REST_A_ROW: Duration = Duration::from_micros(20);
/// Findings against an older state that go to the log one by one.
const LOGGED_MAX: usize = 20;

/// The ranges of the gate, as far as rule R16 asks for them.
pub trait OurAddresses: Send + Sync {
    /// True for an address that is ours on the mainland.
    fn is_ours(&self, net: &IpNet) -> bool;
    /// Which ranges these are: another number after each change.
    fn generation(&self) -> u64;
}

/// What a pass looks at: the generations of rows and ranges, the day, the stamps of the lists.
type Subject = (u64, u64, Day, Vec<Option<Stamp>>);

/// How a pass ended.
enum Pass {
    /// With what the moves broke, by check, or what those before them broke.
    Done(BTreeMap<&'static str, u64>),
    /// A list cannot be used: nothing was counted.
    NotCounted,
    /// It was told to.
    Stopped,
}

/// What it looked at last, and what waits for it.
#[derive(Default)]
pub(super) struct Linting {
    seen: Option<Subject>,
    rests_until: Option<Instant>,
    /// Of the reloads since.
    moves: SiteMoves,
    /// The generation that has all of them.
    moves_generation: u64,
    /// What the last reload that changed something broke, by check: it stands until the next one.
    older: BTreeMap<&'static str, u64>,
    /// The generation those are of.
    older_generation: u64,
    dates: Vec<ListDate>,
    ours: Option<Arc<dyn OurAddresses>>,
    stop: Arc<AtomicBool>,
}

/// The rest after a pass over so many rows.
fn rest(rows: usize) -> Duration {
    let worked = rows as u64 * parts(rows, KEYS_MAX_BESIDE);
    REST_A_ROW.saturating_mul(u32::try_from(worked).unwrap_or(u32::MAX))
}

impl Store {
    /// Tells the linter what addresses are ours, for rule R16; without it that rule is not checked here.
    pub fn lint_with_addresses(&self, ours: Arc<dyn OurAddresses>) {
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
        let subject = self.lint_subject(&loaded, now);
        let (moves, generation, ours, stop) = {
            let mut linting = lock(&self.linting);
            linting.stop = Arc::default();
            // A reload notes what it moves before its state is out: that is for the next pass.
            let is_out = linting.moves_generation <= loaded.snapshot.generation();
            let is_news = is_out && linting.moves_generation > linting.older_generation;
            let moves = is_news.then(|| std::mem::take(&mut linting.moves));
            (moves, linting.moves_generation, linting.ours.clone(), linting.stop.clone())
        };
        let pass = self.lint_once(&loaded, (moves.as_ref(), ours, &stop), now);
        let mut linting = lock(&self.linting);
        linting.rests_until = Instant::now().checked_add(rest(loaded.snapshot.len()));
        if !matches!(pass, Pass::Stopped) {
            linting.seen = Some(subject);
        }
        let Some(moves) = moves else { return };
        let moves = match pass {
            Pass::Done(older) => {
                (linting.older, linting.older_generation) = (older, generation);
                moves.into_told()
            }
            Pass::NotCounted | Pass::Stopped => moves,
        };
        // Reloads meanwhile may have noted more; what was taken is the older part.
        linting.moves = moves.followed_by(std::mem::take(&mut linting.moves));
    }

    /// Counts the findings anew, and what `moves` break.
    fn lint_once(
        &self,
        loaded: &Arc<Loaded>,
        (moves, ours, stop): (Option<&SiteMoves>, Option<Arc<dyn OurAddresses>>, &AtomicBool),
        now: SystemTime,
    ) -> Pass {
        let before = lock(&self.linting).older.clone();
        let lists = match Lists::load(&self.settings.lint) {
            Ok(lists) => lists,
            Err(error) => {
                tracing::warn!(%error, "list of registry.lint not used, findings are not counted anew");
                return Pass::NotCounted;
            }
        };
        lock(&self.linting).dates.clone_from(&lists.dates);
        let is_ours = |net: &IpNet| ours.as_ref().is_none_or(|ours| ours.is_ours(net));
        let options = Options {
            ours: Some((&self.settings.provider, &is_ours)),
            findings_max: 0,
            keys_max: KEYS_MAX_BESIDE,
            stop: Some(stop),
            ..Options::new(Day::at(now), &lists)
        };
        let Some((found, reasons)) = lint_loaded(&self.settings, loaded, &options, now) else { return Pass::Stopped };
        for reason in reasons {
            tracing::debug!(%reason, "file not linted");
        }
        let older = match moves {
            None => before,
            Some(moves) => {
                let options = Options { findings_max: LOGGED_MAX, ..options };
                let Some(older) = moves.findings(&loaded.snapshot, &options) else { return Pass::Stopped };
                for finding in &older.issues {
                    tracing::warn!(%finding, "registry change against the rules");
                }
                older.by_rule()
            }
        };
        let mut by_rule = found.by_rule();
        for (rule, count) in &older {
            *by_rule.entry(rule).or_default() += count;
        }
        self.counters.linted(by_rule);
        Pass::Done(older)
    }

    fn lint_subject(&self, loaded: &Loaded, now: SystemTime) -> Subject {
        let ranges = lock(&self.linting).ours.as_ref().map_or(0, |ours| ours.generation());
        let stamps = self.settings.lint.paths().map(|path: &PathBuf| Stamp::at(path).ok()).collect();
        (loaded.snapshot.generation(), ranges, Day::at(now), stamps)
    }

    /// Remembers what an admitted plan, to be `generation`, does to sites: for the next pass.
    pub(super) fn note_moves(&self, state: &State, plan: &Plan, generation: u64) {
        let mut linting = lock(&self.linting);
        linting.moves_generation = generation;
        let Diff { added, changed, removed, .. } = plan.diff;
        if added + changed + removed > plan.diff.changes.len() {
            tracing::info!(added, changed, removed, "too many changes to hold domains of sites against those before");
            return linting.moves.forget();
        }
        for change in &plan.diff.changes {
            if linting.moves.is_full() {
                return linting.moves.forget();
            }
            let name = change.domain().as_ref();
            let old = (!matches!(change, Change::Added(_))).then(|| state.table.find(name)).flatten();
            let new = (!matches!(change, Change::Removed(_))).then(|| plan.table.find(name)).flatten();
            let (old, new) = (old.map(|at| state.table.filing(at)), new.map(|at| plan.table.filing(at)));
            linting.moves.note(old.as_ref(), new.as_ref());
        }
    }
}
