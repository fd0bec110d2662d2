//! The configuration as text: one struct a section, keys in kebab-case, unknown keys refused.
//!
//! Everything here is what the operator wrote, unchecked beyond its form; [`super::checks`] turns it into settings. The
//! doc comment of a field is its description in the JSON schema, the `range` its limits, `Default` the only place that
//! knows defaults, and it takes them from the layers' own settings.

pub mod choices;
pub mod dns;
pub mod http;
pub mod shadow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ops::{FaultSettings, JournalWhat};
use crate::policy::Rules;
use crate::ranges;
use crate::registry;
pub use choices::{Encoding, Expired, ForeignMainland, IpSite, Missing, MixedAnswer, Mode, Outcome, UpstreamDown};
pub use dns::DnsSpec;
pub use http::HttpSpec;
pub use shadow::ShadowSpec;

/// The version of this format; the only required key.
pub const VERSION: u64 = 1;
/// Longest time a key can name, so that sums of times cannot overflow: ten years.
pub const SECONDS_MAX: u64 = 315_360_000;

/// A whole configuration file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Spec {
    /// Version of the format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u64,
    /// Who we are.
    pub provider: ProviderSpec,
    /// The filings.
    pub registry: RegistrySpec,
    /// What stands at which address.
    pub ranges: RangesSpec,
    /// How the rule book is read, and what faults do.
    pub policy: PolicySpec,
    /// The DNS plane.
    pub dns: DnsSpec,
    /// The HTTP plane.
    pub http: HttpSpec,
    /// The admin listener.
    pub admin: AdminSpec,
    /// The journal of verdicts.
    pub journal: JournalSpec,
    /// What judges beside the live data and decides nothing.
    pub shadow: ShadowSpec,
    /// Where unfiled domains that are met for the first time are told of.
    pub alert: AlertSpec,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            version: VERSION,
            provider: ProviderSpec::default(),
            registry: RegistrySpec::default(),
            ranges: RangesSpec::default(),
            policy: PolicySpec::default(),
            dns: DnsSpec::default(),
            http: HttpSpec::default(),
            admin: AdminSpec::default(),
            journal: JournalSpec::default(),
            shadow: ShadowSpec::default(),
            alert: AlertSpec::default(),
        }
    }
}

//--- Provider --------------------------------------------------------------------------------------------------------

/// `[provider]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProviderSpec {
    /// Our id in the registry's access sets and in range tags.
    pub id: String,
    /// Our name on the block page.
    pub name: String,
    /// Our own page, named as who blocks (RFC 7725): an http or https URL; "" for none.
    pub url: String,
    /// Where to file: an http or https URL; "" for none.
    pub filing_url: String,
    /// Whom to ask: a mail address, telephone number or URL; "" for none.
    pub contact: String,
}

impl Default for ProviderSpec {
    fn default() -> Self {
        Self {
            id: "self".to_owned(),
            name: String::new(),
            url: String::new(),
            filing_url: String::new(),
            contact: String::new(),
        }
    }
}

//--- Registry --------------------------------------------------------------------------------------------------------

/// `[registry]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RegistrySpec {
    /// Files or directories: *.csv, *.jsonl, *.toml, each also .gz or .zst; *.changes.jsonl are events.
    pub paths: Vec<String>,
    /// File in which the server keeps a compiled copy to start from; "" for none.
    pub snapshot: String,
    /// PEM file of the Ed25519 public key that must have signed it; then the server writes none itself. "" takes any.
    pub snapshot_key: String,
    /// Seconds between two looks at the files, beside the watch.
    #[schemars(range(min = 1, max = 315_360_000))]
    pub poll_seconds: u64,
    /// A reload that loses a greater share of rows is refused.
    #[schemars(range(min = 0, max = 100))]
    pub max_shrink_percent: u8,
    /// A file with more bad rows is refused.
    #[schemars(range(min = 0, max = 20_000_000))]
    pub max_bad_rows: u64,
    /// Encoding of tables without a byte-order mark.
    pub encoding: Encoding,
    /// Public suffix list to use instead of the compiled-in one; "" for that.
    pub suffix_list: String,
    /// Compare the address reached with the row's `addresses`.
    pub bind_check: bool,
    /// Seconds since the files were last read and found good, changed or not, after which the registry counts as old
    /// (policy.on-old-registry); 0 for no limit.
    #[schemars(range(min = 0, max = 315_360_000))]
    pub max_age_seconds: u64,
    /// What `icpgate registry lint` and the gauges of findings compare rows with.
    pub lint: LintSpec,
}

