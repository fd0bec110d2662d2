//! The fail-mode contract: which faults are present, and what each does to answers.
//!
//! [`decide`] is a pure function of the settings and the facts; [`Faults`] reads the facts (the view, the registry's
//! counters, two clocks), publishes what it decided in `View::faults` and logs each change. Missing data are read from the
//! view itself, in the same swap that publishes the decision, so that no packet meets an empty registry without its fault.
//! Upstream failure is the DNS plane's part of the contract (`upstream_down`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::settings::{FaultSettings, Missing};
use crate::count::{Labels, Observe, Sample};
use crate::drain::{DrainWatch, Phase};
use crate::policy::{Fault, Outcome, SharedView, View};
use crate::registry;

/// How often the clocks and ages are looked at: a fault is seen within this time.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What the decision rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// No registry was ever loaded, or the first has no filing.
    pub registry_missing: bool,
    /// No ranges were ever loaded, or in the first none is mainland.
    pub ranges_missing: bool,
    /// Time since the registry was last loaded or found unchanged.
    pub registry_age: Duration,
    /// How far the time of day moved against the monotonic clock, in either direction.
    pub clock_offset: Duration,
}

/// The present faults in order, each with its configured outcome.
pub fn decide(settings: &FaultSettings, facts: &Facts) -> Vec<(Fault, Outcome)> {
    let is_old = settings.registry_age_max.is_some_and(|max| facts.registry_age > max);
    let mut res = Vec::new();
    let mut add = |is_present: bool, fault: Fault, outcome: Outcome| {
        if is_present {
            res.push((fault, outcome));
        }
    };
    add(facts.clock_offset > settings.clock_jump_max, Fault::ClockJumped, settings.on_clock_jump);
    add(facts.ranges_missing, Fault::RangesMissing, outcome_of(settings.on_missing_ranges));
    add(facts.registry_missing, Fault::RegistryMissing, outcome_of(settings.on_missing_registry));
    add(is_old && !facts.registry_missing, Fault::RegistryOld, settings.on_old_registry);
    res
}

/// What missing data do once the gate runs; one that refuses to start without them answers nothing without them either.
pub fn outcome_of(missing: Missing) -> Outcome {
    match missing {
        Missing::Block | Missing::Refuse => Outcome::Block,
        Missing::Observe => Outcome::Observe,
    }
}

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The time of day.
    pub wall: SystemTime,
    /// Time since some fixed moment by the monotonic clock.
    pub steady: Duration,
}

impl Moment {
    /// How far the time of day moved since `then` beyond what the monotonic clock says.
    pub fn offset_since(&self, then: &Self) -> Duration {
        let elapsed = self.steady.saturating_sub(then.steady);
        let expected = then.wall + elapsed;
        self.wall.duration_since(expected).unwrap_or_else(|error| error.duration())
    }
}

/// What is remembered between looks.
struct Memory {
    /// Where the time of day was right, as far as we know.
    baseline: Moment,
    /// Loads that published or found nothing new, as counted by the registry.
    confirmations: u64,
    /// When their count last grew.
    confirmed: Duration,
}

/// Keeps `View::faults` true to the facts.
pub struct Faults {
    settings: FaultSettings,
    view: SharedView,
    registry: Arc<registry::Counters>,
    started: Instant,
    memory: Mutex<Memory>,
}

impl Faults {
    /// Takes the clocks as they are now for right, and the registry for confirmed now if it was loaded at all.
    pub fn new(settings: FaultSettings, view: SharedView, registry: Arc<registry::Counters>) -> Self {
        let baseline = Moment { wall: view.now(), steady: Duration::ZERO };
        let confirmations = confirmations(&registry);
        let memory = Mutex::new(Memory { baseline, confirmations, confirmed: Duration::ZERO });
        Self { settings, view, registry, started: Instant::now(), memory }
    }

    /// Looks once and publishes what it finds.
    pub fn look(&self) {
        self.look_at(self.moment());
    }

    /// As [`Faults::look`], at a moment given from outside.
    pub fn look_at(&self, now: Moment) {
        let (registry_age, clock_offset) = self.ages_at(now);
        let next = |view: &View| {
            // A first generation without content is a start without data; a later one was accepted by an operator.
            let is_first = |generation: u64| generation <= 1;
            let registry_missing = is_first(view.registry.generation()) && view.registry.is_empty();
            let ranges_missing = is_first(view.ranges.generation()) && !view.ranges.has_mainland();
            decide(&self.settings, &Facts { registry_missing, ranges_missing, registry_age, clock_offset })
        };
        let before = self.view.load_full();
        if next(&before) == before.faults {
            return;
        }
        self.view.update(|view| view.faults = next(view));
        let after = self.view.load_full();
        for fault in Fault::ALL {
            let of = |view: &View| view.faults.iter().find(|(there, _)| *there == fault).map(|&(_, outcome)| outcome);
            match (of(&before), of(&after)) {
                (None, Some(outcome)) => {
                    tracing::warn!(fault = fault.label(), ?outcome, "fault present: {}", sentence(fault));
                }
                (Some(_), None) => tracing::info!(fault = fault.label(), "fault gone"),
                (_, _) => {}
            }
        }
    }

