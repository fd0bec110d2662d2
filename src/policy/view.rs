//! What a packet or request is judged with: one snapshot, one range table, one rule set, taken together.
//!
//! Readers take the view once (`SharedView::load`) and keep it for the whole packet; the writers of registry, ranges and
//! rules replace it by one pointer swap. A reload therefore never blocks a packet, and no decision mixes generations.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, Guard};

use super::judge::judge;
use super::rules::{Mode, Rules};
use super::shadow::Shadow;
use super::verdict::Verdict;
use crate::model::Subject;
use crate::ranges::Ranges;
use crate::registry::Snapshot;

/// Something the gate lacks for a sound verdict; each has a configured outcome (the fail-mode contract).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The clock jumped against the monotonic one by more than the set bound.
    ClockJumped,
    /// No range table could be loaded.
    RangesMissing,
    /// No registry could be loaded.
    RegistryMissing,
    /// The registry is older than the set age.
    RegistryOld,
}

impl Fault {
    /// Every fault, in order.
    pub const ALL: [Self; 4] = [Self::ClockJumped, Self::RangesMissing, Self::RegistryMissing, Self::RegistryOld];

    /// The label in metrics and `/readyz`.
    pub fn label(self) -> &'static str {
        match self {
            Self::ClockJumped => "clock_jumped",
            Self::RangesMissing => "ranges_missing",
            Self::RegistryMissing => "registry_missing",
            Self::RegistryOld => "registry_old",
        }
    }
}

/// What a fault does to answers. The greatest of the present faults' outcomes holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Verdicts are carried out as if nothing were wrong, on the last good data.
    #[default]
    Serve,
    /// Verdicts are reached and not carried out.
    Observe,
    /// Nothing that needs a verdict is answered: DNS SERVFAIL with EDE 14, HTTP 503.
    Block,
}

impl Outcome {
    /// The label in the configuration, `/readyz` and the status.
    pub fn label(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Observe => "observe",
            Self::Block => "block",
        }
    }
}

/// How the planes are to act on verdicts right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stance {
    /// Carry verdicts out.
    Enforce,
    /// Refuse to answer until the data are there.
    NotReady,
    /// Reach verdicts, change nothing.
    Observe,
    /// Reach no verdict.
    Off,
}

impl Stance {
    /// Every stance, in order.
    pub const ALL: [Self; 4] = [Self::Enforce, Self::NotReady, Self::Observe, Self::Off];

    /// The label in metrics and the status.
    pub fn label(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::NotReady => "not_ready",
            Self::Observe => "observe",
            Self::Off => "off",
        }
    }
}

/// The data of one moment.
#[derive(Clone)]
pub struct View {
    /// The policy.
    pub rules: Arc<Rules>,
    /// The registry.
    pub registry: Arc<Snapshot>,
    /// Addresses and CNAME suffixes.
    pub ranges: Arc<Ranges>,
    /// Present faults, each with its configured outcome.
    pub faults: Vec<(Fault, Outcome)>,
    /// What judges beside it, where something does.
    pub shadow: Option<Arc<Shadow>>,
}

impl View {
    /// Judges `subject` on this view's data.
    pub fn judge(&self, subject: &Subject<'_>, now: SystemTime) -> Verdict {
        judge(&self.rules, &self.registry, &self.ranges, subject, now)
    }

    /// How to act on verdicts.
    pub fn stance(&self) -> Stance {
        let worst = self.faults.iter().map(|&(_, outcome)| outcome).max().unwrap_or_default();
        match (self.rules.mode, worst) {
            (Mode::Off, _) => Stance::Off,
            // Observe mode changes nothing on the wire, whatever is missing.
            (Mode::Observe, _) => Stance::Observe,
            (_, Outcome::Block) => Stance::NotReady,
            (_, Outcome::Observe) => Stance::Observe,
            (Mode::Enforce, Outcome::Serve) => Stance::Enforce,
        }
    }

    /// The pair that tells whether a stored verdict is still current.
    pub fn generations(&self) -> (u64, u64) {
        (self.registry.generation(), self.ranges.generation())
    }
}

/// Where the planes read the time of day; tests and replays set it by hand.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// Seconds since 1970, set from outside.
    Manual(Arc<AtomicU64>),
    /// The machine's clock.
    #[default]
    System,
}

impl Clock {
    /// The time of day.
    pub fn now(&self) -> SystemTime {
        match self {
            Self::Manual(seconds) => SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.load(Ordering::Relaxed)),
            Self::System => SystemTime::now(),
        }
    }
}

/// The published view with the clock it is judged by; cloning shares both.
#[derive(Clone)]
pub struct SharedView {
    current: Arc<ArcSwap<View>>,
    clock: Clock,
}

impl SharedView {
    /// Publishes the first view.
    pub fn new(view: View) -> Self {
        Self::with_clock(view, Clock::System)
    }

    /// Publishes the first view, judged by `clock`.
    pub fn with_clock(view: View, clock: Clock) -> Self {
        Self { current: Arc::new(ArcSwap::from_pointee(view)), clock }
    }

    /// The time of day that verdicts are reached at.
    pub fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// The current view for one packet; must not be held across an await point.
    pub fn load(&self) -> Guard<Arc<View>> {
        self.current.load()
    }

    /// The current view, to keep across await points.
    pub fn load_full(&self) -> Arc<View> {
        self.current.load_full()
    }

    /// Replaces parts of the view: `change` gets a copy and edits it. It may run more than once under contention.
    pub fn update(&self, change: impl Fn(&mut View)) {
        self.current.rcu(|old| {
            let mut next = View::clone(old);
            change(&mut next);
            next
        });
    }
}
