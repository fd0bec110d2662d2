//! A decision with all its steps: `icpgate explain`, `GET /v1/verdict` and the console show it.
//!
//! Nothing here decides: every line is read from the data or reached by judging, the hypothetical ones included.

mod steps;
mod what_if;

use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

use serde::Serialize;

pub use self::steps::{Place, Step};
pub use self::what_if::{Change, with_row};
use super::{Verdict, VerdictReport, View};
use crate::model::{DomainName, Hop, Host, Subject, Via, parse_ip_literal};

/// A host as somebody wrote it; one a question, so that its size is no matter.
#[allow(clippy::large_enum_variant)]
pub enum OwnedHost {
    /// A bare address.
    Address(IpAddr),
    /// Neither an address nor a name.
    Invalid,
    /// A name.
    Name(DomainName),
}

impl OwnedHost {
    /// As a plane would read it: an address in any spelling, a name, or neither; `\.` is a dot inside a label.
    pub fn read(text: &str) -> Self {
        match parse_ip_literal(text) {
            Some(Ok(addr)) => Self::Address(addr),
            Some(Err(())) => Self::Invalid,
            None if text.contains("\\.") => escaped_name(text).map_or(Self::Invalid, Self::Name),
            None => DomainName::from_host(text).map_or(Self::Invalid, Self::Name),
        }
    }

    fn borrow(&self) -> Host<'_> {
        match self {
            Self::Address(addr) => Host::Address(*addr),
            Self::Invalid => Host::Invalid,
            Self::Name(name) => Host::Name(name.as_ref()),
        }
    }
}

/// A name with dots inside labels, written `\.` as in master files (RFC 1035 section 5.1).
fn escaped_name(text: &str) -> Option<DomainName> {
    let text = text.strip_suffix('.').filter(|rest| !rest.ends_with('\\')).unwrap_or(text);
    let mut labels = vec![Vec::new()];
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        match octet {
            b'\\' => labels.last_mut()?.push(octets.next()?),
            b'.' => labels.push(Vec::new()),
            octet => labels.last_mut()?.push(octet),
        }
    }
    DomainName::from_labels(labels.iter().map(Vec::as_slice)).ok()
}

/// What is judged, owned.
pub struct Question {
    /// The host as it was written, for hosts that are no name.
    pub text: String,
    /// The host as it was read.
    pub host: OwnedHost,
    /// Where it leads.
    pub addresses: Vec<IpAddr>,
    /// CNAME targets on the way, in order.
    pub chain: Vec<DomainName>,
    /// The plane that asks.
    pub via: Via,
    /// True where the gate stands before the server, wherever that is.
    pub is_in_line: bool,
}

impl Question {
    /// What the judge is given.
    pub fn subject(&self) -> Subject<'_> {
        let hop = if self.is_in_line {
            Hop::InLine
        } else {
            Hop::Resolved { addresses: &self.addresses, chain: &self.chain }
        };
        Subject { host: self.host.borrow(), hop, via: self.via }
    }

    /// The name, where the host is one.
    pub fn name(&self) -> Option<&DomainName> {
        if let OwnedHost::Name(name) = &self.host { Some(name) } else { None }
    }
}

/// A verdict in a few words, for steps and hypotheses.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Brief {
    action: &'static str,
    reason: &'static str,
    rule: &'static str,
}

impl From<&Verdict> for Brief {
    fn from(verdict: &Verdict) -> Self {
        Self { action: verdict.action.label(), reason: verdict.reason.label(), rule: verdict.rule.id() }
    }
}

impl fmt::Display for Brief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.action, self.reason, self.rule)
    }
}

/// A text in both languages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Both {
    /// Chinese.
    pub zh: String,
    /// English.
    pub en: String,
}

impl Both {
    /// The two texts.
    pub fn new(zh: impl Into<String>, en: impl Into<String>) -> Self {
        Self { zh: zh.into(), en: en.into() }
    }
}

/// What the governing row says of time; days as `YYYY-MM-DD`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dates {
    /// 审核通过日期.
    pub filed_on: Option<String>,
    /// Last change of the row.
    pub updated_on: Option<String>,
    /// End of the domain registration.
    pub expires_on: Option<String>,
    /// Last day of provisional access.
    pub provisional_access_until: Option<String>,
}

/// Everything that is said; the report's keys stand at the top.
#[derive(Serialize)]
pub struct Explanation {
    /// The verdict with its evidence.
    #[serde(flatten)]
    pub report: VerdictReport,
    /// The rule in words.
    pub sentence: Both,
    /// `enforce`, `observe` or `off`.
    pub mode: &'static str,
    /// The name as people write it; empty for hosts that are no name.
    pub spelling: String,
    /// The public suffix and why it is one.
    pub suffix: Option<String>,
    /// CNAME targets on the way.
    pub cnames: Vec<String>,
    /// Where each address stands.
    pub places: Vec<Place>,
    /// The procedure up to the line that decided.
    pub steps: Vec<Step>,
    /// Hypotheses that lead to another verdict.
    pub what_would_change_it: Vec<Change>,
    /// What the row says of time; `None` without a row.
    pub dates: Option<Dates>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
}

impl Explanation {
    /// Explains `verdict`, reached for `question` on `view` at `now`; `provider` is our id.
    ///
    /// Cost: a dozen judgements and as many registries of one row, without a copy of the data; no I/O.
    pub fn new(
        view: &View,
        provider: &str,
        question: &Question,
        verdict: &Verdict,
        enforced: bool,
        now: SystemTime,
        notes: Vec<String>,
    ) -> Self {
        let name = question.name().map(DomainName::as_ref);
        let shown = name.map_or_else(|| question.text.clone(), |name| name.to_string());
        let report = VerdictReport::new(view, shown, name, question.addresses.clone(), verdict, enforced);
        let (zh, en) = verdict.rule.sentence();
        let registrable = name.and_then(|name| view.registry.suffixes().registrable(name));
        Self {
            report,
            sentence: Both::new(zh, en),
            mode: view.rules.mode.label(),
            spelling: name.map_or_else(String::new, |name| name.to_unicode()),
            suffix: registrable.and_then(|domain| domain.parent()).map(|suffix| steps::suffix(view, suffix)),
            cnames: question.chain.iter().map(ToString::to_string).collect(),
            places: steps::places(view, question, now),
            steps: steps::steps(view, provider, question, verdict, now),
            what_would_change_it: what_if::changes(view, provider, question, verdict, now),
            dates: verdict.filing.map(|id| dates(view, id)),
            notes,
        }
    }
}

fn dates(view: &View, id: crate::registry::FilingId) -> Dates {
    let row = view.registry.filing(id);
    let text = |day: Option<crate::model::Day>| day.map(|day| day.to_string());
    Dates {
        filed_on: text(row.filed_on),
        updated_on: text(row.updated_on),
        expires_on: text(row.expires_on),
        provisional_access_until: text(row.provisional_access_until),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_inside_labels_are_read() {
        let name = escaped_name("evil\\.here.cn.").expect("a name");
        assert_eq!(name.as_ref().labels().collect::<Vec<_>>(), [&b"evil.here"[..], b"cn"]);
        assert!(escaped_name("a\\").is_none());
        assert!(matches!(OwnedHost::read("0x7f.1"), OwnedHost::Address(_)));
        assert!(matches!(OwnedHost::read("a b"), OwnedHost::Invalid));
    }
}
