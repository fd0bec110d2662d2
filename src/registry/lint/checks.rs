//! The table of checks: everything a finding about the registry can cite, each once, with its words in both languages.
//!
//! The READMEs show this table; a test holds them against it. Gauges, titles, SARIF rules and filters are read off it.

use crate::registry::Severity;

/// What a check looks at, and so when it can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// The text of a file, while it is loaded.
    Text,
    /// One row in force.
    Row,
    /// Several rows in force together.
    Rows,
    /// Columns that only the linter reads.
    Facts,
    /// An older state beside this one: reloads, and `--against`.
    Older,
    /// The ranges of the gate.
    Ranges,
    /// The world outside (DNS, traffic): not the linter's, `icpgate audit` and the journal tell.
    World,
}

impl Reads {
    /// The word in tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Row => "row",
            Self::Rows => "rows",
            Self::Facts => "facts",
            Self::Older => "older",
            Self::Ranges => "ranges",
            Self::World => "world",
        }
    }
}

/// One check.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// The rule's id in the rule book, or a word for what is no rule of it.
    pub id: &'static str,
    /// The gravest severity of its findings.
    pub severity: Severity,
    /// What it is about.
    pub en: &'static str,
    /// The same in Chinese.
    pub zh: &'static str,
    /// What would be right.
    pub fix_en: &'static str,
    /// The same in Chinese.
    pub fix_zh: &'static str,
    /// Where the rule comes from.
    pub source: &'static str,
    /// What it looks at.
    pub reads: Reads,
}

impl Check {
    /// The heading in both languages.
    pub fn title(&self) -> String {
        format!("{} · {}", self.zh, self.en)
    }
}

/// A language of people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// Chinese.
    Chinese,
    /// English.
    #[default]
    English,
}

/// The check of an id.
pub fn check(id: &str) -> Option<&'static Check> {
    CHECKS.iter().find(|check| check.id == id)
}

/// What a rule is about, for headings; empty for rules of other books.
pub fn title(id: &str) -> String {
    check(id).map(Check::title).unwrap_or_default()
}

use Reads::{Facts, Older, Ranges, Row, Rows, Text, World};
use Severity::{Error, Info, Warning};

