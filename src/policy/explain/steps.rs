//! The facts of a decision, and the decision procedure (rules A.8) with what each of its lines found.
//!
//! Status and need for access are read off judgements of hypothetical subjects, so that no rule stands here twice.

use std::net::IpAddr;
use std::time::SystemTime;

use serde::Serialize;

use super::what_if::{elsewhere, with_row};
use super::{Both, Brief, OwnedHost, Question};
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
    /// The question in Chinese.
    pub question_zh: &'static str,
    /// What was found.
    pub found: String,
    /// What was found, in Chinese.
    pub found_zh: String,
    /// The rule that this line applied; `None` where it changed nothing.
    pub rule: Option<&'static str>,
    /// Where the answer stands: a key, a prefix, a file and line; `None` where the question answers itself.
    pub source: Option<String>,
    /// True for the last line, whose answer is the verdict's.
    pub decides: bool,
}

/// A question of the procedure, in English and in Chinese.
type Asked = (&'static str, &'static str);

const EXEMPT: Asked = ("is it exempt (policy.exempt)?", "是否豁免（policy.exempt）？");
const FILED: Asked = ("what is filed?", "备案情况如何？");
const IP_SITE: Asked = ("policy.ip-site", "policy.ip-site 的设置");
const MAINLAND: Asked = ("does it lead to a mainland server?", "是否指向内地服务器？");
const NAME: Asked = ("is the host a name?", "主机是域名吗？");
const OURS: Asked = ("is the server ours?", "服务器属于本接入商吗？");
const PRODUCT: Asked = ("what does its product ask for?", "所用产品要求什么？");
const WEB: Asked = ("is it marked as no web service?", "是否标记为非 Web 服务？");

/// What a line found, and by what.
struct Found {
    text: Both,
    rule: Option<&'static str>,
    source: Option<String>,
}

impl Found {
    fn new(zh: impl Into<String>, en: impl Into<String>) -> Self {
        Self { text: Both::new(zh, en), rule: None, source: None }
    }

    fn by(self, rule: Rule) -> Self {
        Self { rule: Some(rule.id()), ..self }
    }

    fn from(self, source: impl Into<String>) -> Self {
        Self { source: Some(source.into()), ..self }
    }
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
    res.extend(view.ranges.lookup(addr).map(|found| view.ranges.describe(&found)));
    if let IpAddr::V6(v6) = addr {
        for inner in model::unwrap(v6, view.ranges.nat64()).iter() {
            let inner_found = view.ranges.lookup(IpAddr::V4(inner));
            let text = inner_found.map_or_else(|| "in no range".to_owned(), |found| view.ranges.describe(&found));
            res.push(format!("carries {inner}: {text}"));
        }
    }
    if res.is_empty() { "in no range: counts as outside the mainland".to_owned() } else { res.join("; ") }
}

/// The procedure up to the line that decided.
pub fn steps(view: &View, provider: &str, question: &Question, verdict: &Verdict, now: SystemTime) -> Vec<Step> {
    let lines = lines(view, provider, question, verdict, now);
    let last = lines.len().saturating_sub(1);
    let step = |(i, ((question, question_zh), found)): (usize, (Asked, Found))| Step {
        question,
        question_zh,
        found: found.text.en,
        found_zh: found.text.zh,
        rule: if i == last { Some(verdict.rule.id()) } else { found.rule },
        source: found.source,
        decides: i == last,
    };
    lines.into_iter().enumerate().map(step).collect()
}

fn lines(view: &View, provider: &str, question: &Question, verdict: &Verdict, now: SystemTime) -> Vec<(Asked, Found)> {
    let mut res = Vec::new();
    let name = match &question.host {
        OwnedHost::Invalid => {
            return vec![(NAME, Found::new("不是，也不是地址", "no, and no address either").from("RFC 1035 §2.3.1"))];
        }
        OwnedHost::Address(addr) => {
            let no = Found::new(format!("不是，是地址 {addr}（规则 N4）"), format!("no, the address {addr} (rule N4)"));
            res.push((NAME, no.by(Rule::N4)));
            let setting = format!("{:?}", view.rules.ip_site).to_lowercase();
            res.push((IP_SITE, Found::new(setting.clone(), setting).from("policy.ip-site")));
            return res;
        }
        OwnedHost::Name(name) => name,
    };
    res.push((NAME, Found::new("是", "yes")));
    let exempt = view.rules.exempt.iter().find(|entry| name.as_ref().is_at_or_below(entry.suffix.as_ref()));
    if let Some(entry) = exempt {
        let (suffix, why) = (&entry.suffix, &entry.why);
        let yes = Found::new(format!("是，{suffix}：{why}"), format!("yes, {suffix}: {why}"));
        res.push((EXEMPT, yes.by(Rule::Exempt).from("policy.exempt")));
        return res;
    }
    res.push((EXEMPT, Found::new("否", "no").from("policy.exempt")));
    let (is_mainland, found) = location(view, question, verdict);
    res.push((MAINLAND, found));
    if !is_mainland {
        return res;
    }
    let is_non_web = verdict.reason == Reason::NonWeb;
    let found = if is_non_web { Found::new("是", "yes").by(Rule::Amb15) } else { Found::new("否", "no") };
    res.push((WEB, found.from("policy.non-web")));
    if is_non_web {
        return res;
    }
    let is_ours = question.is_in_line || verdict.range.is_none_or(|found| found.is_ours);
    res.push((OURS, ours(view, is_ours, verdict)));
    if verdict.reason == Reason::NotOurs {
        return res;
    }
    res.push((PRODUCT, needs(view, provider, question, name, now)));
    res.push((FILED, filed(view, name, verdict, now)));
    res
}

