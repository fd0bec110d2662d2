//! What a page has to say: the cause in the visitor's words, and the evidence shown with it.

use super::Slot;
use crate::http::host::HostName;
use crate::model::{NameRef, Status};
use crate::policy::{Reason, Rule, Verdict, View};

/// Why a site is not shown, as a page explains it: a reason of the judge, and the life-cycle state where it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// 注销: the number is gone (B5).
    Cancelled,
    /// No longer in force.
    Expired,
    /// No host name at all.
    InvalidName,
    /// A site by bare address (N4).
    IpSite,
    /// Filed through another provider (B2).
    NotAccessed,
    /// The filing lists its addresses and this is none of them.
    NotBound,
    /// No filing (B1).
    NotFiled,
    /// 审核中 (N5).
    Pending,
    /// 驳回.
    Rejected,
    /// 限制接入.
    Restricted,
    /// 空壳: numbered, and nobody gives access (AMB-17).
    Shell,
}

impl Cause {
    /// Every cause with its key in the catalogues.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::Cancelled, "cancelled"),
        (Self::Expired, "expired"),
        (Self::InvalidName, "invalid-name"),
        (Self::IpSite, "ip-site"),
        (Self::NotAccessed, "not-accessed"),
        (Self::NotBound, "not-bound"),
        (Self::NotFiled, "not-filed"),
        (Self::Pending, "pending"),
        (Self::Rejected, "rejected"),
        (Self::Restricted, "restricted"),
        (Self::Shell, "shell"),
    ];

    /// The key in the catalogues; also the class in the page's style.
    pub fn key(self) -> &'static str {
        Self::ALL.iter().find(|&&(cause, _)| cause == self).map_or("not-filed", |&(_, key)| key)
    }

    /// The cause of a block.
    fn of(verdict: &Verdict, view: &View) -> Self {
        let facts = verdict.filing.map(|id| view.registry.facts(id));
        match verdict.reason {
            Reason::NotAccessed if facts.is_some_and(|facts| facts.access_is_empty) => Self::Shell,
            Reason::NotAccessed => Self::NotAccessed,
            Reason::NotBound => Self::NotBound,
            Reason::Restricted => Self::Restricted,
            Reason::IpSite => Self::IpSite,
            Reason::InvalidName => Self::InvalidName,
            _ => match facts.map(|facts| facts.status) {
                None => Self::NotFiled,
                // Active and yet unfiled: its registration has ended and the policy counts that.
                Some(Status::Active | Status::Expired) => Self::Expired,
                Some(Status::Cancelled) => Self::Cancelled,
                Some(Status::Pending) => Self::Pending,
                Some(Status::Rejected) => Self::Rejected,
            },
        }
    }
}

/// A name of which a page says nothing that its verdict does not tell, but for the name itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpenName {
    /// It is below its registrable domain.
    Below,
    /// It is one: pages say less then.
    Registrable,
    /// It has none.
    WithoutDomain,
}

impl OpenName {
    /// The kind of a name; `None` for one that has a row, or is shown other than it is asked for.
    pub fn of(verdict: &Verdict, name: NameRef<'_>) -> Option<Self> {
        let is_plain = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
        let is_shown_as_it_is = |label: &[u8]| !label.starts_with(b"xn--") && label.iter().all(is_plain);
        if verdict.filing.is_some() || name.is_root() || !name.labels().all(is_shown_as_it_is) {
            return None;
        }
        Some(match verdict.registrable(name) {
            None => Self::WithoutDomain,
            Some(domain) if domain == name => Self::Registrable,
            Some(_) => Self::Below,
        })
    }
}

/// Everything a page shows of one decision but the time and the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Why.
    pub cause: Cause,
    /// The judge's reason.
    pub reason: Reason,
    /// The rule that decided.
    pub rule: Rule,
    /// The host as people write it.
    pub name: String,
    /// The host in ASCII, where that differs.
    pub name_ascii: Option<String>,
    /// The registrable domain, as people write it.
    pub domain: Option<String>,
    /// The registrable domain in ASCII.
    pub domain_ascii: Option<String>,
    /// The decision id, of names.
    pub id: Option<String>,
    /// 备案号, where the row has one.
    pub site_no: Option<String>,
    /// Providers that hold the filing.
    pub holders: Vec<String>,
}

impl Notice {
    /// What a page says of all names of a kind: name, domain and id are left open.
    pub fn open(verdict: &Verdict, kind: OpenName, view: &View) -> Self {
        let mark = |slot: Slot| slot.mark().to_string();
        let domain = match kind {
            OpenName::Below => Some(mark(Slot::Domain)),
            OpenName::Registrable => Some(mark(Slot::Name)),
            OpenName::WithoutDomain => None,
        };
        Self {
            cause: Cause::of(verdict, view),
            reason: verdict.reason,
            rule: verdict.rule,
            name: mark(Slot::Name),
            name_ascii: None,
            domain: domain.clone(),
            domain_ascii: domain,
            id: Some(mark(Slot::Id)),
            site_no: None,
            holders: Vec::new(),
        }
    }

    /// Collects what a page says of `verdict`, reached for `host` (written as `shown`) on `view`.
    pub fn new(verdict: &Verdict, host: &HostName, shown: &str, view: &View) -> Self {
        let name = host.name().map(|name| name.as_ref());
        let domain = name.and_then(|name| verdict.registrable(name));
        let filing = verdict.filing.map(|id| view.registry.filing(id));
        let text = match host {
            HostName::Address(addr) => addr.to_string(),
            HostName::Invalid => shown.to_owned(),
            HostName::Name(name) => name.as_ref().to_unicode(),
        };
        let ascii = name.map(|name| name.to_string()).filter(|ascii| *ascii != text);
        Self {
            cause: Cause::of(verdict, view),
            reason: verdict.reason,
            rule: verdict.rule,
            name: text,
            name_ascii: ascii,
            domain: domain.map(NameRef::to_unicode),
            domain_ascii: domain.map(|domain| domain.to_string()),
            id: name.map(|name| verdict.id(name).to_string()),
            site_no: filing.as_ref().and_then(|filing| filing.site_no.clone()),
            holders: filing.map(|filing| filing.access).unwrap_or_default(),
        }
    }
}
