//! From an answer to what the client may see of it: the DNS plane's one place where verdicts are asked for and acted on.
//!
//! A function of its arguments. The query name is judged (D-D1), with every address its answer or its companions lead
//! to; nothing is remembered about the names in between.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::answer::Answer;
use super::companions::Companions;
use super::edns::ExtendedError;
use super::question::Question;
use super::rewrite::{self, Finished, Keep};
use super::settings::{JudgeFamilies, Settings};
use super::wire::{Record, Section, WireError, read_name, rtype};
use crate::model::{Day, DomainName, Hop, Host, NameRef, Subject, Via};
use crate::policy::judge::needs_filing;
use crate::policy::shadow::differs;
use crate::policy::{Action, ExpiredPolicy, MixedAnswer, Reason, Rules, Stance, Verdict, View};

/// What a judgement rested on; anything else asks for another one.
#[derive(Clone)]
pub struct Basis {
    generations: (u64, u64),
    /// Of the shadow's own data.
    shadow: (u64, u64),
    rules: Arc<Rules>,
    stance: Stance,
    /// Provisional access ends at midnight.
    day: Day,
}

impl Basis {
    /// The basis that holds now.
    pub fn of(view: &View, now: SystemTime) -> Self {
        let shadow = view.shadow.as_ref().map_or((0, 0), |shadow| shadow.generations());
        let (generations, rules) = (view.generations(), view.rules.clone());
        Self { generations, shadow, rules, stance: view.stance(), day: Day::at(now) }
    }

    /// True when a judgement on `self` still holds on `other`.
    pub fn is(&self, other: &Self) -> bool {
        self.generations == other.generations
            && self.shadow == other.shadow
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
    /// The shadow's verdict, where there is a shadow.
    pub shadow: Option<Verdict>,
    /// True once it was told.
    pub is_shadow_told: AtomicBool,
    /// False when the verdict changed nothing on the wire (observe mode).
    pub enforced: bool,
    /// What it rested on.
    pub basis: Basis,
    /// When its companions end; `None` where it rests on none.
    pub valid_until: Option<Instant>,
}

impl Judged {
    /// The shadow's verdict where it is another one, and true when that is told for the first time; both are counted then.
    pub fn beside(&self, view: &View) -> (Option<Verdict>, bool) {
        let (Some(live), Some(shadow)) = (&self.verdict, &self.shadow) else { return (None, false) };
        if self.is_shadow_told.swap(true, Ordering::Relaxed) {
            return (differs(live, shadow).then_some(*shadow), false);
        }
        let other = view.count_beside(Via::Dns, live, shadow);
        (other, other.is_some())
    }

