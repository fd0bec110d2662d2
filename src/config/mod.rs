//! Configuration: text → `Spec` → [`Config`], which is the settings of every layer.

use crate::ops::{AdminSettings, FaultSettings, JournalSettings};
use crate::{dns, http, policy, ranges, registry};

/// The settings of every layer, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the page says of the provider.
    pub provider: http::settings::ProviderText,
    /// The policy.
    pub rules: policy::Rules,
    /// The registry.
    pub registry: registry::Settings,
    /// The ranges.
    pub ranges: ranges::Settings,
    /// The DNS plane.
    pub dns: dns::Settings,
    /// The HTTP plane.
    pub http: http::Settings,
    /// The admin listener.
    pub admin: AdminSettings,
    /// The journal.
    pub journal: JournalSettings,
    /// The fail-mode contract.
    pub faults: FaultSettings,
}
