//! From an answer to what the client may see of it: the DNS plane's one place where verdicts are asked for and acted on.
//!
//! A function of its arguments. The query name is judged (D-D1), with every address its answer or its companions lead
//! to; nothing is remembered about the names in between.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::answer::Answer;
use super::edns::ExtendedError;
use super::question::Question;
use super::rewrite::{self, Finished, Keep};
use super::settings::{JudgeFamilies, Settings};
use super::wire::{Record, Section, WireError, read_name, rtype};
use crate::model::{Day, DomainName, Hop, Host, NameRef, Subject, Via};
use crate::policy::judge::needs_filing;
use crate::policy::{MixedAnswer, Rules, Stance, Verdict, View};

/// Addresses beside the answer's own that a verdict looks at.
#[derive(Clone, Debug, Default)]
pub struct Companions {
    /// Addresses of the other family, of the owner, of service targets.
    pub addresses: Vec<IpAddr>,
    /// Names on the way to them.
    pub chain: Vec<DomainName>,
}

/// What a judgement rested on; anything else asks for another one.
#[derive(Clone)]
pub struct Basis {
    generations: (u64, u64),
    rules: Arc<Rules>,
    stance: Stance,
    /// Provisional access ends at midnight.
    day: Day,
}

impl Basis {
    /// The basis that holds now.
    pub fn of(view: &View, now: SystemTime) -> Self {
        Self { generations: view.generations(), rules: view.rules.clone(), stance: view.stance(), day: Day::at(now) }
    }

    /// True when a judgement on `self` still holds on `other`.
    pub fn is(&self, other: &Self) -> bool {
        self.generations == other.generations
            && Arc::ptr_eq(&self.rules, &other.rules)
            && self.stance == other.stance
            && self.day == other.day
    }
}

/// A judged answer.
pub struct Judged {
    /// What the client gets; `None` means silence.
    pub finished: Option<Finished>,
    /// Extended errors for clients with OPT.
    pub errors: Vec<ExtendedError>,
    /// The verdict, where one was needed.
    pub verdict: Option<Verdict>,
    /// False when the verdict changed nothing on the wire (observe mode).
    pub enforced: bool,
    /// What it rested on.
    pub basis: Basis,
}

/// True for types whose answers lead to addresses (rule AMB-15); all others pass.
pub fn leads_to_addresses(qtype: u16) -> bool {
    matches!(qtype, rtype::A | rtype::AAAA | rtype::HTTPS | rtype::SVCB | rtype::ANY)
}

/// The questions whose answers belong to the judgement of `answer`; empty when it stands alone.
///
/// HTTPS and SVCB lead to the addresses of their owner and targets (D-D5, D-D6); an A answer without a mainland address
/// may have a mainland AAAA beside it (D-D11), which matters only for names that may not lead to the mainland.
pub fn companions_needed(
    settings: &Settings,
    view: &View,
    now: SystemTime,
    question: &Question,
    answer: &Answer,
) -> Vec<Question> {
    let name = &question.name;
    // Even a name that passes anywhere must not keep `ech` before a mainland server (D-D8).
    let passes = || !answer.has_ech && may_lead_anywhere(view, name.as_ref(), now);
    if view.stance() == Stance::Off || !leads_to_addresses(question.qtype) || passes() {
        return Vec::new();
    }
    let both = |name: &DomainName| [question.about(name.clone(), rtype::A), question.about(name.clone(), rtype::AAAA)];
    match question.qtype {
        rtype::A | rtype::AAAA if settings.judge_families == JudgeFamilies::Asked || answer.addresses.is_empty() => {
            Vec::new()
        }
        rtype::A => vec![question.about(name.clone(), rtype::AAAA)],
        rtype::AAAA => vec![question.about(name.clone(), rtype::A)],
        rtype::HTTPS | rtype::SVCB if answer.records.iter().any(|record| record.rtype == question.qtype) => {
            /// Targets looked up of one answer; a record set has one or two.
            const TARGETS_MAX: usize = 8;
            std::iter::once(name).chain(answer.targets.iter().take(TARGETS_MAX)).flat_map(both).collect()
        }
        _ => Vec::new(),
    }
}

/// True when `name` passes even before our own mainland servers: then no address can turn the verdict.
fn may_lead_anywhere(view: &View, name: NameRef<'_>, now: SystemTime) -> bool {
    let subject = Subject { host: Host::Name(name), hop: Hop::InLine, via: Via::Dns };
    !view.judge(&subject, now).blocks()
}

