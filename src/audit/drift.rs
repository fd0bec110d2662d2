//! What observations come to, held against the registry: the findings of an audit.
//!
//! A name is judged as the gate judges an answer that leads where it was seen to lead. The kinds beside a block are those
//! that authorities and providers look for (rule book B.6, seed §2.4): rows whose site is elsewhere or gone, numbers that
//! nobody gives access to, sites that opened before their filing was approved.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::SystemTime;

use serde::Serialize;

use super::kind::Kind;
use super::state::{Observation, Outcome, State};
use super::targets::{Source, Sources, Targets};
use crate::model::{Day, DomainName, Hop, Host, Status, Subject, Via};
use crate::policy::{Reason, Verdict, View};

/// One finding: what is wrong with one name.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// The target.
    pub name: String,
    /// The host that showed it, the name itself or `www.` before it.
    pub host: String,
    /// The registrable domain.
    pub domain: Option<String>,
    /// The judge's reason for what the host leads to.
    pub reason: Option<&'static str>,
    /// Where the host leads.
    pub addresses: Vec<IpAddr>,
    /// By which aliases.
    pub chain: Vec<String>,
    /// True where that is ours.
    pub is_here: bool,
    /// When it was seen, seconds since 1970 (UTC); `None` where nothing had to be.
    pub seen_at: Option<u64>,
    /// 备案号.
    pub site_no: Option<String>,
    /// Providers with access.
    pub access: Vec<String>,
    /// State of the row.
    pub status: Option<&'static str>,
    /// File and line of the row.
    pub place: Option<String>,
    /// Where the name was met.
    pub sources: Vec<&'static str>,
}

/// The label that is asked for in place of a wildcard's: no site has it, so that what answers is the wildcard.
const IN_PLACE_OF_STAR: &[u8] = b"icpgate-audit";

/// The hosts that are asked for a target: of a row's domain the site's usual two, of a wildcard one that it makes up.
pub fn hosts_of(name: &DomainName, sources: Sources) -> Vec<DomainName> {
    let mut res = Vec::with_capacity(2);
    let mut labels = name.as_ref().labels();
    if labels.next() == Some(b"*") {
        // Where the longer label has no room the wildcard's names are hardly in use.
        res.extend(DomainName::from_labels(std::iter::once(IN_PLACE_OF_STAR).chain(labels)).ok());
    } else {
        res.push(name.clone());
    }
    if sources.holds(Source::Registry) {
        let labels = std::iter::once(&b"www"[..]).chain(name.as_ref().labels());
        // One octet from the longest there is no room for it.
        res.extend(DomainName::from_labels(labels).ok());
    }
    res
}

/// Everything there is to say, in the order of targets and the gravest first.
///
/// What was observed before `since`, seconds since 1970, does not show a domain in use.
pub fn findings(targets: &Targets, state: &State, view: &View, now: SystemTime, since: u64) -> Vec<Finding> {
    let mut res = Vec::new();
    let in_use = domains_in_use(targets, state, view, since);
    for (name, sources) in targets.iter() {
        let hosts = hosts_of(&name, sources);
        let seen: Vec<(&DomainName, &Observation)> =
            hosts.iter().filter_map(|host| Some((host, state.get(&host.to_string())?))).collect();
        let is_in_use = in_use.contains(&name);
        Looking { view, now, name: &name, sources, seen: &seen, is_in_use }.findings(&mut res);
    }
    res.sort_by_key(|finding| finding.kind);
    res
}

/// The rows' domains below which any host that was seen leads to our mainland servers, in this run or not long before:
/// a site may be at `shop.` and not at `www.`.
fn domains_in_use(targets: &Targets, state: &State, view: &View, since: u64) -> HashSet<DomainName> {
    let mut res = HashSet::new();
    for seen in state.iter().filter(|seen| seen.at >= since && is_here_on_mainland(view, seen)) {
        let Ok(host) = DomainName::from_host(&seen.name) else { continue };
        res.extend(view.registry.suffixes().registrable(host.as_ref()).map(|domain| domain.to_name()));
    }
    // A domain that is no target needs no answer.
    res.retain(|domain| targets.holds(domain, Source::Registry));
    res
}

/// True where a host leads to a mainland address or product of ours: what a site that is filed here is to do (rule book
/// B.6), and what a filing is asked of us for (rule N1).
fn is_here_on_mainland(view: &View, seen: &Observation) -> bool {
    let is_ours =
        |addr: &IpAddr| view.ranges.lookup(*addr).is_some_and(|found| found.is_ours && found.region.needs_filing());
    let is_product = |to: &DomainName| view.ranges.cname(to.as_ref()).is_some_and(|found| found.region.needs_filing());
    seen.addresses.iter().any(is_ours) || chain_of(seen).iter().any(is_product)
}

/// One target with what was seen of it.
struct Looking<'a> {
    view: &'a View,
    now: SystemTime,
    name: &'a DomainName,
    sources: Sources,
    seen: &'a [(&'a DomainName, &'a Observation)],
    /// True where some host at or below the name leads to our mainland servers.
    is_in_use: bool,
}

