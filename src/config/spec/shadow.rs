//! `[shadow]`: what judges beside the live data and decides nothing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[shadow]`. Whatever is not set is the live one's; with nothing set there is no shadow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ShadowSpec {
    /// Registry files or directories, as registry.paths; [] for the live registry.
    pub registry_paths: Vec<String>,
    /// Lists of mainland prefixes, as ranges.mainland; [] for the live ones.
    pub mainland: Vec<String>,
    /// Tag tables, as ranges.tags; [] for the live ones.
    pub tags: Vec<String>,
    /// CNAME-suffix tables, as ranges.cnames; [] for the live ones.
    pub cnames: Vec<String>,
    /// Compare the address reached with the row's `addresses`.
    pub bind_check: SwitchWord,
    /// As policy.ip-site.
    pub ip_site: IpSiteWord,
    /// As policy.foreign-mainland.
    pub foreign_mainland: ForeignMainlandWord,
    /// As policy.expired.
    pub expired: ExpiredWord,
    /// Judge as if policy.exempt and policy.non-web were empty.
    pub without_exemptions: bool,
}

/// A switch that may follow the live one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SwitchWord {
    /// As the live one.
    #[default]
    Live,
    /// Off.
    Off,
    /// On.
    On,
}

/// `shadow.ip-site`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IpSiteWord {
    /// Let through.
    Allow,
    /// Blocked with its own prompt.
    Block,
    /// As the live one.
    #[default]
    Live,
    /// Reported, let through.
    Observe,
}

/// `shadow.foreign-mainland`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ForeignMainlandWord {
    /// Not judged.
    Ignore,
    /// As the live one.
    #[default]
    Live,
    /// Reported, let through.
    Observe,
    /// A filing anywhere is required.
    RequireFiled,
}

/// `shadow.expired`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExpiredWord {
    /// The name counts as unfiled from the day after.
    Block,
    /// As the live one.
    #[default]
    Live,
    /// A finding only.
    Report,
}
