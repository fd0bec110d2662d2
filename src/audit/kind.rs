//! The kinds of findings, and what reports say of each.

use serde::Serialize;

/// A kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Leads here and has no filing.
    NeverFiled,
    /// Leads here while its filing is being looked at (rule R18).
    PendingOpen,
    /// Leads here, filed through others only.
    FiledElsewhere,
    /// Leads here and is blocked for another reason.
    Blocked,
    /// Stands on an origin's certificate beside others, without a filing.
    OnCertificate,
    /// The domain's registration has ended.
    Expired,
    /// Filed here, leads elsewhere.
    ShellAway,
    /// Filed here, leads nowhere.
    ShellDead,
    /// Numbered, and nobody gives access (空壳).
    Shell,
    /// Leads to another provider's mainland network and has no filing (AMB-18).
    NeverFiledOther,
    /// Nobody could say where it leads.
    Unknown,
}

/// What reports say of a kind.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// The label in reports and gauges.
    pub label: &'static str,
    /// In Chinese.
    pub title_zh: &'static str,
    /// In English.
    pub title_en: &'static str,
    /// What to do, in Chinese.
    pub advice_zh: &'static str,
    /// What to do, in English.
    pub advice_en: &'static str,
}

impl Kind {
    /// Every kind, the gravest first.
    pub const ALL: [Self; 11] = [
        Self::NeverFiled,
        Self::PendingOpen,
        Self::FiledElsewhere,
        Self::Blocked,
        Self::OnCertificate,
        Self::Expired,
        Self::ShellAway,
        Self::ShellDead,
        Self::Shell,
        Self::NeverFiledOther,
        Self::Unknown,
    ];

    /// What reports say of it.
    pub fn about(self) -> About {
        let [label, title_zh, title_en, advice_zh, advice_en] = match self {
            Self::NeverFiled => [
                "never_filed",
                "未备案，已指向本网络",
                "No filing, leads to our network",
                "通知用户备案；备案前保持阻断",
                "Ask the owner to file; keep it blocked until then",
            ],
            Self::PendingOpen => [
                "pending_open",
                "审核期间已开通访问",
                "Open while the filing is under review",
                "请用户先关闭网站：审核期间开通可能被驳回",
                "Ask the owner to close the site: a filing may be refused over it",
            ],
            Self::FiledElsewhere => [
                "filed_elsewhere",
                "已备案，未在本接入商接入",
                "Filed, without access through us",
                "通知用户办理接入备案",
                "Ask the owner to add us as an access provider",
            ],
            Self::Blocked => [
                "blocked",
                "因其他原因阻断",
                "Blocked for another reason",
                "用 icpgate explain 查看原因",
                "See why with icpgate explain",
            ],
            Self::OnCertificate => [
                "on_certificate",
                "源站证书包含未备案域名",
                "On an origin's certificate without a filing",
                "从证书中移除该域名或办理备案：浏览器会复用同证书连接",
                "Take it off the certificate or file it: browsers reuse connections within a certificate",
            ],
            Self::Expired => [
                "expired",
                "域名注册已到期",
                "The domain's registration has ended",
                "核实域名是否续费或易主，必要时注销备案",
                "See whether it was renewed or changed hands; deregister if need be",
            ],
            Self::ShellAway => [
                "shell_away",
                "已接入，但解析不在本网络",
                "Filed through us, leads elsewhere",
                "要求用户将解析改回或取消接入，否则有空壳注销风险",
                "Ask the owner to point it back or cancel access: it may be deregistered as a shell",
            ],
            Self::ShellDead => [
                "shell_dead",
                "已接入，但没有解析",
                "Filed through us, leads nowhere",
                "核实网站是否仍在使用，否则取消接入",
                "See whether the site is still wanted; cancel access otherwise",
            ],
            Self::Shell => [
                "shell",
                "空壳：有备案号，无接入商",
                "A shell: numbered, nobody gives access",
                "补办接入备案或注销",
                "Add an access provider or deregister",
            ],
            Self::NeverFiledOther => [
                "never_filed_other",
                "未备案，指向其他接入商的内地网络",
                "No filing, leads to another provider's mainland network",
                "由其接入商处理；本网关按 policy.foreign-mainland 应答",
                "For that provider to act on; policy.foreign-mainland says what is answered here",
            ],
            Self::Unknown => [
                "unknown",
                "解析失败，无法判断",
                "Nobody could say where it leads",
                "稍后重试，或换用其他解析服务器",
                "Try again later, or with other resolvers",
            ],
        };
        About { label, title_zh, title_en, advice_zh, advice_en }
    }

    /// False for what could not be found out, and for what another provider is to act on.
    pub fn counts(self) -> bool {
        !matches!(self, Self::NeverFiledOther | Self::Unknown)
    }
}

impl Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.about().label)
    }
}
