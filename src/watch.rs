//! Tells when configured files may have changed: a watch on their directories, with a slow poll beside it.
//!
//! Directories, never files: a file watch goes silent after the first rename over it or ConfigMap symlink swap. An event
//! only means "look again"; whoever waits compares contents. Writes to other files that stand beside the configured ones,
//! a log that grows with every query, do not count. Where the watch cannot be had (limits, file systems without events)
//! the poll remains.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, Event, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Quiet time after the last event before a look, unless the event says that the write is over: an editor's write is a
/// burst of events.
const QUIET: Duration = Duration::from_millis(30);
/// Longest time a stream of events can put a look off.
const QUIET_MAX: Duration = Duration::from_millis(200);

/// Why a look is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Something happened in a watched directory.
    Event,
    /// Nothing did for a while, as far as the watch can tell.
    Poll,
}

/// A watch on the directories of some paths.
pub struct Watch {
    paths: Vec<PathBuf>,
    poll: Duration,
    changed: Arc<Notify>,
    finished: Arc<Notify>,
    /// True from an event until it is told.
    has_seen: bool,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    concern: Arc<Mutex<Concern>>,
}

impl Watch {
    /// Begins to watch; `poll` is the time after which a look is due without any event.
    pub fn new(paths: &[PathBuf], poll: Duration) -> Self {
        let (changed, finished) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (on_change, on_finish) = (changed.clone(), finished.clone());
        let concern = Arc::<Mutex<Concern>>::default();
        let of_concern = concern.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let concerns = |event: &Event| of_concern.lock().unwrap_or_else(PoisonError::into_inner).is_about(event);
            if event.as_ref().is_ok_and(|event| !concerns(event)) {
                return;
            }
            match event.map(|event| event.kind) {
                // A writer closed the file, or a whole file took the name: there is nothing to wait for.
                Ok(
                    EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Modify(ModifyKind::Name(_)),
                ) => {
                    on_finish.notify_one();
                }
                // Reading a file is an event too, on some systems; it changes nothing.
                Ok(EventKind::Access(_)) => {}
                Ok(_) | Err(_) => on_change.notify_one(),
            }
        });
        let watcher = watcher.map_err(|error| tracing::warn!(%error, "cannot watch for changes, polling only")).ok();
        let paths = paths.to_vec();
        let mut res =
            Self { paths, poll, changed, finished, has_seen: false, watcher, watched: BTreeSet::new(), concern };
        res.watch_directories();
        res
    }

    /// Returns when something may have changed or the poll is due. What was seen when the call is given up is seen by the
    /// next one.
    pub async fn changed(&mut self) -> Cause {
        let (changed, finished) = (self.changed.clone(), self.finished.clone());
        let events = async {
            if !self.has_seen {
                let is_finished = tokio::select! {
                    () = finished.notified() => true,
                    () = changed.notified() => false,
                };
                self.has_seen = true;
                if is_finished {
                    return;
                }
            }
            wait_for_quiet(&changed, &finished).await;
        };
        let cause = match tokio::time::timeout(self.poll, events).await {
            Ok(()) => Cause::Event,
            Err(_) => Cause::Poll,
        };
        self.has_seen = false;
        // Symlinks may lead elsewhere now, directories may be new.
        self.watch_directories();
        cause
    }

    fn watch_directories(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let mut concern = Concern::default();
        for path in &self.paths {
            concern.add(path);
        }
        let wanted = concern.directories.clone();
        // Before the watches: what happens in a new directory must be told from the first event on.
        *self.concern.lock().unwrap_or_else(PoisonError::into_inner) = concern.absolute();
        for gone in self.watched.difference(&wanted) {
            // The directory may be gone already, and its watch with it.
            let _ = watcher.unwatch(gone);
        }
        // Watches of directories that stay are renewed too: one that was replaced under its name is another directory.
        let mut watched = BTreeSet::new();
        for directory in wanted {
            match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => drop(watched.insert(directory)),
                Err(error) => tracing::debug!(%error, directory = %directory.display(), "cannot watch, polling"),
            }
        }
        self.watched = watched;
    }
}

/// Returns when a write is over, or no event came for a while.
async fn wait_for_quiet(changed: &Notify, finished: &Notify) {
    let begun = Instant::now();
    while Instant::now() < begun + QUIET_MAX {
        let quiet = sleep_until(Instant::now() + QUIET);
        tokio::select! {
            () = quiet => return,
            () = finished.notified() => return,
            () = changed.notified() => {}
        }
    }
}

