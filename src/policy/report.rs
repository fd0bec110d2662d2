//! A verdict as JSON: `explain --json`, `GET /v1/verdict` and journal lines share this shape.

use std::net::IpAddr;

use serde::Serialize;

use super::verdict::Verdict;
use super::view::View;
use crate::model::NameRef;
use crate::registry::FilingId;

/// The row that governed, as shown.
#[derive(Clone, Debug, Serialize)]
pub struct FilingReport {
    /// 网站备案号, where the row has one.
    pub site_no: Option<String>,
    /// 接入商.
    pub access: Vec<String>,
    /// The row's state.
    pub status: &'static str,
    /// The file the row stands in.
    pub file: String,
    /// Its line, from 1.
    pub line: u32,
}

impl FilingReport {
    /// Renders a row of `view`.
    pub fn new(view: &View, id: FilingId) -> Self {
        let filing = view.registry.filing(id);
        Self {
            site_no: filing.site_no,
            access: filing.access,
            status: filing.status.label(),
            file: filing.file.to_string(),
            line: filing.line,
        }
    }
}

/// The range that decided, as shown.
#[derive(Clone, Debug, Serialize)]
pub struct RangeReport {
    /// The longest matching prefix.
    pub prefix: String,
    /// Where it stands.
    pub region: &'static str,
    /// Whose it is, where known.
    pub provider: Option<String>,
    /// What stands there.
    pub product: &'static str,
}

/// A verdict rendered with its evidence.
#[derive(Clone, Debug, Serialize)]
pub struct VerdictReport {
    /// The name or address asked for.
    pub name: String,
    /// Its registrable domain.
    pub domain: Option<String>,
    /// `allow` or `block`.
    pub action: &'static str,
    /// Why.
    pub reason: &'static str,
    /// The rule's id.
    pub rule: &'static str,
    /// The rule's source.
    pub source: &'static str,
    /// Where the name leads.
    pub addresses: Vec<IpAddr>,
    /// The range of the address that decided.
    pub range: Option<RangeReport>,
    /// The row.
    pub filing: Option<FilingReport>,
    /// The decision id.
    pub id: String,
    /// `false` in observe mode; absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforced: Option<bool>,
    /// Generations the verdict used.
    pub registry_generation: u64,
    /// See `registry_generation`.
    pub ranges_generation: u64,
}

impl VerdictReport {
    /// Renders `verdict`, reached for `name` (or for the bare host text `shown`) on `view`.
    pub fn new(
        view: &View,
        shown: String,
        name: Option<NameRef<'_>>,
        addresses: Vec<IpAddr>,
        verdict: &Verdict,
        enforced: bool,
    ) -> Self {
        let filing = verdict.filing.map(|id| FilingReport::new(view, id));
        let range = verdict.range.map(|found| RangeReport {
            prefix: found.prefix.to_string(),
            region: found.region.label(),
            provider: view.ranges.provider(found.tag),
            product: found.product.label(),
        });
        Self {
            domain: name.and_then(|n| verdict.registrable(n)).map(|d| d.to_string()),
            name: shown,
            action: verdict.action.label(),
            reason: verdict.reason.label(),
            rule: verdict.rule.id(),
            source: verdict.rule.source(),
            addresses,
            range,
            filing,
            id: name.map_or_else(String::new, |n| verdict.id(n).to_string()),
            enforced: (!enforced).then_some(false),
            registry_generation: verdict.registry_generation,
            ranges_generation: verdict.ranges_generation,
        }
    }
}
