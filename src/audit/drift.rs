//! What observations come to, held against the registry: the findings of an audit.
//!
//! A name is judged as the gate judges an answer that leads where it was seen to lead. The kinds beside a block are those
//! that authorities and providers look for (rule book B.6, seed §2.4): rows whose site is elsewhere or gone, numbers that
//! nobody gives access to, sites that opened before their filing was approved.

use std::net::IpAddr;
use std::time::SystemTime;

use serde::Serialize;

use super::state::{Observation, Outcome, State};
use super::targets::{Source, Sources, Targets};
use crate::model::{Day, DomainName, Hop, Host, Status, Subject, Via};
use crate::policy::{Reason, Verdict, View};

/// A kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Leads here and has no filing.
    NeverFiled,
    /// Leads here while its filing is being looked at (rule R18).
    PendingOpen,
    /// Leads here, filed through others only.
    FiledElsewhere,
    /// Leads here and is blocked for another reason.
    Blocked,
    /// Stands on an origin's certificate beside others, without a filing.
    OnCertificate,
    /// The domain's registration has ended.
    Expired,
    /// Filed here, leads elsewhere.
    ShellAway,
    /// Filed here, leads nowhere.
    ShellDead,
    /// Numbered, and nobody gives access (空壳).
    Shell,
    /// Nobody could say where it leads.
    Unknown,
}

/// What reports say of a kind.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// The label in reports and gauges.
    pub label: &'static str,
    /// In Chinese.
    pub title_zh: &'static str,
    /// In English.
    pub title_en: &'static str,
    /// What to do, in Chinese.
    pub advice_zh: &'static str,
    /// What to do, in English.
    pub advice_en: &'static str,
}

impl Kind {
    /// Every kind, the gravest first.
    pub const ALL: [Self; 10] = [
        Self::NeverFiled,
        Self::PendingOpen,
        Self::FiledElsewhere,
        Self::Blocked,
        Self::OnCertificate,
        Self::Expired,
        Self::ShellAway,
        Self::ShellDead,
        Self::Shell,
        Self::Unknown,
    ];

    /// What reports say of it.
    pub fn about(self) -> About {
        let [label, title_zh, title_en, advice_zh, advice_en] = match self {
            Self::NeverFiled => [
                "never_filed",
                "未备案，已指向本网络",
                "No filing, leads to our network",
                "通知用户备案；备案前保持阻断",
                "Ask the owner to file; keep it blocked until then",
            ],
            Self::PendingOpen => [
                "pending_open",
                "审核期间已开通访问",
                "Open while the filing is under review",
                "请用户先关闭网站：审核期间开通可能被驳回",
                "Ask the owner to close the site: a filing may be refused over it",
            ],
            Self::FiledElsewhere => [
                "filed_elsewhere",
                "已备案，未在本接入商接入",
                "Filed, without access through us",
                "通知用户办理接入备案",
                "Ask the owner to add us as an access provider",
            ],
            Self::Blocked => [
                "blocked",
                "因其他原因阻断",
                "Blocked for another reason",
                "用 icpgate explain 查看原因",
                "See why with icpgate explain",
            ],
            Self::OnCertificate => [
                "on_certificate",
                "源站证书包含未备案域名",
                "On an origin's certificate without a filing",
                "从证书中移除该域名或办理备案：浏览器会复用同证书连接",
                "Take it off the certificate or file it: browsers reuse connections within a certificate",
            ],
            Self::Expired => [
                "expired",
                "域名注册已到期",
                "The domain's registration has ended",
                "核实域名是否续费或易主，必要时注销备案",
                "See whether it was renewed or changed hands; deregister if need be",
            ],
            Self::ShellAway => [
                "shell_away",
                "已接入，但解析不在本网络",
                "Filed through us, leads elsewhere",
                "要求用户将解析改回或取消接入，否则有空壳注销风险",
                "Ask the owner to point it back or cancel access: it may be deregistered as a shell",
            ],
            Self::ShellDead => [
                "shell_dead",
                "已接入，但没有解析",
                "Filed through us, leads nowhere",
                "核实网站是否仍在使用，否则取消接入",
                "See whether the site is still wanted; cancel access otherwise",
            ],
            Self::Shell => [
                "shell",
                "空壳：有备案号，无接入商",
                "A shell: numbered, nobody gives access",
                "补办接入备案或注销",
                "Add an access provider or deregister",
            ],
            Self::Unknown => [
                "unknown",
                "解析失败，无法判断",
                "Nobody could say where it leads",
                "稍后重试，或换用其他解析服务器",
                "Try again later, or with other resolvers",
            ],
        };
        About { label, title_zh, title_en, advice_zh, advice_en }
    }

    /// False for what could not be found out.
    pub fn counts(self) -> bool {
        self != Self::Unknown
    }
}

impl Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.about().label)
    }
}

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

/// The hosts that are asked for a target: of a row's domain the site's usual two.
pub fn hosts_of(name: &DomainName, sources: Sources) -> Vec<DomainName> {
    let mut res = Vec::with_capacity(2);
    let has_star = name.as_ref().labels().next() == Some(b"*");
    if !has_star {
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
pub fn findings(targets: &Targets, state: &State, view: &View, now: SystemTime) -> Vec<Finding> {
    let mut res = Vec::new();
    for (name, sources) in targets.iter() {
        let hosts = hosts_of(&name, sources);
        let seen: Vec<(&DomainName, &Observation)> =
            hosts.iter().filter_map(|host| Some((host, state.get(&host.to_string())?))).collect();
        Looking { view, now, name: &name, sources, seen: &seen }.findings(&mut res);
    }
    res.sort_by_key(|finding| finding.kind);
    res
}

/// One target with what was seen of it.
struct Looking<'a> {
    view: &'a View,
    now: SystemTime,
    name: &'a DomainName,
    sources: Sources,
    seen: &'a [(&'a DomainName, &'a Observation)],
}

impl Looking<'_> {
    fn findings(&self, out: &mut Vec<Finding>) {
        let before = out.len();
        for &(host, seen) in self.seen {
            let Some(kind) = self.block_of(host, seen) else { continue };
            // One host is enough to act on.
            if out.len() == before {
                out.push(self.finding(kind, Some((host, seen))));
            }
        }
        let is_blocked = out.len() > before;
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
            (Reason::NotFiled, _) => Kind::NeverFiled,
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
        if !facts.accessed_here || here.is_some() || self.seen.is_empty() {
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
