//! What moves rows without changing what they say: housekeeping behind the reloads, and room for large ones.

use std::path::Path;
use std::sync::Arc;

use super::{Inner, Loaded, Snapshot, State, Store, lock};
use crate::registry::snapshot::Schedule;

impl Store {
    /// Puts the overlay into a new base and writes worn chunks anew, when that is worth it; gives the new snapshot.
    ///
    /// Nothing it shows differs. Blocks for seconds in a large registry, most of them without holding up reloads.
    pub fn tidy(&self) -> Option<Arc<Snapshot>> {
        self.tidy_if(State::is_untidy)
    }

    /// As [`Store::tidy`], worth it or not.
    pub fn tidy_always(&self) -> Option<Arc<Snapshot>> {
        self.tidy_if(|_| true)
    }

    fn tidy_if(&self, is_worth_it: impl Fn(&State) -> bool) -> Option<Arc<Snapshot>> {
        /// Attempts beside the reloads; then the reloads wait.
        const ATTEMPTS: usize = 2;
        for attempt in 0..=ATTEMPTS {
            let waits = attempt == ATTEMPTS;
            let mut inner = lock(&self.inner);
            let before = inner.loaded.clone()?;
            if !is_worth_it(&inner.state) {
                return None;
            }
            let tidied = if waits {
                inner.state.tidied()
            } else {
                let state = inner.state.clone();
                drop(inner);
                let tidied = state.tidied();
                drop(state);
                inner = lock(&self.inner);
                tidied
            };
            let is_current = inner.loaded.as_ref().is_some_and(|loaded| Arc::ptr_eq(loaded, &before));
            if !is_current {
                continue;
            }
            // A registry that is full stays untidy; its reloads say so.
            inner.state.adopt(tidied.ok()?);
            return Some(self.republish(&mut inner, &before));
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

    /// Moves the rows into a file, so that memory need not hold the old ones and the new ones together. What verdicts read
    /// stays where it is. Where there is no place for the file, memory must do.
    pub(super) fn make_room(&self, inner: &mut Inner) {
        let Some(before) = inner.loaded.clone() else { return };
        let of_snapshot = self.settings.snapshot.as_deref().and_then(Path::parent);
        let directory = of_snapshot.map_or_else(std::env::temp_dir, Path::to_owned);
        match inner.state.table.arena.moved_out(&directory) {
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
