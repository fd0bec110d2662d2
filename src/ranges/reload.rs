//! Keeps the ranges current: a watch on their directories, a slow poll, and requests by hand.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::mpsc;

use super::store::{ReloadOutcome, Store};
use super::{Ranges, Shrink};
use crate::drain::{DrainWatch, Phase};
use crate::priority::{Rank, apart};
use crate::registry::reload::{Refusals, ReloadRequest};
use crate::watch::Watch;

/// Runs until the drain: reloads on change, poll and request, and calls `publish` with each new table.
pub async fn run(
    store: Arc<Store>,
    publish: impl Fn(Arc<Ranges>),
    mut requests: mpsc::Receiver<ReloadRequest>,
    mut drain: DrainWatch,
) {
    let mut watch = Watch::new(&store.settings().paths(), store.settings().poll);
    // Whoever started without said why.
    let mut refusals = Refusals::said(store.health());
    loop {
        let mut request = None;
        tokio::select! {
            () = drain.reached(Phase::Draining) => return,
            _ = watch.changed() => {}
            asked = requests.recv() => match asked {
                Some(asked) => request = Some(asked),
                None => return,
            },
        }
        let shrink = request.as_ref().map(|request| request.shrink).unwrap_or_default();
        let outcome = reload_once(store.clone(), shrink, &publish, &mut refusals).await;
        if let Some(request) = request {
            // Whoever asked may have gone away.
            let _ = request.answer.send(outcome);
        }
    }
}

/// One reload on a blocking thread; the line tells what it did.
async fn reload_once(
    store: Arc<Store>,
    shrink: Shrink,
    publish: &impl Fn(Arc<Ranges>),
    refusals: &mut Refusals,
) -> Result<String, String> {
    let load = move || store.reload(SystemTime::now(), shrink);
    let loading = tokio::task::spawn_blocking(move || apart(Rank::Soon, load));
    let Ok(outcome) = loading.await else { return Err("the load was cut off by an internal error".to_owned()) };
    match outcome {
        ReloadOutcome::Published(ranges, diff) => {
            let generation = ranges.generation();
            publish(ranges);
            refusals.end();
            let count = |space: &super::Space| (space.v4.len() + space.v6.len()) as u64;
            let (added, changed, removed) = (count(&diff.added), count(&diff.changed), count(&diff.removed));
            tracing::info!(generation, added, changed, removed, "ranges published");
            Ok(format!(
                "ranges: generation {generation}, {added} spans became mainland, {removed} ceased to be, {changed} changed otherwise"
            ))
        }
        ReloadOutcome::Refused(error) => {
            if refusals.is_news(&error.reasons) {
                tracing::warn!(reason = %error, "ranges reload refused, the last good state stays");
            } else {
                tracing::debug!(reason = %error, "ranges reload still refused");
            }
            Err(format!("ranges: refused: {error}"))
        }
        ReloadOutcome::Unchanged => {
            refusals.end();
            Ok("ranges: unchanged".to_owned())
        }
    }
}
