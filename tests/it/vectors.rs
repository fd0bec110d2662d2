//! The forty vectors of the rule book (tests/data/vectors.toml), each through every layer where it applies.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use icpgate::model::{DomainName, Hop, Host, OriginSide, Subject, Via};
use icpgate::policy::{ForeignMainland, IpSite, Rules, Verdict, View, judge};
use icpgate::registry::lint::lint;
use serde::Deserialize;

use super::harness::dns::{Answer, DnsGate, PATIENCE, over_udp, packet, rtype};
use super::harness::fixture::{self, TODAY};
use super::harness::upstream::records;

/// Where a vector can be asked.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    Library,
    Dns,
    Http,
    Explain,
}

/// One entry of the file; its head explains the keys.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Vector {
    pub n: u32,
    pub name: Option<String>,
    pub labels: Option<Vec<String>>,
    pub host: Option<IpAddr>,
    #[serde(default)]
    pub leads_to: Vec<IpAddr>,
    #[serde(default)]
    pub chain: Vec<String>,
    pub types: Option<Vec<String>>,
    #[serde(default = "today")]
    pub today: String,
    #[serde(default)]
    pub events: Vec<String>,
    pub oss_origin: Option<String>,
    pub foreign_mainland: Option<String>,
    pub ip_site: Option<String>,
    pub action: String,
    #[serde(default = "is_enforced")]
    pub enforced: bool,
    pub reason: Option<String>,
    pub rule: Option<String>,
    pub warning: Option<String>,
    pub book: String,
    pub layers: Vec<Layer>,
    #[serde(default)]
    pub absent: BTreeMap<Layer, String>,
}

fn today() -> String {
    TODAY.to_owned()
}

fn is_enforced() -> bool {
    true
}

/// All vectors, in order.
pub fn vectors() -> Vec<Vector> {
    #[derive(Deserialize)]
    struct File {
        vector: Vec<Vector>,
    }
    let file: File = toml::from_str(include_str!("../data/vectors.toml")).expect("the vectors parse");
    file.vector
}

impl Vector {
    /// The vector for messages.
    pub fn label(&self) -> String {
        let subject = self.name.clone().or_else(|| self.labels.as_ref().map(|labels| format!("{labels:?}")));
        let subject = subject.or_else(|| self.host.map(|host| host.to_string())).unwrap_or_default();
        format!("vector {} ({}): {subject} on {}", self.n, self.book, self.today)
    }

    /// The name as the gate sees it.
    fn domain_name(&self) -> Option<DomainName> {
        if let Some(labels) = &self.labels {
            return Some(DomainName::from_labels(labels.iter().map(String::as_bytes)).expect("labels"));
        }
        self.name.as_deref().map(fixture::name)
    }

    fn rules(&self) -> Rules {
        let foreign_mainland = match self.foreign_mainland.as_deref() {
            None => ForeignMainland::default(),
            Some("ignore") => ForeignMainland::Ignore,
            Some("observe") => ForeignMainland::Observe,
            Some(other) => panic!("{other}"),
        };
        let ip_site = match self.ip_site.as_deref() {
            None => IpSite::default(),
            Some("allow") => IpSite::Allow,
            Some("observe") => IpSite::Observe,
            Some(other) => panic!("{other}"),
        };
        Rules { foreign_mainland, ip_site, ..Rules::default() }
    }

    /// The fixture with the vector's settings and events.
    fn view(&self) -> View {
        let origin = if self.oss_origin.as_deref() == Some("self") { OriginSide::Ours } else { OriginSide::Other };
        let mut view = fixture::view(self.rules());
        if !self.events.is_empty() {
            let loaded = fixture::loaded(&self.events);
            let refused = loaded.issues.iter().find(|issue| issue.rule == "event");
            assert!(refused.is_none(), "{}: {refused:?}", self.label());
            view.registry = loaded.snapshot.clone();
        }
        view.ranges = Arc::new(fixture::ranges(1, origin));
        view
    }

    /// True when the wire is to show a block.
    fn is_blocked(&self) -> bool {
        self.action == "block" && self.enforced
    }
}

#[test]
fn every_row_of_the_table_is_there_and_accounts_for_every_layer() {
    let vectors = vectors();
    let rows: BTreeSet<u32> = vectors.iter().map(|vector| vector.n).collect();
    assert!(rows.iter().copied().eq(1..=40), "{rows:?}");
    for vector in &vectors {
        for layer in [Layer::Library, Layer::Dns, Layer::Http, Layer::Explain] {
            let (applies, absent) = (vector.layers.contains(&layer), vector.absent.contains_key(&layer));
            assert!(applies != absent, "{}: {layer:?} must be in `layers` or in `absent`", vector.label());
        }
    }
}

