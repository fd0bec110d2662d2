//! What moves rows without changing what they say: housekeeping behind the reloads, and room for large ones.

use std::sync::Arc;

use super::{Inner, Loaded, Snapshot, State, Store, lock};
use crate::registry::arena::ArenaFull;
use crate::registry::snapshot::Schedule;
use crate::registry::tidy::Tidied;

/// Whether reloads go on meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    /// They wait.
    No,
    /// They go on, and what they changed is looked at anew.
    Yes,
}

impl Store {
    /// Puts the overlay into a new base and writes worn chunks anew, when that is worth it, and brings rows that a reload
    /// left in a file back into memory; gives the newest snapshot, if there is a new one.
    ///
    /// Nothing it shows differs. Blocks for seconds in a large registry, most of them without holding up reloads.
    pub fn tidy(&self) -> Option<Arc<Snapshot>> {
        self.tidy_beside().or_else(|| self.tidy_alone())
    }

    /// As [`Store::tidy`], with reloads waiting until it is done.
    pub fn tidy_alone(&self) -> Option<Arc<Snapshot>> {
        self.replace(State::is_untidy, State::tidied, Beside::No)
    }

    /// As [`Store::tidy`], given up where reloads come in between.
    pub fn tidy_beside(&self) -> Option<Arc<Snapshot>> {
        let back =
            self.replace(|state| state.table.arena.is_moved_out(), |state| Ok(state.brought_back()), Beside::Yes);
        self.replace(State::is_untidy, State::tidied, Beside::Yes).or(back)
    }

    /// As [`Store::tidy`], worth it or not.
    pub fn tidy_always(&self) -> Option<Arc<Snapshot>> {
        self.replace(|_| true, State::tidied, Beside::Yes)
    }

    /// Puts what `work` makes of the state in its place, where `is_worth_it`.
    fn replace(
        &self,
        is_worth_it: impl Fn(&State) -> bool,
        work: impl Fn(&State) -> Result<Tidied, ArenaFull>,
        beside: Beside,
    ) -> Option<Arc<Snapshot>> {
        /// Attempts beside the reloads.
        const ATTEMPTS: usize = 2;
        for _ in 0..ATTEMPTS {
            let mut inner = lock(&self.inner);
            let before = inner.loaded.clone()?;
            if !is_worth_it(&inner.state) {
                return None;
            }
            let tidied = match beside {
                Beside::No => work(&inner.state),
                Beside::Yes => {
                    let state = inner.state.clone();
                    drop(inner);
                    let tidied = work(&state);
                    drop(state);
                    inner = lock(&self.inner);
                    tidied
                }
            };
            let is_current = inner.loaded.as_ref().is_some_and(|loaded| Arc::ptr_eq(loaded, &before));
            if is_current {
                // A registry that is full stays untidy; its reloads say so.
                inner.state.adopt(tidied.ok()?);
                return Some(self.republish(&mut inner, &before));
            }
        }
        None
    }

    /// Puts the state, which says what `before` said, in its place; gives the snapshot.
    fn republish(&self, inner: &mut Inner, before: &Loaded) -> Arc<Snapshot> {
        let old = &before.snapshot;
        let table = inner.state.table.clone();
        let snapshot = Snapshot::of_table(old.generation() + 1, old.shared_suffixes(), self.settings.bind_check, table)
            .with_schedule(Schedule::of(&inner.state.events.waiting));
        let snapshot = Arc::new(snapshot);
        let loaded = Arc::new(Loaded { snapshot: snapshot.clone(), ..before.clone() });
        *lock(&self.loaded) = Some(loaded.clone());
        inner.loaded = Some(loaded);
        snapshot
    }

    /// Moves the rows into a file, so that memory need not hold the old ones and the new ones together. The look-up table
    /// and what the overlay leads to stay: of what verdicts read, only names too long for the table go. Where there is no
    /// place for the file, memory must do.
    pub(super) fn make_room(&self, inner: &mut Inner) {
        let Some(before) = inner.loaded.clone() else { return };
        // A pass of the linter holds the old rows.
        self.stop_linting();
        let directory = self.settings.room_directory();
        match inner.state.table.arena.moved_out(&directory, inner.state.table.overlay.positions()) {
            Ok(arena) => {
                inner.state.table.arena = arena;
                self.republish(inner, &before);
                self.moved_out.notify_one();
            }
            Err(error) => {
                tracing::warn!(directory = %directory.display(), %error, "no file for the old rows during this reload");
            }
        }
    }

    /// Returns when a reload that is going on has moved the old rows into a file; what is published still holds them in
    /// memory until [`Store::loaded`] is published in its place.
    pub async fn has_moved_out(&self) {
        self.moved_out.notified().await;
    }
}