fn location(view: &View, question: &Question, verdict: &Verdict) -> (bool, Found) {
    if question.is_in_line {
        return (true, Found::new("是，网关就在服务器之前", "yes, the gate stands before one"));
    }
    if let Some((target, found)) =
        question.chain.iter().find_map(|target| Some((target, view.ranges.cname(target.as_ref())?)))
    {
        let needs = found.region.needs_filing();
        let (word_zh, word) = if needs { ("是", "yes") } else { ("否", "no") };
        let (product, region) = (found.product, found.region);
        let text = Found::new(
            format!("{word_zh}，{target} 属于 {product}，加速区域 {region} 决定（规则 AMB-8）"),
            format!("{word}, {target} is of {product} with region {region}, which decides (rule AMB-8)"),
        );
        return (needs, text.by(Rule::Amb8).from("ranges.cnames"));
    }
    if verdict.reason == Reason::NotMainland {
        return (false, Found::new("否", "no").by(Rule::N2).from("ranges"));
    }
    let which = verdict.address.map_or_else(String::new, |addr| format!(", {addr}"));
    let which_zh = which.replace(", ", "，");
    let (mixed_zh, mixed) = if verdict.mixed {
        (
            "；其他地址不在内地（规则 AMB-16，policy.mixed-answer）",
            "; other addresses are not (rule AMB-16, policy.mixed-answer)",
        )
    } else {
        ("", "")
    };
    let yes = Found::new(format!("是{which_zh}{mixed_zh}"), format!("yes{which}{mixed}"));
    let source = verdict.range.map_or_else(|| "ranges".to_owned(), |found| view.ranges.describe(&found));
    (true, yes.from(source))
}

fn ours(view: &View, is_ours: bool, verdict: &Verdict) -> Found {
    if is_ours {
        let source = verdict.range.and_then(|found| view.ranges.provider(found.tag));
        let yes = Found::new("是", "yes");
        return match source {
            Some(provider) => yes.from(format!("ranges.tags: provider {provider}")),
            None => yes,
        };
    }
    let setting = format!("{:?}", view.rules.foreign_mainland);
    Found::new(
        format!("否：在任一接入商有备案即可（规则 AMB-18，policy.foreign-mainland {setting}）"),
        format!("no: a filing anywhere is asked for (rule AMB-18, policy.foreign-mainland {setting})"),
    )
    .by(Rule::Amb18)
    .from("policy.foreign-mainland")
}

/// Judges the name with a filing at another provider: only a need for access would still block it.
fn needs(view: &View, provider: &str, question: &Question, name: &DomainName, now: SystemTime) -> Found {
    let filing = || Found::new("备案", "a filing");
    let Some(domain) = view.registry.suffixes().registrable(name.as_ref()) else { return filing() };
    let hypothetical = with_row(view, provider, Some(elsewhere(domain))).judge(&question.subject(), now);
    match hypothetical.reason {
        Reason::NotAccessed => Found::new("备案，并接入本接入商", "a filing and access here (接入)").by(Rule::B2),
        _ => Found::new("备案，接入商不限", "a filing, at whatever provider").by(hypothetical.rule),
    }
}

/// Judges the name on a server of ours without a product: what blocks it there is its filing alone.
fn filed(view: &View, name: &DomainName, verdict: &Verdict, now: SystemTime) -> Found {
    let Some(domain) = view.registry.suffixes().registrable(name.as_ref()) else {
        return Found::new("无：公共后缀不能备案", "nothing: a public suffix cannot be filed");
    };
    let subject = Subject { host: model::Host::Name(name.as_ref()), hop: Hop::InLine, via: Via::Http };
    let plain = view.judge(&subject, now);
    let (status_zh, status) = match (plain.reason, plain.rule) {
        (Reason::Filed, Rule::Amb12) => ("已备案并临时接入", "FILED_HERE, provisionally"),
        (Reason::Filed, _) => ("已备案并已接入", "FILED_HERE"),
        (Reason::NotAccessed, Rule::Amb17) => ("空壳备案", "SHELL"),
        (Reason::NotAccessed, _) => ("已备案，接入在别处", "FILED_ELSEWHERE"),
        (Reason::Restricted, _) => ("限制接入", "RESTRICTED"),
        _ => ("未备案", "UNFILED"),
    };
    match verdict.filing.map(|id| view.registry.filing(id)) {
        Some(row) => {
            let place = format!("{}:{}", row.file, row.line);
            let text =
                Found::new(format!("{status_zh}：{domain}，见 {place}"), format!("{status}: {domain} at {place}"));
            text.from(place)
        }
        None => Found::new(format!("{status_zh}：没有 {domain} 的条目"), format!("{status}: no row for {domain}"))
            .from(format!("registry generation {}", verdict.registry_generation)),
    }
}