fn verdict(vector: &Vector) -> Verdict {
    let view = vector.view();
    let name = vector.domain_name();
    let chain: Vec<DomainName> = vector.chain.iter().map(|target| fixture::name(target)).collect();
    let host = match (&name, vector.host) {
        (Some(name), _) => Host::Name(name.as_ref()),
        (None, Some(addr)) => Host::Address(addr),
        (None, None) => Host::Invalid,
    };
    let subject = Subject { host, hop: Hop::Resolved { addresses: &vector.leads_to, chain: &chain }, via: Via::Dns };
    judge(&view.rules, &view.registry, &view.ranges, &subject, fixture::noon(&vector.today))
}

#[test]
fn vectors_hold_in_the_library() {
    let mut checked = 0;
    for vector in vectors().iter().filter(|vector| vector.layers.contains(&Layer::Library)) {
        let verdict = verdict(vector);
        let found = (verdict.action.label(), Some(verdict.reason.label()), Some(verdict.rule.id()));
        let expected = (vector.action.as_str(), vector.reason.as_deref(), vector.rule.as_deref());
        assert_eq!(found, expected, "{}", vector.label());
        assert_eq!(verdict.blocks(), vector.is_blocked(), "{}", vector.label());
        checked += 1;
    }
    assert!(checked > 45, "{checked}");
}

#[test]
fn vectors_with_a_warning_are_found_by_the_linter() {
    for vector in vectors() {
        let Some(rule) = &vector.warning else { continue };
        let findings = lint(&fixture::loaded(&vector.events).snapshot, icpgate::model::Day::at(fixture::noon(TODAY)));
        let name = vector.name.clone().unwrap_or_default();
        let is_it = |issue: &icpgate::registry::Issue| issue.rule == rule && issue.message.contains(&name);
        assert!(findings.iter().any(is_it), "{}: {findings:?}", vector.label());
    }
}

#[tokio::test]
async fn vectors_hold_over_dns() {
    for vector in vectors().iter().filter(|vector| vector.layers.contains(&Layer::Dns)) {
        let gate = DnsGate::with(vector.view(), |_| {}).await;
        gate.set_day(&vector.today);
        over_dns(&gate, vector).await;
    }
}

async fn over_dns(gate: &DnsGate, vector: &Vector) {
    let name = vector.domain_name().expect("a name");
    let owner = name.to_string();
    let label = vector.label();
    let types = vector.types.clone().unwrap_or_else(|| {
        let is_six = vector.leads_to.iter().all(IpAddr::is_ipv6);
        vec![if is_six { "AAAA" } else { "A" }.to_owned()]
    });
    for qtype in types {
        let lines = answer_lines(vector, &owner, &qtype);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        gate.upstream.on(&owner, &qtype, records(&lines));
        let spelled = spelled(vector);
        let labels: Vec<&[u8]> = spelled.iter().map(Vec::as_slice).collect();
        let query = packet(&labels, rtype(&qtype).into());
        let answer = Answer(over_udp(gate.addr, &query, PATIENCE).await.expect(&label));
        let again = Answer(over_udp(gate.addr, &query, PATIENCE).await.expect(&label));
        assert_eq!(again.without_ttls(), answer.without_ttls(), "{label}: out of the cache");
        assert_eq!(gate.upstream.count(&owner, &qtype), 1, "{label}: the second answer comes out of the cache");
        if vector.is_blocked() {
            assert!(answer.is_blocked(), "{label}: {:?}", answer.message());
            assert!(answer.reason().starts_with(&format!("{}; domain=", vector.reason.as_deref().unwrap_or(""))));
            continue;
        }
        assert_eq!(answer.reason(), "", "{label}");
        assert_eq!(answer.message().answers.len(), lines.len(), "{label}: {:?}", answer.message());
        if vector.types.is_none() {
            let mut expected: Vec<String> = vector.leads_to.iter().map(ToString::to_string).collect();
            expected.sort();
            assert_eq!(answer.addresses(), expected, "{label}");
        }
    }
}

/// The upstream's answer: the chain, then the addresses; or one record of another type.
fn answer_lines(vector: &Vector, owner: &str, qtype: &str) -> Vec<String> {
    let mut owner = format!("{owner}.");
    let mut res = Vec::new();
    match qtype {
        "MX" => res.push(format!("{owner} 60 IN MX 5 mail.nofile.cn.")),
        "TXT" => res.push(format!("{owner} 60 IN TXT \"v=spf1 -all\"")),
        "NS" => res.push(format!("{owner} 60 IN NS ns1.nofile.cn.")),
        _ => {
            for target in &vector.chain {
                res.push(format!("{owner} 60 IN CNAME {target}."));
                owner = format!("{target}.");
            }
            res.extend(vector.leads_to.iter().map(|addr| format!("{owner} 60 IN {qtype} {addr}")));
        }
    }
    res
}

/// The labels of the question as the vector spells them.
fn spelled(vector: &Vector) -> Vec<Vec<u8>> {
    match (&vector.labels, &vector.name) {
        (Some(labels), _) => labels.iter().map(|label| label.clone().into_bytes()).collect(),
        (None, Some(name)) => name.trim_end_matches('.').split('.').map(|label| label.as_bytes().to_vec()).collect(),
        (None, None) => Vec::new(),
    }
}
