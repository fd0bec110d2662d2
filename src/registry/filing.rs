//! One row of the registry with everything the operator wrote.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{Day, DomainName, Facts, OriginSide, Status};

/// A row, parsed.
#[derive(Clone, Debug)]
pub struct Filing {
    /// The registrable domain.
    pub domain: DomainName,
    /// 网站备案号, canonical.
    pub site_no: Option<String>,
    /// 主体备案号, canonical.
    pub subject_no: Option<String>,
    /// Provider ids that give access (接入商).
    pub access: Vec<String>,
    /// The row's state.
    pub status: Status,
    /// 主办单位.
    pub subject: Option<String>,
    /// 性质.
    pub subject_type: Option<String>,
    /// One-character province.
    pub province: Option<String>,
    /// 网站名称.
    pub site_name: Option<String>,
    /// Category.
    pub category: Option<String>,
    /// Approval document.
    pub approval: Option<String>,
    /// 审核通过日期.
    pub filed_on: Option<Day>,
    /// Last change.
    pub updated_on: Option<Day>,
    /// End of the domain registration.
    pub expires_on: Option<Day>,
    /// Provisional access, last day.
    pub provisional_access_until: Option<Day>,
    /// 限制接入.
    pub restricted: bool,
    /// Real-name verification.
    pub real_name: Option<bool>,
    /// Filed at the local authority for a bare address.
    pub ip_filed: bool,
    /// Addresses or prefixes for `bind-check`.
    pub addresses: Vec<IpNet>,
    /// Provider id of the origin site (OSS rule).
    pub origin: Option<String>,
    /// 备案服务号.
    pub service_code: Option<String>,
    /// Account.
    pub account: Option<String>,
    /// Registrar.
    pub registrar: Option<String>,
    /// Where the row came from, as the operator says.
    pub source: Option<String>,
    /// File the row stands in.
    pub file: std::sync::Arc<str>,
    /// Its line, from 1.
    pub line: u32,
}

impl Filing {
    /// An active row with no number and nobody's access; the base of tables in tests and of parsers.
    pub fn new(domain: DomainName) -> Self {
        Self {
            domain,
            site_no: None,
            subject_no: None,
            access: Vec::new(),
            status: Status::Active,
            subject: None,
            subject_type: None,
            province: None,
            site_name: None,
            category: None,
            approval: None,
            filed_on: None,
            updated_on: None,
            expires_on: None,
            provisional_access_until: None,
            restricted: false,
            real_name: None,
            ip_filed: false,
            addresses: Vec::new(),
            origin: None,
            service_code: None,
            account: None,
            registrar: None,
            source: None,
            file: "".into(),
            line: 0,
        }
    }

    /// The part verdicts read, as `provider` sees it.
    pub fn facts(&self, provider: &str) -> Facts {
        Facts {
            status: self.status,
            accessed_here: self.access.iter().any(|id| id == provider),
            access_is_empty: self.access.is_empty(),
            restricted: self.restricted,
            provisional_until: self.provisional_access_until,
            expires_on: self.expires_on,
            origin: match &self.origin {
                None => OriginSide::Unknown,
                Some(id) if id == provider => OriginSide::Ours,
                Some(_) => OriginSide::Other,
            },
        }
    }

    /// True when the row lists addresses and none of `forms`, which are one address in all its forms, is among them.
    pub fn is_unbound(&self, forms: &[IpAddr]) -> bool {
        let is_listed = |form: &IpAddr| self.addresses.iter().any(|net| net.contains(form));
        !self.addresses.is_empty() && !forms.iter().any(is_listed)
    }
}
