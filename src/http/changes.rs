//! The news that a verdict may have changed, for whoever passes octets on under one.
//!
//! One look a second for the whole plane, and a word to all tunnels only when there is something new: a tunnel costs
//! nothing while nothing changes.

use std::future::pending;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::gate::Gate;
use super::host::HostName;
use crate::drain::{DrainWatch, Phase};
use crate::model::Day;
use crate::policy::{SharedView, View};

/// How often the view is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Tells of changes.
#[derive(Debug)]
pub struct Changes(watch::Sender<()>);

impl Default for Changes {
    fn default() -> Self {
        Self(watch::Sender::new(()))
    }
}

impl Changes {
    /// Changes from now on.
    pub fn follow(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }

    /// Watches the view and the day, which provisional access ends by, until the plane stops.
    pub async fn watch(&self, view: &SharedView, mut drain: DrainWatch) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known = Mark::of(view);
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                () = drain.reached(Phase::Stopped) => return,
            }
            if !known.is_current(view) {
                known = Mark::of(view);
                self.0.send_replace(());
            }
        }
    }
}

/// What may yet turn the verdict on something that is open.
///
/// A wait that is given up and taken up again goes on: the grace runs from the change.
#[derive(Debug)]
pub struct Turning {
    changes: watch::Receiver<()>,
    /// When the grace of a blocked name is over.
    end: Option<Instant>,
}

impl Turning {
    /// Changes from now on.
    pub fn new(changes: &Changes) -> Self {
        Self { changes: changes.follow(), end: None }
    }

    /// Forgets what was: asked before a verdict, so that no change of it is missed.
    pub fn begin(&mut self) {
        self.changes.mark_unchanged();
        self.end = None;
    }

    /// Returns once `host`, which may pass, has turned blocked and stayed so for the grace; never where such are kept.
    pub async fn blocked(&mut self, gate: &Gate, host: &HostName, reached: IpAddr) {
        let Some(grace) = gate.settings().blocked_tunnel_grace else { return pending().await };
        loop {
            let end = self.end;
            let over = async {
                match end {
                    Some(end) => sleep_until(end).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                Ok(()) = self.changes.changed() => {
                    let is_blocked = !gate.still_passes(host, reached);
                    self.end = is_blocked.then(|| end.unwrap_or_else(|| Instant::now() + grace));
                }
                () = over => return,
                else => pending().await,
            }
        }
    }
}

/// What verdicts were last reached with.
struct Mark {
    /// Keeps none of the data alive, but the place of the view, so that no other can have it.
    view: Weak<View>,
    day: Day,
}

impl Mark {
    fn of(view: &SharedView) -> Self {
        Self { view: Arc::downgrade(&view.load()), day: Day::at(view.now()) }
    }

    fn is_current(&self, view: &SharedView) -> bool {
        self.view.as_ptr() == Arc::as_ptr(&view.load()) && self.day == Day::at(view.now())
    }
}