    /// Takes the time of day as it is now for right: an operator who reloads has seen it.
    pub fn accept_clock(&self) {
        let now = self.moment();
        self.memory().baseline = now;
        self.look_at(now);
    }

    /// Time since the registry was last confirmed, and how far the time of day is off.
    pub fn ages(&self) -> (Duration, Duration) {
        self.ages_at(self.moment())
    }

    /// Looks again and again until the drain.
    pub async fn run(self: Arc<Self>, mut drain: DrainWatch) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = drain.reached(Phase::Draining) => return,
                _ = ticks.tick() => self.look(),
            }
        }
    }

    fn moment(&self) -> Moment {
        Moment { wall: self.view.now(), steady: self.started.elapsed() }
    }

    fn ages_at(&self, now: Moment) -> (Duration, Duration) {
        let mut memory = self.memory();
        let confirmations = confirmations(&self.registry);
        if confirmations != memory.confirmations {
            memory.confirmations = confirmations;
            memory.confirmed = now.steady;
        }
        (now.steady.saturating_sub(memory.confirmed), now.offset_since(&memory.baseline))
    }

    /// A thread that panicked while holding the lock left whole values behind.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observe for Faults {
    fn observe(&self, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {
        let view = self.view.load_full();
        for fault in Fault::ALL {
            let is_present = view.faults.iter().any(|(there, _)| *there == fault);
            show("faults", &[("fault", fault.label())], Sample::Count(u64::from(is_present)));
        }
        let (age, offset) = self.ages();
        let age = if view.registry.generation() == 0 { 0.0 } else { age.as_secs_f64() };
        show("registry_age_seconds", &[], Sample::Value(age));
        show("clock_offset_seconds", &[], Sample::Value(offset.as_secs_f64()));
    }
}

/// What a fault is and what ends it, for the log, `/readyz` and the status page.
pub fn sentence(fault: Fault) -> &'static str {
    match fault {
        Fault::ClockJumped => {
            "the time of day jumped against the monotonic clock; set it right, or reload to accept it as it is"
        }
        Fault::RangesMissing => "no ranges could be loaded; put the files of [ranges] right",
        Fault::RegistryMissing => "no registry could be loaded; put the files of [registry] right",
        Fault::RegistryOld => "the registry was not confirmed within registry.max-age-seconds; see why reloads fail",
    }
}

fn confirmations(counters: &registry::Counters) -> u64 {
    counters.published.value() + counters.unchanged.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> FaultSettings {
        FaultSettings {
            on_missing_registry: Missing::Observe,
            on_missing_ranges: Missing::Refuse,
            on_old_registry: Outcome::Observe,
            registry_age_max: Some(Duration::from_secs(100)),
            on_clock_jump: Outcome::Block,
            clock_jump_max: Duration::from_secs(60),
        }
    }

    #[test]
    fn each_fact_has_its_outcome() {
        let none = Facts::default();
        let seconds = Duration::from_secs;
        let table = [
            (none, vec![]),
            (Facts { registry_missing: true, ..none }, vec![(Fault::RegistryMissing, Outcome::Observe)]),
            (Facts { ranges_missing: true, ..none }, vec![(Fault::RangesMissing, Outcome::Block)]),
            (Facts { registry_age: seconds(100), ..none }, vec![]),
            (Facts { registry_age: seconds(101), ..none }, vec![(Fault::RegistryOld, Outcome::Observe)]),
            (Facts { clock_offset: seconds(60), ..none }, vec![]),
            (Facts { clock_offset: seconds(61), ..none }, vec![(Fault::ClockJumped, Outcome::Block)]),
            (
                Facts { registry_missing: true, registry_age: seconds(500), ..none },
                vec![(Fault::RegistryMissing, Outcome::Observe)],
            ),
        ];
        for (facts, expected) in table {
            assert_eq!(decide(&settings(), &facts), expected, "{facts:?}");
        }
        let unlimited = FaultSettings { registry_age_max: None, ..settings() };
        assert_eq!(decide(&unlimited, &Facts { registry_age: Duration::MAX, ..none }), vec![]);
    }

    #[test]
    fn offset_counts_in_both_directions() {
        let at = |wall: u64, steady: u64| Moment {
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(wall),
            steady: Duration::from_secs(steady),
        };
        let then = at(1000, 10);
        assert_eq!(at(1005, 15).offset_since(&then), Duration::ZERO);
        assert_eq!(at(1105, 15).offset_since(&then), Duration::from_secs(100));
        assert_eq!(at(905, 15).offset_since(&then), Duration::from_secs(100));
    }
}