/// `[registry.lint]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LintSpec {
    /// Approved suffixes to use instead of the compiled-in ones; "" for those.
    pub suffixes: String,
    /// Provinces and their limits, likewise.
    pub provinces: String,
    /// Words no site name has, likewise.
    pub naming_words: String,
    /// Categories with rules of their own, likewise.
    pub categories: String,
    /// Approved registrars; "" leaves them unchecked.
    pub registrars: String,
    /// Service codes of one server; 0 where no limit is known.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub codes_per_server: u64,
}

impl Default for RegistrySpec {
    fn default() -> Self {
        let settings = registry::Settings::new("", Vec::new());
        Self {
            paths: Vec::new(),
            snapshot: String::new(),
            snapshot_key: String::new(),
            poll_seconds: settings.poll.as_secs(),
            max_shrink_percent: settings.max_shrink_percent,
            max_bad_rows: settings.max_bad_rows as u64,
            encoding: settings.encoding.into(),
            suffix_list: String::new(),
            bind_check: settings.bind_check,
            max_age_seconds: FaultSettings::default().registry_age_max.map_or(0, |age| age.as_secs()),
            lint: LintSpec::default(),
        }
    }
}

//--- Ranges ----------------------------------------------------------------------------------------------------------

/// `[ranges]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RangesSpec {
    /// Lists of mainland prefixes, one a line.
    pub mainland: Vec<String>,
    /// Tag tables: prefix,region,provider,product,origin.
    pub tags: Vec<String>,
    /// CNAME-suffix tables: cname_suffix,product,region.
    pub cnames: Vec<String>,
    /// NAT64 prefixes beside 64:ff9b::/96, which is always seen through.
    pub nat64: Vec<String>,
    /// Seconds between two looks at the files, beside the watch.
    #[schemars(range(min = 1, max = 315_360_000))]
    pub poll_seconds: u64,
    /// A reload that loses a greater share of addresses is refused.
    #[schemars(range(min = 0, max = 100))]
    pub max_shrink_percent: u8,
}

impl Default for RangesSpec {
    fn default() -> Self {
        let settings = ranges::Settings::new("");
        Self {
            mainland: Vec::new(),
            tags: Vec::new(),
            cnames: Vec::new(),
            nat64: Vec::new(),
            poll_seconds: settings.poll.as_secs(),
            max_shrink_percent: settings.max_shrink_percent,
        }
    }
}

//--- Policy ----------------------------------------------------------------------------------------------------------

/// `[policy]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PolicySpec {
    /// Whether verdicts change what is on the wire.
    pub mode: Mode,
    /// Hosts that are bare addresses (rules N4, AMB-3).
    pub ip_site: IpSite,
    /// Mainland addresses of other providers (rule AMB-18).
    pub foreign_mainland: ForeignMainland,
    /// Answers with mainland and other addresses (rule AMB-16).
    pub mixed_answer: MixedAnswer,
    /// Domain registrations past their end.
    pub expired: Expired,
    /// Suffixes never judged, each with the reason.
    pub exempt: Vec<ExemptSpec>,
    /// Names whose addresses are no web services (rule AMB-15); they and all names below.
    pub non_web: Vec<String>,
    /// No registry could be loaded at start.
    pub on_missing_registry: Missing,
    /// No ranges could be loaded at start.
    pub on_missing_ranges: Missing,
    /// The registry is older than registry.max-age-seconds.
    pub on_old_registry: Outcome,
    /// The time of day jumped by more than clock-jump-max-seconds.
    pub on_clock_jump: Outcome,
    /// Jumps of the time of day up to this many seconds are let pass.
    #[schemars(range(min = 1, max = 315_360_000))]
    pub clock_jump_max_seconds: u64,
    /// No upstream answers.
    pub on_upstream_down: UpstreamDown,
}

impl Default for PolicySpec {
    fn default() -> Self {
        let rules = Rules::default();
        let faults = FaultSettings::default();
        Self {
            mode: rules.mode.into(),
            ip_site: rules.ip_site.into(),
            foreign_mainland: rules.foreign_mainland.into(),
            mixed_answer: rules.mixed_answer.into(),
            expired: rules.expired.into(),
            exempt: Vec::new(),
            non_web: Vec::new(),
            on_missing_registry: faults.on_missing_registry.into(),
            on_missing_ranges: faults.on_missing_ranges.into(),
            on_old_registry: faults.on_old_registry.into(),
            on_clock_jump: faults.on_clock_jump.into(),
            clock_jump_max_seconds: faults.clock_jump_max.as_secs(),
            on_upstream_down: crate::dns::settings::UpstreamDown::default().into(),
        }
    }
}

