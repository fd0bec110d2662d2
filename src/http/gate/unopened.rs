//! Verdicts on connections that are passed on unopened: the name is known once and for all, and there is no page.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Gate, judge};
use crate::http::host::HostName;
use crate::model::Via;
use crate::policy::sink::received_host;
use crate::policy::{Action, Rules, Stance, VerdictRecord};

/// What a connection asks that is passed on unopened or not at all.
#[derive(Clone, Copy, Debug)]
pub struct Unopened<'a> {
    /// The plane that asks.
    pub via: Via,
    /// Whom for.
    pub host: &'a HostName,
    /// The host as written.
    pub shown: &'a str,
    /// Whose connection it is.
    pub client: IpAddr,
    /// The address the client reached.
    pub reached: IpAddr,
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It is refused.
    Block,
    /// It is refused: there are no data to judge with.
    NotReady,
    /// It goes to the origin.
    Pass,
}

impl Gate {
    /// Judges a connection that nobody here opens, counts and reports the verdict.
    pub fn decide_unopened(&self, asked: &Unopened<'_>) -> Passage {
        let view = self.view.load();
        let stance = view.stance();
        match stance {
            Stance::Off => return Passage::Pass,
            Stance::NotReady => return Passage::NotReady,
            Stance::Enforce | Stance::Observe => {}
        }
        let now = self.view.now();
        let verdict = judge(&view, asked.via, asked.host, asked.reached, now);
        self.counters.verdict(asked.via, &verdict);
        let blocks = stance == Stance::Enforce && verdict.blocks();
        if self.sink.wants(verdict.action) {
            self.sink.send(VerdictRecord {
                at: now,
                via: asked.via,
                client: asked.client,
                name: asked.host.name().cloned(),
                received: matches!(asked.host, HostName::Invalid).then(|| received_host(asked.shown.as_bytes())),
                enforced: stance == Stance::Enforce && (verdict.action == Action::Allow || verdict.enforceable),
                verdict,
                view: Arc::clone(&view),
            });
        }
        if blocks { Passage::Block } else { Passage::Pass }
    }

    /// Tells whether anything changed that verdicts rest on: equal values mean that nothing did.
    pub fn epoch(&self) -> Epoch {
        let view = self.view.load();
        Epoch { generations: view.generations(), rules: Arc::clone(&view.rules), stance: view.stance() }
    }
}

/// What verdicts rest on, at one moment.
#[derive(Clone, Debug)]
pub struct Epoch {
    generations: (u64, u64),
    rules: Arc<Rules>,
    stance: Stance,
}

impl PartialEq for Epoch {
    fn eq(&self, other: &Self) -> bool {
        self.generations == other.generations && self.stance == other.stance && Arc::ptr_eq(&self.rules, &other.rules)
    }
}
