//! One way to ask every reloadable part at once: `POST /v1/reload` and SIGHUP.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot};

use super::faults::Faults;
use crate::registry::Shrink;
use crate::registry::reload::ReloadRequest;

/// Requests that may wait for one part; more are told to try again.
pub const REQUESTS_MAX: usize = 16;

/// The ways to the parts, in the order they are reloaded.
#[derive(Clone)]
pub struct Reloader {
    parts: Vec<(&'static str, mpsc::Sender<ReloadRequest>)>,
    faults: Arc<Faults>,
    journal: Arc<Notify>,
}

/// What a reload did, one line a part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What was published or found unchanged.
    pub done: Vec<String>,
    /// What was refused; the last good state stays.
    pub refused: Vec<String>,
}

impl Reloader {
    /// A reloader of `parts`; a reload also accepts the clock as it is and opens the journal anew.
    pub fn new(
        parts: Vec<(&'static str, mpsc::Sender<ReloadRequest>)>,
        faults: Arc<Faults>,
        journal: Arc<Notify>,
    ) -> Self {
        Self { parts, faults, journal }
    }

    /// Reloads every part, one after the other, and returns when all are done.
    pub async fn reload(&self, shrink: Shrink) -> Report {
        self.journal.notify_one();
        let mut res = Report::default();
        for (name, requests) in &self.parts {
            // The shadow's parts tell of themselves as the live ones do.
            let of = if name.starts_with("shadow ") { "shadow " } else { "" };
            match ask(requests, shrink).await {
                Some(Ok(line)) => res.done.push(format!("{of}{line}")),
                Some(Err(line)) => res.refused.push(format!("{of}{line}")),
                None => res.refused.push(format!("{name}: not reloaded, the gate is stopping or too many wait")),
            }
        }
        self.faults.accept_clock();
        res
    }
}

async fn ask(requests: &mpsc::Sender<ReloadRequest>, shrink: Shrink) -> Option<Result<String, String>> {
    let (answer, answered) = oneshot::channel();
    requests.try_send(ReloadRequest { shrink, answer }).ok()?;
    answered.await.ok()
}