/// One entry of `policy.exempt`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ExemptSpec {
    /// The name; it and everything below is never judged.
    pub suffix: String,
    /// Why; shown by `explain`.
    pub why: String,
}

//--- Admin and journal -----------------------------------------------------------------------------------------------

/// `[admin]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AdminSpec {
    /// Address and port; "" for no admin listener.
    pub listen: String,
    /// Host names by which browsers may open the console, beside addresses and localhost; others are turned away, since a
    /// page of another site can have its own name resolve to this gate (DNS rebinding).
    pub names: Vec<String>,
    /// File that holds the bearer token; required unless listen is a loopback address or tls.client-ca is set.
    pub token_file: String,
    /// TLS on `listen`, and who is let in by a certificate of his own.
    pub tls: AdminTlsSpec,
    /// Unix socket of the admin listener, with or without `listen`: for the user of the gate and root, who need no token
    /// there; "" for none.
    pub socket: String,
    /// Unix socket by which a gate that is started later takes over all listening sockets from this one, which then
    /// drains: an upgrade without a refused connection. Both must be configured with it; "" for none.
    pub handover: String,
}

/// `admin.tls`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AdminTlsSpec {
    /// PEM file of the certificate, and behind it those that lead to a root; "" for HTTP in the open.
    pub certificate: String,
    /// PEM file of its private key.
    pub key: String,
    /// PEM file of the roots that vouch for clients: who shows a certificate of theirs needs no token; "" for none.
    pub client_ca: String,
}

/// `[journal]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct JournalSpec {
    /// File of JSON lines, opened for append; "" for none.
    pub path: String,
    /// Which verdicts are written.
    pub what: JournalWord,
    /// With what = "sampled": every block, and one allow in so many.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub sample_one_in: u32,
    /// File in which unfiled domains are remembered that were met in live traffic, so that a restart calls none of them
    /// new; "" for memory alone.
    pub unfiled: String,
    /// Octets after which the file is renamed to its path with ".1" behind it and a new one begun; 0 leaves rotation to
    /// others.
    #[schemars(range(min = 0, max = 1_000_000_000_000_u64))]
    pub rotate_bytes: u64,
    /// With rotate-bytes: files kept beside the one that is written.
    #[schemars(range(min = 1, max = 1000))]
    pub rotate_keep: u32,
    /// Each line carries its number and a SHA-256 over the line before and itself, so that `icpgate journal verify`
    /// finds what was changed, removed, inserted or moved.
    pub chain: bool,
}

/// `[alert]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AlertSpec {
    /// HTTP server that takes new unfiled domains as JSON: https://ADDRESS/PATH#NAME or http://ADDRESS/PATH; "" for none.
    pub webhook: String,
    /// File that holds the bearer token it asks for; "" for none.
    pub webhook_token_file: String,
    /// PEM file of roots to trust for it beside the public ones; "" for none.
    pub webhook_ca: String,
    /// Syslog receiver (RFC 5424): the path of a Unix socket, or udp://ADDRESS:PORT; "" for none.
    pub syslog: String,
}

/// `journal.what`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum JournalWord {
    /// Every verdict.
    All,
    /// Blocks, enforced or not.
    Blocks,
    /// Every block, and a sample of the allows.
    Sampled,
}

/// Files kept of a rotated journal: with some 100 MB each, a gigabyte. No official reference.
const ROTATE_KEEP: u32 = 10;
/// One allow in a hundred: enough to see who is served, little enough to keep. No official reference.
const SAMPLE_ONE_IN: u32 = 100;

impl Default for JournalSpec {
    fn default() -> Self {
        let (what, sample_one_in) = match JournalWhat::default() {
            JournalWhat::All => (JournalWord::All, SAMPLE_ONE_IN),
            JournalWhat::Blocks => (JournalWord::Blocks, SAMPLE_ONE_IN),
            JournalWhat::Sampled(one_in) => (JournalWord::Sampled, one_in),
        };
        let (path, unfiled, rotate_bytes, rotate_keep) = (String::new(), String::new(), 0, ROTATE_KEEP);
        Self { path, what, sample_one_in, unfiled, rotate_bytes, rotate_keep, chain: false }
    }
}

//--- Schema ----------------------------------------------------------------------------------------------------------

/// The JSON schema of the format, without references, so that a reader needs no resolver.
pub fn schema() -> serde_json::Value {
    let settings =
        schemars::generate::SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut res = settings.into_generator().into_root_schema_for::<Spec>().to_value();
    if let Some(root) = res.as_object_mut() {
        root.insert("title".to_owned(), "icpgate configuration".into());
        root.insert("required".to_owned(), serde_json::json!(["version"]));
    }
    res
}