/// One line of the table.
const fn line(
    id: &'static str,
    severity: Severity,
    reads: Reads,
    source: &'static str,
    [zh, en]: [&'static str; 2],
    [fix_zh, fix_en]: [&'static str; 2],
) -> Check {
    Check { id, severity, en, zh, fix_en, fix_zh, source, reads }
}

/// Every check, in the order of the rule book; what is no rule of it comes last.
#[rustfmt::skip]
pub const CHECKS: &[Check] = &[
    line("R1", Error, Row, "seed §4",
        ["后缀未获批准", "suffix not approved"],
        ["改用获批后缀的域名", "a domain under an approved suffix"]),
    line("R2", Error, Row, "seed §4",
        ["注册商未获批准", "registrar not approved"],
        ["把域名转入获批的注册商", "a transfer to an approved registrar"]),
    line("R3", Error, Row, "seed §4",
        ["域名过期", "domain registration has ended"],
        ["续费域名并更新 expires_on", "a renewed registration and its expires_on"]),
    line("R4", Error, Row, "seed §4",
        ["域名未实名", "domain holder not verified"],
        ["完成域名实名认证", "the holder's real-name verification"]),
    line("R5", Error, Facts, "seed §2.7, §4",
        ["域名持有者与主体不一致", "domain holder is not the subject"],
        ["域名持有者改为主体，或注明关系与证明", "the subject as holder, or holder_relation and holder_proof"]),
    line("R6a", Error, Rows, "seed §4",
        ["一个网站多个域名", "several domains of one site, filed since 2019-04-22"],
        ["每个域名各备一个网站", "a site number for each domain"]),
    line("R6b", Info, Rows, "seed §4",
        ["历史多域名网站", "several domains of one site, filed before 2019-04-22"],
        ["可保留；变更时只能减少", "as it is; domains may only go"]),
    line("R6c", Error, Older, "seed §4",
        ["网站的域名被直接更换", "domain of a site changed in place"],
        ["注销后为新域名新增网站", "deregister-site, then add-site for the new domain"]),
    line("R6d", Error, Older, "seed §4",
        ["多域名网站增改了域名", "domain added to a site, or edited"],
        ["只保留或删除原有域名，新域名另增网站", "domains that were there, or fewer; add-site for a new one"]),
    line("R7", Error, Rows, "seed §4",
        ["主体网站数超限", "more sites of a subject than its province allows"],
        ["不超过 provinces 表中的数量", "no more sites than the list of provinces says"]),
    line("R8", Error, Text, "seed §4",
        ["IP 地址", "an address, filed at the local authority"],
        ["填写域名，或设 ip_filed = 1", "a domain, or ip_filed = 1"]),
    line("R9", Error, Facts, "seed §4",
        ["网站内容违法", "site content flagged as illegal"],
        ["移除内容，或注销网站", "other content, or deregister-site"]),
    line("R10", Error, Row, "seed §4",
        ["个人主体办企业、行业网站", "person as subject of an organisation's site"],
        ["以单位主体备案，或改为个人内容", "a unit as subject, or content of a person"]),
    line("R11", Warning, Row, "seed §4",
        ["网站名称不合规", "site name against the naming rules"],
        ["改用与主体相符的网站名称", "a name without the word, and in line with the subject"]),
    line("R12", Error, Row, "seed §4",
        ["缺少前置审批", "category needs approval, none is recorded"],
        ["填写批文号，或“不需要：理由”", "the document in approval, or \"not needed: why\""]),
    line("R13", Error, Row, "seed §2.1",
        ["论坛类网站", "forum, which can no longer be filed"],
        ["新网站不设论坛；历史网站可保留", "no forum on a new site; an old one stays"]),
    line("R14a", Error, Rows, "seed §4",
        ["一个账号多个主体", "one account with several subjects"],
        ["每个主体一个账号", "an account for each subject"]),
    line("R14b", Error, Rows, "seed §4",
        ["账号网站数超过省级规定", "more sites in the account than its province allows"],
        ["鄂、湘：每个账号一个网站", "one site per account in Hubei and Hunan"]),
    line("R15a", Error, Row, "seed §4",
        ["省份不一致", "province, number or certificate disagree"],
        ["证件、备案省份与备案号一致", "one province in certificate, row and number"]),
    line("R15b", Warning, Facts, "seed §4",
        ["外省个人缺少居住证", "person of another province without residence permit"],
        ["补交居住证并设 residence_permit = 1", "residence_permit = 1"]),
    line("R16", Error, Ranges, "seed §4",
        ["接入地址不在本接入商内地网段", "address of the row is not ours on the mainland"],
        ["填写本接入商的内地地址", "an address of our mainland ranges"]),
    line("R17", Error, Rows, "seed §3, §4",
        ["备案服务号重复或超限", "service code used twice, or too many of a server"],
        ["每个成功备案一个服务号", "a service code of its own for each site"]),
    line("R18", Warning, World, "seed §2.1",
        ["审核期间已开通", "opened before its filing succeeded"],
        ["备案成功后再开通", "closed until the filing succeeds"]),
    line("R19", Error, Facts, "seed §2.2",
        ["外国企业证件或经营范围不符", "foreign enterprise with another certificate, or an office that trades"],
        ["分公司执照或常驻代表机构登记证；办事处不得经营", "a branch licence or representative office certificate; no trade by an office"]),
    line("R20", Error, Rows, "seed §3",
        ["备案号有误", "number malformed, missing or used twice"],
        ["按 B.1 书写，一个主体一个主体备案号", "a number of the known forms, one main number a subject"]),
    line("R21", Error, Text, "seed §4",
        ["域名冲突", "domain twice, with contradictions"],
        ["每个域名只留一行", "one row for the domain"]),
    line("R22", Warning, Text, "seed §2.7",
        ["非主域名", "spelling repaired to the registrable domain"],
        ["填写主域名", "the registrable domain alone"]),
    line("R23", Warning, Rows, "seed §1",
        ["空壳网站或空壳主体", "number without access provider, or subject without site"],
        ["接入或注销", "add-access, or deregister it"]),
    line("AMB-12", Info, Row, "rules AMB-12",
        ["临时接入到期", "provisional access has ended"],
        ["完成接入备案", "the access filing, or no date"]),
    line("D-D22", Error, Text, "interception D-D22",
        ["公共后缀", "public suffixes cannot be filed"],
        ["填写后缀之下的域名", "the name below the suffix"]),
    line("S2", Warning, Text, "seed §2.4",
        ["泛域名", "wildcard removed"],
        ["填写主域名", "the domain without *."]),
    line("dates", Warning, Row, "no official reference",
        ["日期矛盾", "dates contradict each other"],
        ["核对日期", "dates that can all be true"]),
    line("encoding", Error, Text, "no official reference",
        ["编码", "not the encoding that is set"],
        ["按 registry.encoding 书写", "text in registry.encoding"]),
    line("event", Error, Text, "rules A.5",
        ["变更事项", "event refused or doubtful"],
        ["符合生命周期规则的事项", "an event that fits the state of the row"]),
    line("format", Error, Text, "interface: registry files",
        ["格式", "malformed"],
        ["按 conf/registry/README.md 书写", "a cell as conf/registry/README.md has it"]),
    line("limit", Error, Text, "no official reference",
        ["超限", "beyond a limit"],
        ["缩短", "a shorter value"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_of_the_book_is_a_check() {
        for n in 1..=23 {
            let is_there = |id: String| CHECKS.iter().any(|check| check.id == id);
            assert!(is_there(format!("R{n}")) || is_there(format!("R{n}a")), "R{n}");
        }
        let mut ids: Vec<&str> = CHECKS.iter().map(|check| check.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), CHECKS.len());
    }
}
