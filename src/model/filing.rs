//! The part of a filing that verdicts read: status, access, dates. The full row lives in the registry's cold columns.

use serde::{Deserialize, Serialize};

use super::Day;

/// The state a row of the registry is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Filed and in force.
    #[default]
    Active,
    /// 注销: the number is gone.
    Cancelled,
    /// No longer in force, by the authority.
    Expired,
    /// 审核中: submitted, not yet approved; counts as unfiled (rule N5).
    Pending,
    /// 驳回: refused; counts as unfiled.
    Rejected,
}

impl Status {
    /// Every status with its spelling and its Chinese alias.
    pub const ALL: [(Self, &'static str, &'static str); 5] = [
        (Self::Active, "active", "正常"),
        (Self::Cancelled, "cancelled", "注销"),
        (Self::Expired, "expired", "过期"),
        (Self::Pending, "pending", "审核中"),
        (Self::Rejected, "rejected", "驳回"),
    ];

    /// Reads a spelling; empty means active.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::Active);
        }
        Self::ALL.iter().find(|(_, name, alias)| *name == text || *alias == text).map(|&(status, _, _)| status)
    }

    /// The spelling in files, metrics and JSON.
    pub fn label(self) -> &'static str {
        Self::ALL.iter().find(|&&(status, _, _)| status == self).map_or("active", |&(_, name, _)| name)
    }
}

/// Where the origin site behind object storage runs (seed section 2.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OriginSide {
    /// At another provider.
    Other,
    /// At this provider.
    Ours,
    /// Nobody said.
    #[default]
    Unknown,
}

/// What a verdict needs to know of a filing; small enough to copy out of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The row's state.
    pub status: Status,
    /// True when this provider is in the row's access set.
    pub accessed_here: bool,
    /// True when the access set is empty (空壳).
    pub access_is_empty: bool,
    /// 限制接入: nobody may serve it.
    pub restricted: bool,
    /// Last day on which provisional access holds (rule AMB-12), that day included.
    pub provisional_until: Option<Day>,
    /// End of the domain's registration.
    pub expires_on: Option<Day>,
    /// Where the row says its object-storage origin is.
    pub origin: OriginSide,
}