impl Looking<'_> {
    fn findings(&self, out: &mut Vec<Finding>) {
        let before = out.len();
        let blocks = self.seen.iter().filter_map(|&(host, seen)| Some((self.block_of(host, seen)?, (host, seen))));
        // One host is enough to act on, the gravest.
        let block = blocks.min_by_key(|(kind, _)| *kind);
        out.extend(block.map(|(kind, seen)| self.finding(kind, Some(seen))));
        // What is blocked on another provider's network is none of ours.
        let is_blocked = block.is_some_and(|(kind, _)| kind.counts());
        if self.sources.holds(Source::Certificate) && !is_blocked && self.is_unfiled() {
            out.push(self.finding(Kind::OnCertificate, self.seen.first().copied()));
        }
        if self.sources.holds(Source::Registry) {
            self.row(is_blocked, out);
        }
        let failed = self.seen.iter().find(|(_, seen)| seen.outcome == Outcome::Failed);
        if let Some(failed) = failed.filter(|_| out.len() == before) {
            out.push(self.finding(Kind::Unknown, Some(*failed)));
        }
    }

    /// The kind of block that a host meets where it leads.
    fn block_of(&self, host: &DomainName, seen: &Observation) -> Option<Kind> {
        let verdict = self.verdict(host, seen)?;
        let status = verdict.filing.map(|id| self.view.registry.facts(id).status);
        verdict.blocks().then_some(match (verdict.reason, status) {
            (Reason::NotFiled, Some(Status::Pending)) => Kind::PendingOpen,
            (Reason::NotFiled, _) if is_here_on_mainland(self.view, seen) => Kind::NeverFiled,
            (Reason::NotFiled, _) => Kind::NeverFiledOther,
            (Reason::NotAccessed, _) => Kind::FiledElsewhere,
            _ => Kind::Blocked,
        })
    }

    /// The judge's word on where a host leads; `None` where it leads nowhere.
    fn verdict(&self, host: &DomainName, seen: &Observation) -> Option<Verdict> {
        let chain = chain_of(seen);
        let hop = Hop::Resolved { addresses: &seen.addresses, chain: &chain };
        let subject = Subject { host: Host::Name(host.as_ref()), hop, via: Via::Dns };
        (seen.outcome == Outcome::Found).then(|| self.view.judge(&subject, self.now))
    }

    /// True for a name that a gate in line would not let through for want of a filing.
    fn is_unfiled(&self) -> bool {
        let subject = Subject { host: Host::Name(self.name.as_ref()), hop: Hop::InLine, via: Via::Http };
        let verdict = self.view.judge(&subject, self.now);
        verdict.blocks() && matches!(verdict.reason, Reason::NotFiled | Reason::NotAccessed)
    }

    /// What the row itself shows, beside a block.
    fn row(&self, is_blocked: bool, out: &mut Vec<Finding>) {
        let registry = &self.view.registry;
        let Some(facts) = registry.find(self.name.as_ref()).map(|id| registry.facts(id)) else { return };
        let first = self.seen.first().copied();
        let here = self.seen.iter().find(|(_, seen)| self.is_here(seen)).copied();
        if facts.expires_on.is_some_and(|end| end < Day::at(self.now)) && facts.status == Status::Active {
            out.push(self.finding(Kind::Expired, here.or(first)));
        }
        if facts.status != Status::Active {
            return;
        }
        if facts.access_is_empty && !is_blocked {
            out.push(self.finding(Kind::Shell, here.or(first)));
        }
        if !facts.accessed_here || self.is_in_use || self.seen.is_empty() {
            return;
        }
        let away = self.seen.iter().find(|(_, seen)| seen.outcome == Outcome::Found).copied();
        let is_sure = self.seen.iter().all(|(_, seen)| seen.outcome != Outcome::Failed && !seen.is_partial);
        match away {
            // The other host may still lead here.
            _ if !is_sure => {}
            Some(away) => out.push(self.finding(Kind::ShellAway, Some(away))),
            None => out.push(self.finding(Kind::ShellDead, first)),
        }
    }

    /// True where a host leads to an address or product of ours.
    fn is_here(&self, seen: &Observation) -> bool {
        let ranges = &self.view.ranges;
        let is_ours = |addr: &IpAddr| ranges.lookup(*addr).is_some_and(|found| found.is_ours);
        seen.addresses.iter().any(is_ours) || chain_of(seen).iter().any(|to| ranges.cname(to.as_ref()).is_some())
    }

    fn finding(&self, kind: Kind, seen: Option<(&DomainName, &Observation)>) -> Finding {
        let registry = &self.view.registry;
        let domain = registry.suffixes().registrable(self.name.as_ref());
        let filing = domain.and_then(|domain| registry.find(domain)).map(|id| registry.filing(id));
        let reason = seen.and_then(|(host, seen)| self.verdict(host, seen)).map(|verdict| verdict.reason.label());
        Finding {
            kind,
            name: self.name.to_string(),
            host: seen.map_or_else(|| self.name.to_string(), |(host, _)| host.to_string()),
            domain: domain.map(|domain| domain.to_string()),
            reason,
            addresses: seen.map(|(_, seen)| seen.addresses.clone()).unwrap_or_default(),
            chain: seen.map(|(_, seen)| seen.chain.clone()).unwrap_or_default(),
            is_here: seen.is_some_and(|(_, seen)| self.is_here(seen)),
            seen_at: seen.map(|(_, seen)| seen.at),
            site_no: filing.as_ref().and_then(|filing| filing.site_no.clone()),
            access: filing.as_ref().map(|filing| filing.access.clone()).unwrap_or_default(),
            status: filing.as_ref().map(|filing| filing.status.label()),
            place: filing.as_ref().map(|filing| format!("{}:{}", filing.file, filing.line)),
            sources: self.sources.iter().map(Source::label).collect(),
        }
    }
}

/// The targets of aliases; what is no name leads nowhere we know.
fn chain_of(seen: &Observation) -> Vec<DomainName> {
    seen.chain.iter().filter_map(|text| DomainName::from_host(text).ok()).collect()
}
