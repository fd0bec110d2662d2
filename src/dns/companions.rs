//! What a judgement must know beside the answer itself: the addresses of the other family, of a service's owner and
//! targets, of an alias that the client follows by itself. Looked up by the gate, kept no longer than their own lifetimes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::cache::Entry;
use super::find::FindError;
use super::gate::may_lead_anywhere;
use super::handler::Gate;
use super::question::Question;
use super::upstream::UpstreamError;
use super::wire::{flag, rcode, rtype};
use crate::model::DomainName;

/// Targets looked up for one answer; a record set has one or two. What leads further is unknown, never harmless.
const TARGETS_MAX: usize = 8;
/// Shortest time companions are kept: an owner's TTL of 0 must not make every query several.
const KEPT_MIN: Duration = Duration::from_secs(1);
/// Longest time, where nothing was looked up that has a lifetime.
const KEPT_MAX: Duration = Duration::from_secs(86_400);

/// One way to addresses, judged for itself: a product on one way excuses no address of another.
#[derive(Clone, Debug, Default)]
pub struct Path {
    /// Where it ends.
    pub addresses: Vec<IpAddr>,
    /// The names on it.
    pub chain: Vec<DomainName>,
}

/// The ways beside the answer's own.
#[derive(Clone, Debug)]
pub struct Companions {
    /// Each way.
    pub paths: Vec<Path>,
    /// False when some could not be looked up.
    pub are_complete: bool,
    /// The end of the shortest lifetime among them.
    pub valid_until: Instant,
}

impl Companions {
    /// None found, none known to be missing.
    pub fn none() -> Self {
        Self { paths: Vec::new(), are_complete: true, valid_until: Instant::now() + KEPT_MAX }
    }

    /// True within their lifetime.
    pub fn are_fresh(&self) -> bool {
        Instant::now() < self.valid_until
    }

    fn add(&mut self, found: &Entry, chain: Vec<DomainName>) {
        let left = found.lifetime.saturating_sub(found.stored_at.elapsed()).max(KEPT_MIN);
        self.valid_until = self.valid_until.min(Instant::now() + left);
        let chain = chain.into_iter().chain(found.answer.chain.iter().cloned()).collect();
        self.paths.push(Path { addresses: found.answer.addresses.clone(), chain });
    }
}

/// A question on the way, with the names before it.
struct Step {
    question: Question,
    chain: Vec<DomainName>,
}

/// The questions still to ask.
struct Walk<'a> {
    question: &'a Question,
    steps: Vec<Step>,
    targets: Vec<DomainName>,
    has_room: bool,
}

impl<'a> Walk<'a> {
    fn new(question: &'a Question, answer: &Answer) -> Self {
        let mut res = Self { question, steps: Vec::new(), targets: Vec::new(), has_room: true };
        let name = &question.name;
        match question.qtype {
            qtype if answer.open_alias.is_some() => {
                let target = answer.open_alias.clone().unwrap_or_else(DomainName::root);
                // Whoever follows the alias asks a resolver.
                let followed = Question { recursion_desired: true, ..question.about(target, qtype) };
                res.steps.push(Step { question: followed, chain: answer.chain.clone() });
            }
            rtype::A => res.ask(name, rtype::AAAA, &[]),
            rtype::AAAA => res.ask(name, rtype::A, &[]),
            _ => {
                res.ask(name, rtype::A, &[]);
                res.ask(name, rtype::AAAA, &[]);
                res.follow(&answer.targets);
            }
        }
        res
    }

    fn ask(&mut self, name: &DomainName, qtype: u16, chain: &[DomainName]) {
        self.steps.push(Step { question: self.question.about(name.clone(), qtype), chain: chain.to_vec() });
    }

    /// Goes on to service targets; an alias is asked for the service itself, too (RFC 9460 section 3).
    fn follow(&mut self, targets: &[(DomainName, bool)]) {
        for (target, is_alias) in targets {
            if self.targets.contains(target) {
                continue;
            }
            if self.targets.len() == TARGETS_MAX {
                self.has_room = false;
                return;
            }
            self.targets.push(target.clone());
            let chain = [target.clone()];
            self.ask(target, rtype::A, &chain);
            self.ask(target, rtype::AAAA, &chain);
            if *is_alias {
                self.ask(target, self.question.qtype, &chain);
            }
        }
    }
}

impl Gate {
    /// Looks up the companions of `answer`. An error means that the answer must not be passed on without them.
    pub(super) async fn companions(
        &self,
        question: &Question,
        answer: &Answer,
        deadline: Instant,
    ) -> Result<Arc<Companions>, FindError> {
        let mut walk = Walk::new(question, answer);
        let mut res = Companions::none();
        while let Some(step) = walk.steps.pop() {
            match self.find(&step.question, deadline).await {
                Ok((found, _)) if is_telling(&found.answer) => {
                    res.add(&found, step.chain);
                    if matches!(step.question.qtype, rtype::HTTPS | rtype::SVCB) {
                        walk.follow(&found.answer.targets);
                    }
                }
                // Nobody here can know where an alias out of the zones leads.
                Err(FindError::Upstream(UpstreamError::NoUpstream)) if answer.open_alias.is_some() => {}
                Ok(_) | Err(_) => res.are_complete = false,
            }
        }
        res.are_complete &= walk.has_room;
        if res.are_complete || self.may_do_without(question, answer) {
            return Ok(Arc::new(res));
        }
        Err(FindError::Upstream(UpstreamError::Unreachable))
    }

    /// Addresses in the answer are all its client gets, and they are judged; the other family is judged when it is asked
    /// for. A name that may lead anywhere loses `ech` at most.
    fn may_do_without(&self, question: &Question, answer: &Answer) -> bool {
        let is_address = matches!(question.qtype, rtype::A | rtype::AAAA) && answer.open_alias.is_none();
        is_address || may_lead_anywhere(&self.view.load(), question.name.as_ref(), self.view.now())
    }
}

/// True for an answer that says where a name leads, or that it does not exist.
fn is_telling(answer: &Answer) -> bool {
    matches!(answer.rcode(), rcode::NOERROR | rcode::NXDOMAIN) && answer.flags & flag::TC == 0
}