//--- Concern ---------------------------------------------------------------------------------------------------------

/// What the paths lead to: the directories to watch, and which writes in them matter.
#[derive(Debug, Default, PartialEq, Eq)]
struct Concern {
    /// To be watched: names that come, go or move in them always matter, symlinks may lead elsewhere by it.
    directories: BTreeSet<PathBuf>,
    /// Those of them all of whose files matter.
    whole: BTreeSet<PathBuf>,
    /// Files that matter in the others.
    files: BTreeSet<PathBuf>,
}

impl Concern {
    /// Adds `path`: the directory of its name; itself and its subdirectories if it is a directory; and the same for what
    /// it leads to through symlinks.
    fn add(&mut self, path: &Path) {
        /// More directories than this are polled.
        const DIRECTORIES_MAX: usize = 1000;
        let parent = path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
        self.directories.extend(parent.map(Path::to_owned));
        self.files.insert(path.to_owned());
        if let Ok(real) = std::fs::canonicalize(path) {
            self.directories.extend(real.parent().map(Path::to_owned));
            self.files.insert(real);
        }
        if path.is_dir() && self.directories.len() < DIRECTORIES_MAX {
            self.directories.insert(path.to_owned());
            self.whole.insert(path.to_owned());
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            for entry in entries {
                let child = entry.path();
                let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
                if child.is_dir() || is_link {
                    self.add(&child);
                }
            }
        }
    }

    /// The same with the absolute paths that events have.
    fn absolute(self) -> Self {
        let absolute = |paths: BTreeSet<PathBuf>| {
            paths.into_iter().map(|path| std::path::absolute(&path).unwrap_or(path)).collect::<BTreeSet<_>>()
        };
        Self { directories: absolute(self.directories), whole: absolute(self.whole), files: absolute(self.files) }
    }

    /// False for writes to files that no path leads to.
    fn is_about(&self, event: &Event) -> bool {
        let is_write = matches!(
            event.kind,
            EventKind::Access(_) | EventKind::Modify(ModifyKind::Any | ModifyKind::Data(_) | ModifyKind::Metadata(_))
        );
        let matters = |path: &PathBuf| {
            self.files.contains(path) || path.parent().is_some_and(|parent| self.whole.contains(parent))
        };
        !is_write || event.paths.is_empty() || event.need_rescan() || event.paths.iter().any(matters)
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange, RemoveKind};

    use super::*;

    const WRITES: [EventKind; 2] =
        [EventKind::Modify(ModifyKind::Data(DataChange::Any)), EventKind::Access(AccessKind::Close(AccessMode::Write))];

    #[test]
    fn writes_beside_what_is_watched_do_not_count() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("registry/inner")).expect("makes directories");
        std::fs::create_dir(at("else")).expect("makes a directory");
        std::fs::write(at("else/real.csv"), "").expect("writes");
        std::os::unix::fs::symlink(at("else/real.csv"), at("linked.csv")).expect("links");
        let mut concern = Concern::default();
        for path in ["registry", "linked.csv", "list.txt"] {
            concern.add(&at(path));
        }
        let is_about = |kind: EventKind, name: &str| concern.is_about(&Event::new(kind).add_path(at(name)));
        for kind in WRITES {
            for name in ["registry/table.csv", "registry/inner/table.csv", "linked.csv", "else/real.csv", "list.txt"] {
                assert!(is_about(kind, name), "{kind:?} {name}");
            }
            for name in ["journal.jsonl", "else/other.csv"] {
                assert!(!is_about(kind, name), "{kind:?} {name}");
            }
        }
        for kind in [EventKind::Create(CreateKind::Any), EventKind::Remove(RemoveKind::Any)] {
            assert!(is_about(kind, "journal.jsonl"), "a name that comes or goes may be a symlink of the way");
        }
        assert!(concern.is_about(&Event::new(EventKind::Other)), "the watch may have missed something");
    }

    #[test]
    fn relative_paths_are_found_under_the_working_directory() {
        let mut concern = Concern::default();
        concern.add(Path::new("list.txt"));
        let here = std::env::current_dir().expect("a directory");
        let event = Event::new(WRITES[0]).add_path(here.join(".").join("list.txt"));
        assert!(concern.absolute().is_about(&event));
    }
}
