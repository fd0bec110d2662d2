//! The facts of a decision, and the decision procedure (rules A.8) with what each of its lines found.
//!
//! Status and need for access are read off judgements of hypothetical subjects, so that no rule stands here twice.

use std::net::IpAddr;
use std::time::SystemTime;

use serde::Serialize;

use super::super::ranges::describe;
use super::what_if::{elsewhere, with_row};
use super::{Brief, OwnedHost, Question};
use crate::model::{self, DomainName, Hop, NameRef, Subject, Via};
use crate::policy::{Reason, Rule, Verdict, View};

/// Where one address stands, and what it alone would lead to.
#[derive(Serialize)]
pub struct Place {
    /// The address as given.
    pub address: IpAddr,
    /// What the ranges say of it or of an address inside it.
    pub found: String,
    /// The verdict if it were the only address.
    pub alone: Brief,
}

/// One line of the procedure.
#[derive(Serialize)]
pub struct Step {
    /// The question.
    pub question: &'static str,
    /// What was found.
    pub found: String,
}

/// A public suffix and why it is one.
pub fn suffix(view: &View, suffix: NameRef<'_>) -> String {
    if view.registry.suffixes().lists_top_level(suffix) {
        format!("{} (public suffix list, ICANN section)", suffix.to_unicode())
    } else {
        format!("{} (not on the public suffix list: every top-level name is a suffix)", suffix.to_unicode())
    }
}

/// Every address of the question.
pub fn places(view: &View, question: &Question, now: SystemTime) -> Vec<Place> {
    let place = |&addr: &IpAddr| {
        let alone = [addr];
        let hop = Hop::Resolved { addresses: &alone, chain: &question.chain };
        let verdict = view.judge(&Subject { hop, ..question.subject() }, now);
        Place { address: addr, found: found(view, addr), alone: Brief::from(&verdict) }
    };
    question.addresses.iter().map(place).collect()
}

fn found(view: &View, addr: IpAddr) -> String {
    let mut res = Vec::new();
    res.extend(view.ranges.lookup(addr).map(|found| describe(&view.ranges, &found)));
    if let IpAddr::V6(v6) = addr {
        for inner in model::unwrap(v6, view.ranges.nat64()).iter() {
            let inner_found = view.ranges.lookup(IpAddr::V4(inner));
            let text = inner_found.map_or_else(|| "in no range".to_owned(), |found| describe(&view.ranges, &found));
            res.push(format!("carries {inner}: {text}"));
        }
    }
    if res.is_empty() { "in no range: counts as outside the mainland".to_owned() } else { res.join("; ") }
}

/// The procedure up to the line that decided.
pub fn steps(view: &View, provider: &str, question: &Question, verdict: &Verdict, now: SystemTime) -> Vec<Step> {
    let mut res = Vec::new();
    let mut step = |question: &'static str, found: String| res.push(Step { question, found });
    let name = match &question.host {
        OwnedHost::Invalid => {
            step("is the host a name?", "no, and no address either".to_owned());
            return res;
        }
        OwnedHost::Address(addr) => {
            step("is the host a name?", format!("no, the address {addr} (rule N4)"));
            step("policy.ip-site", format!("{:?}", view.rules.ip_site).to_lowercase());
            return res;
        }
        OwnedHost::Name(name) => name,
    };
    step("is the host a name?", "yes".to_owned());
    let exempt = view.rules.exempt.iter().find(|entry| name.as_ref().is_at_or_below(entry.suffix.as_ref()));
    if let Some(entry) = exempt {
        step("is it exempt (policy.exempt)?", format!("yes, {}: {}", entry.suffix, entry.why));
        return res;
    }
    step("is it exempt (policy.exempt)?", "no".to_owned());
    let (is_mainland, text) = location(view, question, verdict);
    step("does it lead to a mainland server?", text);
    if !is_mainland {
        return res;
    }
    let is_non_web = verdict.reason == Reason::NonWeb;
    step("is it marked as no web service?", if is_non_web { "yes" } else { "no" }.to_owned());
    if is_non_web {
        return res;
    }
    let is_ours = question.is_in_line || verdict.range.is_none_or(|found| found.is_ours);
    step("is the server ours?", ours(view, is_ours));
    if verdict.reason == Reason::NotOurs {
        return res;
    }
    step("what does its product ask for?", needs(view, provider, question, name, now));
    step("what is filed?", filed(view, name, verdict, now));
    res
}

fn location(view: &View, question: &Question, verdict: &Verdict) -> (bool, String) {
    if question.is_in_line {
        return (true, "yes, the gate stands before one".to_owned());
    }
    if let Some((target, found)) =
        question.chain.iter().find_map(|target| Some((target, view.ranges.cname(target.as_ref())?)))
    {
        let needs = found.region.needs_filing();
        let word = if needs { "yes" } else { "no" };
        let text = format!(
            "{word}, {target} is of {} with region {}, which decides (rule AMB-8)",
            found.product, found.region
        );
        return (needs, text);
    }
    if verdict.reason == Reason::NotMainland {
        return (false, "no".to_owned());
    }
    let which = verdict.address.map_or_else(String::new, |addr| format!(", {addr}"));
    let mixed = if verdict.mixed { "; other addresses are not (rule AMB-16, policy.mixed-answer)" } else { "" };
    (true, format!("yes{which}{mixed}"))
}

fn ours(view: &View, is_ours: bool) -> String {
    if is_ours {
        return "yes".to_owned();
    }
    let setting = format!("{:?}", view.rules.foreign_mainland);
    format!("no: a filing anywhere is asked for (rule AMB-18, policy.foreign-mainland {setting})")
}

/// Judges the name with a filing at another provider: only a need for access would still block it.
fn needs(view: &View, provider: &str, question: &Question, name: &DomainName, now: SystemTime) -> String {
    let Some(domain) = view.registry.suffixes().registrable(name.as_ref()) else { return "a filing".to_owned() };
    let hypothetical = with_row(view, provider, Some(elsewhere(domain)));
    match hypothetical.judge(&question.subject(), now).reason {
        Reason::NotAccessed => "a filing and access here (接入)".to_owned(),
        _ => "a filing, at whatever provider".to_owned(),
    }
}

/// Judges the name on a server of ours without a product: what blocks it there is its filing alone.
fn filed(view: &View, name: &DomainName, verdict: &Verdict, now: SystemTime) -> String {
    let Some(domain) = view.registry.suffixes().registrable(name.as_ref()) else {
        return "nothing: a public suffix cannot be filed".to_owned();
    };
    let subject = Subject { host: model::Host::Name(name.as_ref()), hop: Hop::InLine, via: Via::Http };
    let plain = view.judge(&subject, now);
    let status = match (plain.reason, plain.rule) {
        (Reason::Filed, Rule::Amb12) => "FILED_HERE, provisionally",
        (Reason::Filed, _) => "FILED_HERE",
        (Reason::NotAccessed, Rule::Amb17) => "SHELL",
        (Reason::NotAccessed, _) => "FILED_ELSEWHERE",
        (Reason::Restricted, _) => "RESTRICTED",
        _ => "UNFILED",
    };
    match verdict.filing.map(|id| view.registry.filing(id)) {
        Some(row) => format!("{status}: {domain} at {}:{}", row.file, row.line),
        None => format!("{status}: no row for {domain}"),
    }
}
