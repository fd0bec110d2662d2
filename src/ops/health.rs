//! Readiness: whether the gate does what its configuration says, and if not, why.
//!
//! Not ready means that verdicts which should be carried out are not (a fault with the outcome `block` or `observe`), or
//! that the gate is stopping. What an operator should know and no client feels (a refused reload, an upstream that is
//! down, a fault with the outcome `serve`) is a warning: taking every node out of service because one file was
//! mistyped would turn a small mistake into an outage.

use std::sync::Arc;

use serde::Serialize;

use super::faults::{Faults, sentence};
use super::parts::Part;
use super::shadow::Stores;
use crate::count::{Labels, Observe, Sample};
use crate::dns::handler::Gate;
use crate::drain::{DrainWatch, Phase};
use crate::policy::{Outcome, SharedView, Stance};
use crate::ranges;
use crate::registry;

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// A fault's label, `draining`, `…_refused`, `upstreams_down` or `upstream_down`.
    pub cause: String,
    /// What the fault does to answers; only faults have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'static str>,
    /// What is wrong and what would put it right.
    pub text: String,
}

impl Note {
    fn new(cause: impl Into<String>, text: impl Into<String>) -> Self {
        Self { cause: cause.into(), outcome: None, text: text.into() }
    }
}

/// The answer of `/readyz`.
#[derive(Clone, Debug, Serialize)]
pub struct Readiness {
    /// True when the gate does what its configuration says.
    pub ready: bool,
    /// How verdicts are acted on now.
    pub stance: &'static str,
    /// Why it is not ready.
    pub reasons: Vec<Note>,
    /// What needs an operator and no client feels.
    pub warnings: Vec<Note>,
}

/// Everything readiness rests on.
#[derive(Clone)]
pub struct Health {
    /// The view the planes use.
    pub view: SharedView,
    /// The registry's keeper.
    pub registry: Arc<registry::Store>,
    /// The ranges' keeper.
    pub ranges: Arc<ranges::Store>,
    /// The DNS plane, for its upstreams.
    pub dns: Arc<Gate>,
    /// The keepers of the shadow's data.
    pub shadow: Stores,
    /// Zones, pages, certificates, secrets.
    pub parts: Vec<Arc<Part>>,
    /// The fail-mode contract.
    pub faults: Arc<Faults>,
    /// The planes' way out.
    pub drain: DrainWatch,
}

impl Health {
    /// Readiness now.
    pub fn readiness(&self) -> Readiness {
        let view = self.view.load_full();
        let (mut reasons, mut warnings) = (Vec::new(), self.refusals());
        if self.drain.phase() >= Phase::Draining {
            reasons.push(Note::new("draining", "the gate is stopping and takes no new work"));
        }
        for &(fault, outcome) in &view.faults {
            let note = Note { outcome: Some(outcome.label()), ..Note::new(fault.label(), sentence(fault)) };
            if outcome == Outcome::Serve { warnings.push(note) } else { reasons.push(note) }
        }
        self.warn_of_upstreams(&mut warnings);
        Readiness { ready: reasons.is_empty(), stance: view.stance().label(), reasons, warnings }
    }

    /// Reloads that were refused and not put right since.
    fn refusals(&self) -> Vec<Note> {
        let of = |name: &str, lines: Vec<String>| {
            let cause = format!("{name}_refused");
            lines.into_iter().map(move |line| Note::new(cause.clone(), line)).collect::<Vec<_>>()
        };
        let mut res = of("registry", self.registry.health());
        res.extend(of("ranges", self.ranges.health()));
        for (name, lines) in self.shadow.health() {
            res.extend(of(name, lines));
        }
        for part in &self.parts {
            res.extend(of(part.name(), part.health()));
        }
        res
    }

    fn warn_of_upstreams(&self, warnings: &mut Vec<Note>) {
        let servers = self.dns.upstreams().health();
        if !servers.is_empty() && servers.iter().all(|server| !server.is_up) {
            warnings.push(Note::new("upstreams_down", "no upstream answers; local zones and stale answers are served"));
            return;
        }
        for server in servers.iter().filter(|server| !server.is_up) {
            warnings.push(Note::new("upstream_down", format!("{} does not answer and is tried last", server.server)));
        }
    }
}

impl Observe for Health {
    fn observe(&self, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {
        show("ready", &[], Sample::Count(u64::from(self.readiness().ready)));
        let now = self.view.load().stance();
        for stance in Stance::ALL {
            show("stance", &[("stance", stance.label())], Sample::Count(u64::from(stance == now)));
        }
    }
}

/// The upstreams of a gate as a source of metrics.
pub struct UpstreamsOf(pub Arc<Gate>);

impl Observe for UpstreamsOf {
    fn observe(&self, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {
        self.0.upstreams().observe(show);
    }
}

/// A sink as a source of metrics.
pub struct SinkLosses(pub crate::policy::Sink);

impl Observe for SinkLosses {
    fn observe(&self, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {
        show("sink_dropped_total", &[], Sample::Count(self.0.dropped()));
    }
}
