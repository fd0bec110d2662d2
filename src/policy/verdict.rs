//! What a judgement says: action, reason, rule and the evidence, all closed types that carry no text.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;
use siphasher::sip::SipHasher13;
use std::hash::{Hash, Hasher};

use crate::model::NameRef;
use crate::ranges::RangeMatch;
use crate::registry::FilingId;

/// Whether the name may lead where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Pass.
    Allow,
    /// Answer with the page or a refusal.
    Block,
}

impl Action {
    /// The label in metrics and JSON.
    pub fn label(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block => "block",
        }
    }
}

/// Why. The order is the precedence: of several addresses' reasons the greatest decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Not a mainland server (N2).
    NotMainland,
    /// Marked as no web service (AMB-15).
    NonWeb,
    /// Under a suffix the operator exempted.
    Exempt,
    /// Another provider's mainland server, and the operator does not judge those (AMB-18).
    NotOurs,
    /// Filed, and the product needs no access at this provider (A.4).
    ProductExempt,
    /// Filed as needed.
    Filed,
    /// Has a number, not accessed here (B2).
    NotAccessed,
    /// No number (B1).
    NotFiled,
    /// The filing lists its addresses and this is none of them.
    NotBound,
    /// 限制接入.
    Restricted,
    /// An IP literal (N4).
    IpSite,
    /// No host name at all.
    InvalidName,
}

impl Reason {
    /// Every reason, in order; also the closed set of metric labels.
    pub const ALL: [Self; 12] = [
        Self::NotMainland,
        Self::NonWeb,
        Self::Exempt,
        Self::NotOurs,
        Self::ProductExempt,
        Self::Filed,
        Self::NotAccessed,
        Self::NotFiled,
        Self::NotBound,
        Self::Restricted,
        Self::IpSite,
        Self::InvalidName,
    ];

    /// The label in metrics, JSON, EDE text and headers.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotMainland => "not_mainland",
            Self::NonWeb => "non_web",
            Self::Exempt => "exempt",
            Self::NotOurs => "not_ours",
            Self::ProductExempt => "product_exempt",
            Self::Filed => "filed",
            Self::NotAccessed => "not_accessed",
            Self::NotFiled => "not_filed",
            Self::NotBound => "not_bound",
            Self::Restricted => "restricted",
            Self::IpSite => "ip_site",
            Self::InvalidName => "invalid_name",
        }
    }

    /// What this reason asks for.
    pub fn action(self) -> Action {
        if self < Self::NotAccessed { Action::Allow } else { Action::Block }
    }

    /// The position in [`Reason::ALL`], for counters.
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// The entry of the rule book that decided; `id` and `source` are what `explain` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// AMB-8: the acceleration region decides, not the address.
    Amb8,
    /// AMB-12: provisional access holds.
    Amb12,
    /// AMB-15: no web service.
    Amb15,
    /// AMB-17: 空壳.
    Amb17,
    /// AMB-18: another provider's mainland address.
    Amb18,
    /// B1: file first.
    B1,
    /// B2: add us as access provider.
    B2,
    /// B5: the number was deregistered.
    B5,
    /// Bind check.
    BindCheck,
    /// An operator's exemption.
    Exempt,
    /// A name that is none.
    Invalid,
    /// N1: filed, mainland, web.
    N1,
    /// N2: not mainland.
    N2,
    /// N4: a site by bare address.
    N4,
    /// N5: not open before success.
    N5,
    /// A.4, CDN.
    ProductCdn,
    /// A.4, anti-DDoS.
    ProductDdos,
    /// A.4, object storage.
    ProductOss,
    /// A.4, firewall.
    ProductWaf,
    /// Restricted by the authority.
    Restricted,
    /// S1: the parent's filing covers the name below.
    S1,
}

