//! The rules an operator can set; the book itself is in [`super::judge()`].

use crate::model::DomainName;

/// Whether verdicts change what is on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Verdicts are carried out.
    #[default]
    Enforce,
    /// Verdicts are reached and reported in the same way, and nothing is changed on the wire.
    Observe,
    /// No verdict is reached; the planes forward as they find. For comparisons and emergencies.
    Off,
}

impl Mode {
    /// The spelling in the configuration and the status.
    pub fn label(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
            Self::Off => "off",
        }
    }
}

/// What to do with a host that is an IP literal (rule N4, AMB-3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpSite {
    /// Let it through.
    Allow,
    /// Block with its own prompt.
    #[default]
    Block,
    /// Report a block and let it through.
    Observe,
}

/// What a mainland address of another provider asks for (rule AMB-18).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForeignMainland {
    /// Nothing: not ours to judge.
    Ignore,
    /// Report what a filing requirement would say and let it through.
    Observe,
    /// A filing anywhere.
    #[default]
    RequireFiled,
}

/// What to do with an answer of mainland and other addresses for a name that may not lead to the mainland (AMB-16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MixedAnswer {
    /// Block the whole answer.
    #[default]
    Block,
    /// Take the mainland addresses out of it.
    Strip,
}

/// What a domain registration past its end means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpiredPolicy {
    /// The name counts as unfiled from the day after.
    Block,
    /// A finding only.
    #[default]
    Report,
}

/// One entry of the exempt list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exempt {
    /// The name and everything below it is never judged.
    pub suffix: DomainName,
    /// Why; shown by `explain`.
    pub why: String,
}

/// Checked policy settings; immutable once published.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Whether verdicts are carried out.
    pub mode: Mode,
    /// IP literals.
    pub ip_site: IpSite,
    /// Other providers' mainland addresses.
    pub foreign_mainland: ForeignMainland,
    /// Answers of both kinds.
    pub mixed_answer: MixedAnswer,
    /// Registrations past their end.
    pub expired: ExpiredPolicy,
    /// Suffixes never judged.
    pub exempt: Vec<Exempt>,
    /// Names (and names below) whose addresses are not web services.
    pub non_web: Vec<DomainName>,
}
