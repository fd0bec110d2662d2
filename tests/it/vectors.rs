//! The forty vectors of the rule book (tests/data/vectors.toml), each through every layer where it applies.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use icpgate::model::{Day, DomainName, Hop, Host, OriginSide, Subject, Via};
use icpgate::policy::{ForeignMainland, IpSite, Rules, Verdict, View, judge};
use icpgate::registry::lint::lint;
use serde::Deserialize;
use tempfile::TempDir;

use super::harness::dns::{Answer, DnsGate, PATIENCE, over_udp, packet, rtype};
use super::harness::fixture::{self, TODAY};
use super::harness::http::{HttpGate, get};
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
        let findings = lint(&fixture::loaded(&vector.events).snapshot, Day::at(fixture::noon(TODAY)));
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

#[tokio::test]
async fn vectors_hold_over_http() {
    for vector in vectors().iter().filter(|vector| vector.layers.contains(&Layer::Http)) {
        let gate = HttpGate::with(vector.view(), |_| {}).await;
        gate.set_day(&vector.today);
        let host = vector.host.map(|host| host.to_string()).or_else(|| vector.name.clone()).expect("a host");
        let answer = gate.ask(&get(&host, "/")).await;
        let label = vector.label();
        let mark = answer.header("x-icp-gate").unwrap_or_default();
        if vector.is_blocked() {
            assert_eq!(answer.status, 451, "{label}");
            let expected = format!("reason={};", vector.reason.as_deref().unwrap_or(""));
            assert!(format!("{mark};").contains(&expected), "{label}: {mark}");
            assert!(gate.origin.seen().is_empty(), "{label}: no octet goes to an origin");
        } else {
            assert_eq!((answer.status, mark), (200, ""), "{label}");
            assert_eq!(gate.origin.hosts(), [host], "{label}");
        }
    }
}

/// The fixture as a configuration directory, with the vector's settings and events.
///
/// The program reads the machine's clock: the one date of the fixture is moved so that it lies as far from today.
fn explain_directory(vector: &Vector) -> TempDir {
    let dir = TempDir::new().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("registry")).expect("a directory");
    fixture::write_registry(&at("registry"), &vector.events);
    let day = |text: &str| Day::parse(text).expect("a day").number();
    let until = Day::at(SystemTime::now()).number() + day("2026-11-25") - day(&vector.today);
    let registry = fixture::REGISTRY.replace("2026-11-25", &Day::from_number(until).to_string());
    std::fs::write(at("registry/registry.csv"), registry).expect("writes");
    let tags = include_str!("../data/fixture/provider.csv");
    let oss = format!(",oss,{}", vector.oss_origin.as_deref().unwrap_or("other"));
    std::fs::write(at("provider.csv"), tags.replace(",oss,other", &oss)).expect("writes");
    std::fs::write(at("products.csv"), include_str!("../data/fixture/products.csv")).expect("writes");
    let config = format!(
        "version = 1\n[provider]\nid = \"self\"\n[registry]\npaths = [\"registry\"]\n\
         [ranges]\nmainland = []\ntags = [\"provider.csv\"]\ncnames = [\"products.csv\"]\n\
         [policy]\nip-site = \"{}\"\nforeign-mainland = \"{}\"\n",
        vector.ip_site.as_deref().unwrap_or("block"),
        vector.foreign_mainland.as_deref().unwrap_or("require-filed"),
    );
    std::fs::write(at("icpgate.toml"), config).expect("writes");
    dir
}

#[test]
fn vectors_hold_in_explain() {
    for vector in vectors().iter().filter(|vector| vector.layers.contains(&Layer::Explain)) {
        let dir = explain_directory(vector);
        let escaped = vector
            .labels
            .as_ref()
            .map(|labels| labels.iter().map(|label| label.replace('.', "\\.")).collect::<Vec<_>>().join("."));
        let name = vector.name.clone().or(escaped).or(vector.host.map(|host| host.to_string())).expect("a subject");
        let mut command = Command::new(env!("CARGO_BIN_EXE_icpgate"));
        command.current_dir(dir.path()).args(["explain", &name, "--config", "icpgate.toml", "--json"]);
        for addr in &vector.leads_to {
            command.args(["--address", &addr.to_string()]);
        }
        for target in &vector.chain {
            command.args(["--cname", target]);
        }
        let output = command.output().expect("the program runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let label = vector.label();
        let said = String::from_utf8_lossy(&output.stderr);
        let report: serde_json::Value =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{label}: {e} {text} {said}"));
        assert_eq!(report["action"], vector.action.as_str(), "{label}: {text}");
        assert_eq!(report["reason"].as_str(), vector.reason.as_deref(), "{label}: {text}");
        assert_eq!(report["rule"].as_str(), vector.rule.as_deref(), "{label}: {text}");
        assert_eq!(report.get("enforced").is_none(), vector.enforced, "{label}: {text}");
        assert_eq!(output.status.code(), Some(i32::from(vector.action == "block")), "{label}");
    }
}

#[tokio::test]
async fn both_planes_show_one_decision_id_for_a_site() {
    let (dns, http) = (DnsGate::start().await, HttpGate::start().await);
    for (dns_name, host) in [("www.nofile.cn", "nofile.cn"), ("else.com", "IMG.else.com.")] {
        dns.upstream.addresses(dns_name, &["203.0.113.1"]);
        let from_dns = dns.ask(dns_name, "A").await.reason();
        let answer = http.ask(&get(host, "/")).await;
        let from_http = answer.header("x-icp-gate").expect("the gate's header");
        assert_eq!(from_http.strip_prefix("reason="), Some(from_dns.as_str()));
    }
}