impl Rule {
    /// The id in the rule book.
    pub fn id(self) -> &'static str {
        self.text().0
    }

    /// Where the rule comes from, as it is cited.
    pub fn source(self) -> &'static str {
        self.text().1
    }

    /// The rule in one sentence, Chinese then English.
    pub fn sentence(self) -> (&'static str, &'static str) {
        let (_, _, zh, en) = self.text();
        (zh, en)
    }

    fn text(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::Amb8 => (
                "AMB-8",
                "seed §2.4",
                "加速区域决定是否需要备案",
                "the acceleration region decides, not the address returned",
            ),
            Self::Amb12 => ("AMB-12", "seed §2.7", "临时接入在有效期内", "provisional access holds until its date"),
            Self::Amb15 => ("AMB-15", "seed §2.1", "该名称不提供 Web 服务", "the name is marked as no web service"),
            Self::Amb17 => (
                "AMB-17",
                "seed §2.7",
                "空壳网站：有备案号，无接入信息",
                "numbered, but no access provider holds it (shell)",
            ),
            Self::Amb18 => (
                "AMB-18",
                "seed §1",
                "其他接入商的内地地址",
                "a mainland address of another provider: a filing anywhere is asked for",
            ),
            Self::B1 => ("B1", "seed §1", "请先完成备案", "no filing anywhere: file first"),
            Self::B2 => (
                "B2",
                "seed §1",
                "请将备案信息接入本接入商",
                "filed through another provider: add this one as access provider",
            ),
            Self::B5 => ("B5", "seed §3", "备案已注销", "the filing was deregistered: file again"),
            Self::BindCheck => (
                "D-H23",
                "interception D.2",
                "备案登记的地址与访问地址不符",
                "the filing lists its addresses and this is none of them",
            ),
            Self::Exempt => ("EXEMPT", "policy.exempt", "运营者已豁免该后缀", "the operator exempted this suffix"),
            Self::Invalid => ("INVALID", "RFC 1035 §2.3.1", "不是有效的主机名", "not a host name"),
            Self::N1 => ("N1", "seed §1, §2.7", "已备案并已接入", "filed and accessed here"),
            Self::N2 => ("N2", "seed §2.1, §2.7", "服务器不在中国内地", "no mainland server: no filing needed"),
            Self::N4 => (
                "N4",
                "seed §2.1",
                "通过 IP 访问的网站需由当地管局备案",
                "a site by bare address is filed at the local authority",
            ),
            Self::N5 => {
                ("N5", "seed §2.1", "备案审核中，成功前不得开通", "the filing has not succeeded yet: not open before")
            }
            Self::ProductCdn => {
                ("A.4-CDN", "seed §2.4", "CDN 加速域名需备案，无需接入", "CDN: a filing is needed, access here is not")
            }
            Self::ProductDdos => (
                "A.4-DDOS",
                "seed §2.6",
                "DDoS 高防需备案，无需接入",
                "anti-DDoS front: a filing is needed, access here is not",
            ),
            Self::ProductOss => (
                "A.4-OSS",
                "seed §2.3",
                "OSS 源站不在本接入商，不强制接入",
                "object storage with its origin elsewhere: access here is not needed",
            ),
            Self::ProductWaf => {
                ("A.4-WAF", "seed §2.5", "WAF 需备案，无需接入", "firewall: a filing is needed, access here is not")
            }
            Self::Restricted => {
                ("RESTRICTED", "seed §4", "该域名被限制接入", "the authority restricts access to this name")
            }
            Self::S1 => (
                "S1",
                "seed §2.7",
                "主域名备案覆盖其子域名",
                "the filing of the registrable domain covers every name below",
            ),
        }
    }
}

/// The decision with its evidence. `Copy`, no text: a plane renders what it needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Pass or not.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// By which rule.
    pub rule: Rule,
    /// False where the reason is only to be reported (`ip-site = "observe"`, `foreign-mainland = "observe"`).
    pub enforceable: bool,
    /// How many octets of the name stand before its registrable domain; `None` without one.
    pub registrable_at: Option<u8>,
    /// The row that governs the name.
    pub filing: Option<FilingId>,
    /// The address that decided.
    pub address: Option<IpAddr>,
    /// What the ranges say of that address or CNAME suffix.
    pub range: Option<RangeMatch>,
    /// True when some addresses of the answer need no filing: `mixed-answer = "strip"` applies.
    pub mixed: bool,
    /// The registry's generation.
    pub registry_generation: u64,
    /// The ranges' generation.
    pub ranges_generation: u64,
}

impl Verdict {
    /// True for a block that is to be carried out when the mode says so.
    pub fn blocks(&self) -> bool {
        self.action == Action::Block && self.enforceable
    }

    /// The registrable domain inside `name`, the name this verdict was reached for.
    pub fn registrable<'a>(&self, name: NameRef<'a>) -> Option<NameRef<'a>> {
        let at = usize::from(self.registrable_at?);
        name.wire().get(at..).map(NameRef::from_canonical_wire)
    }

    /// The decision id for `name`: the same on every plane and node that judged the same thing on the same data.
    pub fn id(&self, name: NameRef<'_>) -> DecisionId {
        // Fixed key: ids must agree between nodes; nothing trusts them.
        let mut hasher = SipHasher13::new_with_keys(0x6963_7067_6174_6531, 0x6465_6369_7369_6f6e);
        // The registrable domain rather than the whole name: the page and the DNS answer of one site share it.
        self.registrable(name).unwrap_or(name).wire().hash(&mut hasher);
        (self.reason as u8, self.registry_generation, self.ranges_generation).hash(&mut hasher);
        DecisionId(hasher.finish())
    }
}

/// A short id that ties page, EDE, journal and log of one decision together: 13 characters of Crockford base 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DecisionId(pub u64);

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let digits: [u8; 13] = std::array::from_fn(|i| ALPHABET[(self.0 >> (5 * (12 - i))) as usize & 31]);
        f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}
