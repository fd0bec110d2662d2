//! The file that keeps the answer cache from one run to the next. What goes wrong with it is said and costs a cold cache.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::timeout;

use crate::dns::handler::Gate;
use crate::whole::write_whole_for_owner;

/// Time for saving before the sockets change hands: the next gate waits.
const BEFORE_HANDOVER_MAX: Duration = Duration::from_secs(5);
/// What a file may have beyond the bound of the cache: the sum and the head; an entry is smaller there than in memory.
const OCTETS_BEYOND: u64 = 1 << 20;

/// The file, with the gate whose cache it keeps.
#[derive(Clone)]
pub struct CacheFile {
    path: PathBuf,
    gate: Arc<Gate>,
    writing: Arc<Mutex<()>>,
}

impl CacheFile {
    /// The file of the settings; none where they name none.
    pub fn of(gate: &Arc<Gate>) -> Option<Self> {
        let path = gate.settings().cache_file.clone()?;
        Some(Self { path, gate: gate.clone(), writing: Arc::default() })
    }

    /// Takes in what the run before left.
    pub async fn restore(&self) {
        let this = self.clone();
        let restored = tokio::task::spawn_blocking(move || this.restore_blocking()).await;
        match restored {
            Ok(Ok(Some(answers))) => tracing::info!(answers, path = %self.path.display(), "restored the answer cache"),
            Ok(Ok(None)) => {
                tracing::info!(path = %self.path.display(), "no answer cache was left, beginning with none")
            }
            Ok(Err(error)) => {
                tracing::warn!(path = %self.path.display(), "the saved answer cache {error}; beginning with none");
            }
            Err(_) => tracing::error!("restoring the answer cache was cut off by an internal error"),
        }
    }

    fn restore_blocking(&self) -> Result<Option<usize>, String> {
        let cannot = |error: io::Error| format!("cannot be read: {error}");
        let octets_max = self.gate.settings().cache_bytes_max as u64 + OCTETS_BEYOND;
        match std::fs::metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(cannot(error)),
            Ok(file) if file.len() > octets_max => return Err(format!("has {} octets, over {octets_max}", file.len())),
            Ok(_) => {}
        }
        let octets = std::fs::read(&self.path).map_err(cannot)?;
        self.gate.restore_cache(&octets, SystemTime::now()).map(Some).map_err(|error| error.to_string())
    }

    /// Writes what is there now.
    pub async fn save(&self) {
        let this = self.clone();
        let saving = move || {
            // A save that was not waited for may still run; both would write one file.
            let _alone = this.writing.lock().unwrap_or_else(PoisonError::into_inner);
            write_whole_for_owner(&this.path, |out| this.gate.save_cache(out, SystemTime::now()).map(drop))
        };
        match tokio::task::spawn_blocking(saving).await {
            Ok(Ok(())) => tracing::info!(path = %self.path.display(), "saved the answer cache"),
            Ok(Err(error)) => {
                tracing::warn!(path = %self.path.display(), %error, "the answer cache cannot be saved");
            }
            Err(_) => tracing::error!("saving the answer cache was cut off by an internal error"),
        }
    }

    /// Writes for the next gate, which is about to take over.
    pub async fn save_for_next(&self) {
        if timeout(BEFORE_HANDOVER_MAX, self.save()).await.is_err() {
            tracing::warn!("saving the answer cache takes too long, the next gate begins without");
        }
    }
}
