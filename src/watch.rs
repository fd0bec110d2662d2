//! Tells when configured files may have changed: a watch on their directories, with a slow poll beside it.
//!
//! Directories, never files: a file watch goes silent after the first rename over it or ConfigMap symlink swap. An event
//! only means "look again"; whoever waits compares contents. Where the watch cannot be had (limits, file systems without
//! events) the poll remains.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
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
}

impl Watch {
    /// Begins to watch; `poll` is the time after which a look is due without any event.
    pub fn new(paths: &[PathBuf], poll: Duration) -> Self {
        let (changed, finished) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (on_change, on_finish) = (changed.clone(), finished.clone());
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
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
        let mut res =
            Self { paths: paths.to_vec(), poll, changed, finished, has_seen: false, watcher, watched: BTreeSet::new() };
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
        let mut wanted = BTreeSet::new();
        for path in &self.paths {
            directories_of(path, &mut wanted);
        }
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

/// Directories whose entries matter to `path`: itself and its subdirectories if it is one, else its parent; and the same
/// for what it leads to through symlinks.
fn directories_of(path: &Path, res: &mut BTreeSet<PathBuf>) {
    /// More directories than this are polled.
    const DIRECTORIES_MAX: usize = 1000;
    let parent = path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    res.extend(parent.map(Path::to_owned));
    if let Ok(real) = std::fs::canonicalize(path) {
        res.extend(real.parent().map(Path::to_owned));
    }
    if path.is_dir() && res.len() < DIRECTORIES_MAX {
        res.insert(path.to_owned());
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        for entry in entries {
            let child = entry.path();
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            if child.is_dir() || is_link {
                directories_of(&child, res);
            }
        }
    }
}