/// Judges an answer and makes what the client gets of it.
pub fn conclude(
    settings: &Settings,
    view: &View,
    now: SystemTime,
    question: &Question,
    answer: &Answer,
    companions: &Companions,
) -> Result<Judged, WireError> {
    let basis = Basis::of(view, now);
    let verdict = judge(view, now, question, answer, companions);
    let stance = view.stance();
    let blocks = verdict.as_ref().is_some_and(Verdict::blocks);
    let done = |finished, errors, enforced| Judged { finished, errors, verdict, enforced, basis: basis.clone() };
    if stance != Stance::Enforce {
        let keep = Keep { address: &|_, _| true, ech: true, dnssec: stance == Stance::Off || question.dnssec_ok };
        let finished = rewrite::pass(answer, question, &keep, u32::MAX)?;
        return Ok(done(Some(finished), answer.errors.clone(), false));
    }
    if let Some(verdict) = verdict.filter(|_| blocks) {
        let text = explain(&verdict, question.name.as_ref());
        let errors = vec![ExtendedError::new(settings.block.ede_code, text)];
        let stripped = strip(view, now, question, answer, &verdict)?;
        let finished = match stripped {
            Some(finished) => Some(finished),
            None => rewrite::block(question, &settings.block, answer.flags),
        };
        return Ok(done(finished, errors, true));
    }
    let all = answer.addresses.iter().chain(&companions.addresses);
    let is_mainland = all.copied().any(|addr| needs_filing(&view.ranges, addr));
    let ttl_max =
        if is_mainland { u32::try_from(settings.mainland_ttl_max.as_secs()).unwrap_or(u32::MAX) } else { u32::MAX };
    // The answer to a question for addresses was judged as a whole, by the query name; any other address by its owner.
    let was_judged = |record: &Record| record.section == Section::Answer && leads_to_addresses(question.qtype);
    let keep = Keep {
        address: &|record, addr| was_judged(record) || may_stay(view, now, answer, record, addr),
        ech: !is_mainland,
        dnssec: question.dnssec_ok,
    };
    let finished = rewrite::pass(answer, question, &keep, ttl_max)?;
    Ok(done(Some(finished), answer.errors.clone(), true))
}

fn judge(
    view: &View,
    now: SystemTime,
    question: &Question,
    answer: &Answer,
    companions: &Companions,
) -> Option<Verdict> {
    if view.stance() == Stance::Off || !leads_to_addresses(question.qtype) {
        return None;
    }
    let addresses: Vec<IpAddr> = answer.addresses.iter().chain(&companions.addresses).copied().collect();
    if addresses.is_empty() {
        return None;
    }
    let chain: Vec<DomainName> = answer.chain.iter().chain(&companions.chain).cloned().collect();
    let hop = Hop::Resolved { addresses: &addresses, chain: &chain };
    let subject = Subject { host: Host::Name(question.name.as_ref()), hop, via: Via::Dns };
    Some(view.judge(&subject, now))
}

/// The answer without its mainland addresses, where the policy says so and something is left (rule AMB-16).
fn strip(
    view: &View,
    now: SystemTime,
    question: &Question,
    answer: &Answer,
    verdict: &Verdict,
) -> Result<Option<Finished>, WireError> {
    let is_address_type = matches!(question.qtype, rtype::A | rtype::AAAA);
    if view.rules.mixed_answer != MixedAnswer::Strip || !verdict.mixed || !is_address_type {
        return Ok(None);
    }
    if answer.addresses.iter().all(|&addr| needs_filing(&view.ranges, addr)) {
        return Ok(None);
    }
    let keep = Keep {
        address: &|record, addr| match record.section {
            Section::Answer => !needs_filing(&view.ranges, addr),
            Section::Additional | Section::Authority => may_stay(view, now, answer, record, addr),
        },
        ech: false,
        dnssec: question.dnssec_ok,
    };
    rewrite::pass(answer, question, &keep, u32::MAX).map(Some)
}

/// Whether an address beside the answer may stay: by the verdict of its own owner (D-D14).
fn may_stay(view: &View, now: SystemTime, answer: &Answer, record: &Record, addr: IpAddr) -> bool {
    let Ok((owner, _)) = read_name(&answer.message, record.owner_at) else { return false };
    let hop = Hop::Resolved { addresses: &[addr], chain: &[] };
    let subject = Subject { host: Host::Name(owner.as_ref()), hop, via: Via::Dns };
    !view.judge(&subject, now).blocks()
}

/// The extended error's text: reason, registrable domain, decision id.
fn explain(verdict: &Verdict, name: NameRef<'_>) -> String {
    let domain = verdict.registrable(name).unwrap_or(name);
    format!("{}; domain={domain}; id={}", verdict.reason, verdict.id(name))
}
