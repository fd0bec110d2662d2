//! Reloadable parts beside registry and ranges: zones, pages, certificates, secrets. Watched alike, the last good state stays alike.
//!
//! A part is looked at when its files may have changed; it is loaded only when their contents did. What a load refuses is
//! kept in [`Part::health`] until a load succeeds, and said once in the log.

use std::future::Future;
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use siphasher::sip::SipHasher13;
use tokio::sync::mpsc;

use crate::count::{Counter, Labels, Observe, Sample};
use crate::drain::{DrainWatch, Phase};
use crate::registry::Shrink;
use crate::registry::reload::ReloadRequest;
use crate::watch::Watch;

/// How often contents are compared beside the watch.
const POLL: Duration = Duration::from_secs(60);
/// Files of one part whose contents are compared; a directory of more is compared as far.
const FILES_MAX: usize = 10_000;

/// One part's name, health and counters.
pub struct Part {
    name: &'static str,
    health: Mutex<Vec<String>>,
    published: Counter,
    refused: Counter,
    unchanged: Counter,
}

impl Part {
    /// A part in good health.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            health: Mutex::default(),
            published: Counter::default(),
            refused: Counter::default(),
            unchanged: Counter::default(),
        }
    }

    /// `zones`, `pages`, `certificates` or `secrets`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Why the last load was refused; empty when all is well.
    pub fn health(&self) -> Vec<String> {
        lock(&self.health).clone()
    }

    /// Runs until the drain: calls `load` when contents below `paths` changed, or when somebody asks.
    ///
    /// `loaded` is the [`fingerprint`] from before the first load. `load` replaces the part and returns a line of what it
    /// did, or leaves it and says why.
    pub async fn keep<F>(
        self: Arc<Self>,
        paths: Vec<PathBuf>,
        mut loaded: u64,
        load: impl Fn(Shrink) -> F,
        mut requests: mpsc::Receiver<ReloadRequest>,
        mut drain: DrainWatch,
    ) where
        F: Future<Output = Result<String, String>>,
    {
        let mut watch = Watch::new(&paths, POLL);
        let mut is_first = true;
        loop {
            let mut request = None;
            tokio::select! {
                () = drain.reached(Phase::Draining) => return,
                // What changed before the watch began is seen by a look at once.
                () = std::future::ready(()), if is_first => is_first = false,
                _ = watch.changed(), if !paths.is_empty() => {}
                asked = requests.recv() => match asked {
                    Some(asked) => request = Some(asked),
                    None => return,
                },
            }
            let found = fingerprint(&paths).await;
            let shrink = request.as_ref().map(|request| request.shrink).unwrap_or_default();
            let is_new = found != loaded || (request.is_some() && !self.health().is_empty());
            let outcome = if is_new { self.take(load(shrink).await) } else { self.stays() };
            loaded = found;
            if let Some(request) = request {
                // Whoever asked may have gone away.
                let _ = request.answer.send(outcome);
            }
        }
    }

    fn take(&self, outcome: Result<String, String>) -> Result<String, String> {
        let name = self.name;
        match outcome {
            Ok(line) => {
                self.published.increment();
                lock(&self.health).clear();
                tracing::info!(part = name, "{line}");
                Ok(format!("{name}: {line}"))
            }
            Err(reason) => {
                self.refused.increment();
                let before = std::mem::replace(&mut *lock(&self.health), vec![reason.clone()]);
                if before == [reason.as_str()] {
                    tracing::debug!(part = name, %reason, "reload still refused");
                } else {
                    tracing::warn!(part = name, %reason, "reload refused, the last good state stays");
                }
                Err(format!("{name}: refused: {reason}"))
            }
        }
    }

    /// Nothing differs: a refusal stays a refusal.
    fn stays(&self) -> Result<String, String> {
        self.unchanged.increment();
        Ok(format!("{}: unchanged", self.name))
    }
}

impl Observe for Part {
    fn observe(&self, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {
        for (outcome, counter) in
            [("published", &self.published), ("refused", &self.refused), ("unchanged", &self.unchanged)]
        {
            show("part_reloads_total", &[("part", self.name), ("outcome", outcome)], Sample::Count(counter.value()));
        }
        // Counted once for files that stay as they are: that it stays refused is told by a state.
        let is_refused = !lock(&self.health).is_empty();
        show("part_refused", &[("part", self.name)], Sample::Count(u64::from(is_refused)));
    }
}

/// Tells the contents below `paths` apart; what cannot be read counts as such.
pub async fn fingerprint(paths: &[PathBuf]) -> u64 {
    let paths = paths.to_vec();
    let reading = tokio::task::spawn_blocking(move || {
        let mut hasher = SipHasher13::new();
        let mut files_left = FILES_MAX;
        for path in &paths {
            hash_path(path, &mut hasher, &mut files_left);
        }
        hasher.finish()
    });
    reading.await.unwrap_or_default()
}

/// Hashes a file, or the files of a directory in order of their names.
fn hash_path(path: &Path, hasher: &mut SipHasher13, files_left: &mut usize) {
    hasher.write(path.as_os_str().as_encoded_bytes());
    if !path.is_dir() {
        match crate::registry::source::read_file(path) {
            Ok(octets) => hasher.write(&octets),
            Err(error) => hasher.write(error.to_string().as_bytes()),
        }
        return;
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    for file in files {
        if *files_left == 0 {
            return;
        }
        *files_left -= 1;
        hash_path(&file, hasher, files_left);
    }
}

/// A thread that panicked while holding the lock left a whole value behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
