//! What would change a verdict: the same judgement on facts that differ in one point.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::{Brief, Question};
use crate::model::{Hop, NameRef, OriginSide, Product, Region, Status, Subject};
use crate::policy::{Reason, Verdict, View};
use crate::ranges::{RangeRow, Ranges};
use crate::registry::{Filing, Snapshot};

/// An id no provider has: blanks are refused in the registry.
const SOMEBODY_ELSE: &str = "another provider";
/// A number for rows that do not exist; verdicts do not look at it.
const SOME_NUMBER: &str = "京ICP备2020999900号-1";

/// One hypothesis that leads to another verdict.
#[derive(Serialize)]
pub struct Change {
    /// What would have to be so.
    pub with: &'static str,
    /// The same in Chinese.
    pub with_zh: &'static str,
    /// The verdict then.
    pub verdict: Brief,
}

/// A hypothesis in English and in Chinese.
type With = (&'static str, &'static str);

const ABROAD: With = ("the name on servers outside the mainland alone", "该域名只解析到内地以外的服务器");
const ACCELERATED: With =
    ("the name behind a CDN, WAF or anti-DDoS product of ours", "该域名使用本接入商的 CDN、WAF 或 DDoS 高防");
const ACCESS_HERE: With = ("access here (接入备案)", "在本接入商完成接入备案");
const APPROVED: With = ("the filing approved", "备案审核通过");
const DEREGISTERED: With = ("the site deregistered (注销网站)", "注销网站");
const FILED_AGAIN: With = ("a new filing with access here", "在本接入商重新备案");
const FILED_ELSEWHERE: With = ("a filing through another provider", "在其他接入商完成备案");
const FILED_HERE: With = ("a filing with access here (首次备案)", "在本接入商完成首次备案");
const LIFTED: With = ("the restriction lifted", "解除限制接入");
const NO_ACCESS: With = ("access here cancelled (取消接入)", "取消在本接入商的接入");
const ON_MAINLAND: With = ("the name on a mainland server of ours", "该域名解析到本接入商的内地服务器");

/// `view` with a registry that holds `row` alone.
pub fn with_row(view: &View, provider: &str, row: Option<Filing>) -> View {
    let suffixes = view.registry.shared_suffixes();
    let registry = Snapshot::build(view.registry.generation(), suffixes, provider, false, row.into_iter().collect());
    View { registry: Arc::new(registry), ..view.clone() }
}

/// A filing of `domain` through somebody else.
pub fn elsewhere(domain: NameRef<'_>) -> Filing {
    Filing {
        site_no: Some(SOME_NUMBER.to_owned()),
        access: vec![SOMEBODY_ELSE.to_owned()],
        ..Filing::new(domain.to_name())
    }
}

/// Every hypothesis whose verdict differs from `verdict` in action or reason.
pub fn changes(view: &View, provider: &str, question: &Question, verdict: &Verdict, now: SystemTime) -> Vec<Change> {
    let mut res = Vec::new();
    let mut consider = |(with, with_zh): With, hypothetical: Verdict| {
        if (hypothetical.action, hypothetical.reason) != (verdict.action, verdict.reason) {
            res.push(Change { with, with_zh, verdict: Brief::from(&hypothetical) });
        }
    };
    if matches!(verdict.reason, Reason::Exempt | Reason::InvalidName | Reason::NonWeb) {
        return res;
    }
    let subject = question.subject();
    let domain = question.name().and_then(|name| view.registry.suffixes().registrable(name.as_ref()));
    if let Some(domain) = domain {
        let row = verdict.filing.map(|id| view.registry.filing(id));
        for (with, row) in rows(provider, domain, row.as_ref()) {
            consider(with, with_row(view, provider, row).judge(&subject, now));
        }
    }
    if verdict.reason == Reason::NotAccessed {
        let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
        let hop = Hop::Resolved { addresses: &addresses, chain: &[] };
        let ranges = Arc::new(one_product(view, provider, addresses[0]));
        let behind = View { ranges, ..view.clone() };
        consider(ACCELERATED, behind.judge(&Subject { hop, ..subject }, now));
    }
    if !question.is_in_line || question.name().is_some() {
        let abroad = View { ranges: Arc::new(Ranges::empty()), ..view.clone() };
        let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
        let hop = Hop::Resolved { addresses: &addresses, chain: &[] };
        consider(ABROAD, abroad.judge(&Subject { hop, ..subject }, now));
    }
    if verdict.reason == Reason::NotMainland {
        consider(ON_MAINLAND, view.judge(&Subject { hop: Hop::InLine, ..subject }, now));
    }
    res
}

/// The rows a life-cycle event could lead to from `row` (rules A.5).
fn rows(provider: &str, domain: NameRef<'_>, row: Option<&Filing>) -> Vec<(With, Option<Filing>)> {
    let here = |row: &Filing| {
        let mut access = row.access.clone();
        access.push(provider.to_owned());
        Filing { status: Status::Active, access, ..row.clone() }
    };
    let Some(row) = row else {
        let filed = elsewhere(domain);
        return vec![
            (FILED_HERE, Some(here(&Filing { access: Vec::new(), ..filed.clone() }))),
            (FILED_ELSEWHERE, Some(filed)),
        ];
    };
    let mut res = Vec::new();
    let is_here = row.access.iter().any(|id| id == provider);
    if row.restricted {
        res.push((LIFTED, Some(Filing { restricted: false, ..row.clone() })));
    }
    match row.status {
        Status::Active if is_here => {
            let access: Vec<String> = row.access.iter().filter(|id| *id != provider).cloned().collect();
            let without = Filing { access, provisional_access_until: None, ..row.clone() };
            res.push((NO_ACCESS, Some(without)));
        }
        Status::Active => res.push((ACCESS_HERE, Some(here(row)))),
        Status::Pending | Status::Rejected => {
            res.push((APPROVED, Some(Filing { status: Status::Active, ..row.clone() })));
        }
        Status::Cancelled | Status::Expired => res.push((FILED_AGAIN, Some(here(row)))),
    }
    if row.status == Status::Active {
        let cancelled = Filing { status: Status::Cancelled, ..row.clone() };
        res.push((DEREGISTERED, Some(cancelled)));
    }
    res
}

/// A table in which `addr` is a product of ours that needs no access.
fn one_product(view: &View, provider: &str, addr: IpAddr) -> Ranges {
    let row = RangeRow {
        prefix: addr.into(),
        region: Region::Mainland,
        provider: Some(provider.to_owned()),
        product: Product::Cdn,
        origin: OriginSide::Unknown,
    };
    Ranges::build(view.ranges.generation(), provider, vec![row], Vec::new(), Vec::new())
}