    /// True when it still holds on `basis`.
    pub fn holds_on(&self, basis: &Basis) -> bool {
        self.basis.is(basis) && self.valid_until.is_none_or(|end| Instant::now() < end)
    }
}

/// True for types whose answers lead to addresses (rule AMB-15); all others pass.
pub fn leads_to_addresses(qtype: u16) -> bool {
    matches!(qtype, rtype::A | rtype::AAAA | rtype::HTTPS | rtype::SVCB | rtype::ANY)
}

/// True when the judgement of `answer` must know more than the answer.
///
/// HTTPS and SVCB lead to the addresses of their owner and targets (D-D5, D-D6); an A answer without a mainland address
/// may have a mainland AAAA beside it (D-D11), and an alias that the client follows by itself leads somewhere (D-D1). All of
/// this matters only for names that may not lead to the mainland.
pub fn companions_needed(
    settings: &Settings,
    view: &View,
    now: SystemTime,
    question: &Question,
    answer: &Answer,
) -> bool {
    let is_judged = !matches!(view.stance(), Stance::Off | Stance::NotReady);
    let leads_on = match question.qtype {
        rtype::A | rtype::AAAA => {
            answer.open_alias.is_some()
                || (settings.judge_families == JudgeFamilies::Both && !answer.addresses.is_empty())
        }
        rtype::HTTPS | rtype::SVCB => answer.open_alias.is_some() || answer.has_records(question.qtype),
        _ => false,
    };
    // Even a name that passes anywhere must not keep `ech` before a mainland server (D-D8).
    is_judged && leads_on && (answer.has_ech || !may_lead_anywhere(view, question.name.as_ref(), now))
}

/// True when `name` passes even before our own mainland servers: then no address can turn the verdict.
pub(super) fn may_lead_anywhere(view: &View, name: NameRef<'_>, now: SystemTime) -> bool {
    let subject = Subject { host: Host::Name(name), hop: Hop::InLine, via: Via::Dns };
    let verdict = view.judge(&subject, now);
    !verdict.blocks() && !verdict.filing.is_some_and(|id| view.registry.binds(id))
}

/// Judges an answer and makes what the client gets of it; `companions` where [`companions_needed`] says so.
pub fn conclude(
    settings: &Settings,
    view: &View,
    now: SystemTime,
    question: &Question,
    answer: &Answer,
    companions: Option<&Companions>,
) -> Result<Judged, WireError> {
    let verdict = judge(view, now, question, answer, companions);
    let beside = verdict.as_ref().and_then(|_| view.shadowed());
    let shadow = beside.and_then(|other| judge(&other, now, question, answer, companions));
    let change_in = time_to_change(view, now, question, verdict.as_ref());
    // Near its change a verdict is reached anew each second, so that the TTL counts down to it.
    let ceiling = settings.mainland_ttl_max;
    let schedule = change_in.map(|left| Instant::now() + left.saturating_sub(ceiling).max(Duration::from_secs(1)));
    let carried_out = verdict.as_ref().is_none_or(|verdict| verdict.enforceable || verdict.action == Action::Allow);
    let done = |finished, errors, enforced: bool| Judged {
        finished,
        errors,
        verdict,
        shadow,
        is_shadow_told: AtomicBool::new(false),
        enforced: enforced && carried_out,
        basis: Basis::of(view, now),
        valid_until: companions.map(|companions| companions.valid_until).into_iter().chain(schedule).min(),
    };
    let stance = view.stance();
    match stance {
        Stance::Enforce => {}
        Stance::Observe | Stance::Off => {
            let keep = Keep { address: &|_, _| true, ech: true, dnssec: stance == Stance::Off || question.dnssec_ok };
            let finished = rewrite::pass(answer, question, &keep, u32::MAX)?;
            // With policy off the gate is transparent.
            let errors = if stance == Stance::Off { answer.errors.clone() } else { passed(settings, answer) };
            return Ok(done(Some(finished), errors, false));
        }
        // Nothing that would need a verdict passes.
        Stance::NotReady => {
            let keep = Keep { address: &|_, _| false, ech: false, dnssec: question.dnssec_ok };
            let finished = rewrite::pass(answer, question, &keep, u32::MAX)?;
            return Ok(done(Some(finished), passed(settings, answer), false));
        }
    }
    if let Some(verdict) = verdict.filter(Verdict::blocks) {
        let text = explain(&verdict, question.name.as_ref());
        let errors = vec![ExtendedError::new(settings.block.ede_code, text)];
        let finished = match strip(view, now, question, answer, &verdict)? {
            Some(finished) => Some(finished),
            None => rewrite::block(question, &settings.block, answer.flags),
        };
        return Ok(done(finished, errors, true));
    }
    // Services in an answer to ANY are not followed, so they stay only where they could do no harm (D-D13).
    let is_any = question.qtype == rtype::ANY;
    if is_any && answer.has_services && !may_lead_anywhere(view, question.name.as_ref(), now) {
        return Ok(done(
            Some(rewrite::minimal(question, &settings.block, answer.flags)),
            passed(settings, answer),
            true,
        ));
    }
    let mut finished = pass(settings, view, now, question, answer, companions, verdict.as_ref())?;
    if let Some(left) = change_in {
        finished.ttl_max = finished.ttl_max.min(u32::try_from(left.as_secs()).unwrap_or(u32::MAX));
    }
    Ok(done(Some(finished), passed(settings, answer), true))
}

/// The source's extended errors that may be told on (`dns.ede-pass`), each once and without its text: what a stranger writes is
/// not for clients to read as ours.
fn passed(settings: &Settings, answer: &Answer) -> Vec<ExtendedError> {
    let mut res: Vec<ExtendedError> = Vec::new();
    for error in answer.errors.iter().filter(|error| settings.ede_pass.contains(&error.code)) {
        if res.iter().all(|known| known.code != error.code) {
            res.push(ExtendedError::new(error.code, ""));
        }
    }
    res
}

/// How long until the verdict on the name changes by itself; an answer must not be kept for longer.
fn time_to_change(view: &View, now: SystemTime, question: &Question, verdict: Option<&Verdict>) -> Option<Duration> {
    let domain = verdict?.registrable(question.name.as_ref())?;
    let ended_counts = view.rules.expired == ExpiredPolicy::Block;
    view.registry.next_change(domain, now, ended_counts)?.duration_since(now).ok()
}

/// An answer that passes, its TTL capped and `ech` taken out where it leads to the mainland.
fn pass(
    settings: &Settings,
    view: &View,
    now: SystemTime,
    question: &Question,
    answer: &Answer,
    companions: Option<&Companions>,
    verdict: Option<&Verdict>,
) -> Result<Finished, WireError> {
    let paths = companions.map_or(&[][..], |companions| &companions.paths);
    let mut all = answer.addresses.iter().chain(paths.iter().flat_map(|path| &path.addresses));
    let is_mainland = all.any(|&addr| needs_filing(&view.ranges, addr))
        || verdict.is_some_and(|verdict| verdict.reason != Reason::NotMainland)
        || companions.is_some_and(|companions| !companions.are_complete);
    let ttl_max = if is_mainland || answer.has_services { settings.mainland_ttl_max.as_secs() } else { u64::MAX };
    // The answer to a question for addresses was judged as a whole, by the query name; any other address by its owner.
    let was_judged = |record: &Record| record.section == Section::Answer && leads_to_addresses(question.qtype);
    let keep = Keep {
        address: &|record, addr| was_judged(record) || may_stay(view, now, answer, record, addr),
        ech: !is_mainland && question.qtype != rtype::ANY,
        dnssec: question.dnssec_ok,
    };
    rewrite::pass(answer, question, &keep, u32::try_from(ttl_max).unwrap_or(u32::MAX))
}

/// The verdict on all ways the answer opens: each is judged for itself, the strictest counts.
fn judge(
    view: &View,
    now: SystemTime,
    question: &Question,
    answer: &Answer,
    companions: Option<&Companions>,
) -> Option<Verdict> {
    if view.stance() == Stance::Off || !leads_to_addresses(question.qtype) {
        return None;
    }
    let one = |addresses: &[IpAddr], chain: &[DomainName]| {
        let hop = Hop::Resolved { addresses, chain };
        let subject = Subject { host: Host::Name(question.name.as_ref()), hop, via: Via::Dns };
        (!addresses.is_empty()).then(|| view.judge(&subject, now))
    };
    let own = one(&answer.addresses, &answer.chain);
    let paths = companions.map_or(&[][..], |companions| &companions.paths);
    let others = paths.iter().filter_map(|path| one(&path.addresses, &path.chain));
    let worst = own.into_iter().chain(others).max_by_key(Verdict::precedence)?;
    // What the answer itself holds may stay where only another way is the mainland's.
    let mixed = own.map_or(worst.mixed, |own| own.mixed || (worst.blocks() && !own.blocks()));
    Some(Verdict { mixed, ..worst })
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
pub(super) fn explain(verdict: &Verdict, name: NameRef<'_>) -> String {
    let domain = verdict.registrable(name).unwrap_or(name);
    format!("{}; domain={domain}; id={}", verdict.reason, verdict.id(name))
}
