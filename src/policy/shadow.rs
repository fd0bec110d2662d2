//! The shadow: another registry, other ranges or another policy that judge live traffic beside the live ones, by the same
//! [`super::judge()`], and decide nothing. What it would have said otherwise is counted, and carried to whoever reads.
//!
//! A verdict of the shadow is reached whenever the live one is: for each request and each first flight of a connection,
//! and for a DNS answer each time it is judged, which is once for as long as it stays in the cache under the same data.
//! No upstream is asked for the shadow's sake, so that it sees those addresses that the live verdict saw.

use std::sync::Arc;

use super::rules::Rules;
use super::verdict::{Action, Verdict};
use super::view::View;
use crate::count::{Counter, Labels, Observe, Sample};
use crate::model::Via;
use crate::ranges::Ranges;
use crate::registry::Snapshot;

/// One of the data that the shadow judges by.
#[derive(Debug)]
pub enum Part<T> {
    /// The live ones, whichever they are at the time.
    Live,
    /// Its own.
    Own(Arc<T>),
    /// Its own, which are not loaded yet: there is no verdict of the shadow until they are.
    Waiting,
}

// Derived, it would ask for data that can be copied.
impl<T> Clone for Part<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Live => Self::Live,
            Self::Own(own) => Self::Own(own.clone()),
            Self::Waiting => Self::Waiting,
        }
    }
}

impl<T> Part<T> {
    fn over(&self, live: &Arc<T>) -> Option<Arc<T>> {
        match self {
            Self::Live => Some(live.clone()),
            Self::Own(own) => Some(own.clone()),
            Self::Waiting => None,
        }
    }
}

/// What the shadow judges by; part of a [`View`].
#[derive(Clone)]
pub struct Shadow {
    /// Its policy.
    pub rules: Arc<Rules>,
    /// Its registry.
    pub registry: Part<Snapshot>,
    /// Its ranges.
    pub ranges: Part<Ranges>,
    /// What it counts.
    pub counters: Arc<ShadowCounters>,
}

impl Shadow {
    /// Tells whether a stored verdict of the shadow is still current; 0 for what is not its own.
    pub fn generations(&self) -> (u64, u64) {
        let registry = if let Part::Own(own) = &self.registry { own.generation() } else { 0 };
        let ranges = if let Part::Own(own) = &self.ranges { own.generation() } else { 0 };
        (registry, ranges)
    }
}

impl View {
    /// The view that the shadow judges by; `None` without a shadow, and while its data are not loaded.
    pub fn shadowed(&self) -> Option<Self> {
        let shadow = self.shadow.as_deref()?;
        Some(Self {
            rules: shadow.rules.clone(),
            registry: shadow.registry.over(&self.registry)?,
            ranges: shadow.ranges.over(&self.ranges)?,
            faults: Vec::new(),
            shadow: None,
        })
    }

    /// Has the shadow judge as `live` was judged, counts both, and returns the shadow's verdict where it is another one.
    pub fn beside(&self, via: Via, live: &Verdict, judge: impl FnOnce(&Self) -> Verdict) -> Option<Verdict> {
        let shadow = judge(&self.shadowed()?);
        self.count_beside(via, live, &shadow)
    }

    /// Counts both verdicts; the shadow's where it is another one.
    pub fn count_beside(&self, via: Via, live: &Verdict, shadow: &Verdict) -> Option<Verdict> {
        if let Some(known) = &self.shadow {
            known.counters.by[via as usize][side(live)][side(shadow)].increment();
        }
        differs(live, shadow).then_some(*shadow)
    }
}

/// True when the shadow says something else: another action, another reason, or one that is only reported.
pub fn differs(live: &Verdict, shadow: &Verdict) -> bool {
    (live.action, live.reason, live.enforceable) != (shadow.action, shadow.reason, shadow.enforceable)
}

fn side(verdict: &Verdict) -> usize {
    usize::from(verdict.action == Action::Block)
}

/// Pairs of verdicts by plane, by the live action, by the shadow's.
#[derive(Debug, Default)]
pub struct ShadowCounters {
    by: [[[Counter; 2]; 2]; PLANES.len()],
}

/// The planes, in the order of their numbers.
const PLANES: [Via; 4] = [Via::Dns, Via::Http, Via::Tls, Via::Quic];

impl ShadowCounters {
    /// Pairs so far: of all, and of those whose actions differ.
    pub fn sums(&self) -> (u64, u64) {
        let all = self.by.iter().flatten().flatten().map(Counter::value).sum();
        let other = self.by.iter().map(|by| by[0][1].value() + by[1][0].value()).sum();
        (all, other)
    }
}

impl Observe for ShadowCounters {
    fn observe(&self, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {
        for (via, by) in PLANES.iter().zip(&self.by) {
            for live in [Action::Allow, Action::Block] {
                for shadow in [Action::Allow, Action::Block] {
                    let labels = [("plane", via.label()), ("live", live.label()), ("shadow", shadow.label())];
                    let count = by[usize::from(live == Action::Block)][usize::from(shadow == Action::Block)].value();
                    show("shadow_verdicts_total", &labels, Sample::Count(count));
                }
            }
        }
    }
}
