//! `[dns]` as text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::choices::{BlockAction, JudgeFamilies, UpstreamPolicy};
use crate::dns::Settings;
use crate::dns::rate::RateLimit;
use crate::dns::settings::UpstreamPolicy as Policy;

/// `[dns]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DnsSpec {
    /// Addresses and ports for UDP and TCP; none for no DNS plane.
    pub listen: Vec<String>,
    /// DNS over TLS (RFC 7858).
    pub tls: SecureSpec,
    /// DNS over HTTPS (RFC 8484).
    pub https: HttpsSpec,
    /// DNS over QUIC (RFC 9250).
    pub quic: SecureSpec,
    /// UDP and TCP for proxies that say who asks.
    pub proxy_protocol: DnsProxySpec,
    /// Copies of queries and responses for dnstap.
    pub dnstap: DnstapSpec,
    /// What clients are told who ask which server answers (NSID, RFC 5001); "" for nothing.
    pub nsid: String,
    /// Give clients that have cookies ours (RFC 7873): who returns one is not limited in rates.
    pub cookies: bool,
    /// File of secrets for cookies, 32 hexadecimal digits a line, the first for new ones: the same on all servers of one
    /// address; "" for one of this process.
    pub cookie_secret_file: String,
    /// Limits on responses over UDP.
    pub rate_limit: RateLimitSpec,
    /// UDP sockets for each listen address; 0 for one a core.
    #[schemars(range(min = 0, max = 1024))]
    pub udp_sockets: u64,
    /// Prefixes of the clients that may ask.
    pub allow_from: Vec<String>,
    /// Local zones: directories, files named after their origin, or { origin, file }.
    pub zones: Vec<ZoneSpec>,
    /// Where names outside the zones are asked, by suffix; none for an authoritative server only.
    pub upstream: Vec<UpstreamSpec>,
    /// PEM file of roots to trust for upstream TLS beside the public ones; "" for none.
    pub upstream_ca: String,
    /// Milliseconds for one exchange with one server.
    #[schemars(range(min = 1, max = 60_000))]
    pub upstream_timeout_milliseconds: u64,
    /// Milliseconds for all tries of one question.
    #[schemars(range(min = 1, max = 60_000))]
    pub resolve_timeout_milliseconds: u64,
    /// How blocked names are answered.
    pub block: DnsBlockSpec,
    /// Extended error codes of upstreams that are passed on to clients, without their texts (RFC 8914).
    pub ede_pass: Vec<u16>,
    /// Tell clients that ask for it why a name is blocked as JSON (draft-ietf-dnsop-structured-dns-error).
    pub structured_errors: bool,
    /// Which address families a judgement looks at.
    pub judge_families: JudgeFamilies,
    /// Ceiling for the TTL of answers that lead to the mainland.
    #[schemars(range(min = 1, max = 86_400))]
    pub mainland_ttl_max_seconds: u64,
    /// Bound of the answer cache.
    #[schemars(range(min = 0, max = 1_099_511_627_776_u64))]
    pub cache_bytes_max: u64,
    /// File in which the cache is kept between two runs of the gate; "" to begin with none.
    pub cache_file: String,
    /// Ask anew for what is asked for in the last tenth of its TTL.
    pub prefetch: bool,
    /// TTL ceiling of the cache.
    #[schemars(range(min = 1, max = 604_800))]
    pub cache_ttl_max_seconds: u64,
    /// TTL ceiling of negative answers (RFC 2308 section 5).
    #[schemars(range(min = 1, max = 604_800))]
    pub negative_ttl_max_seconds: u64,
    /// How long past its TTL an answer may be served when no upstream answers (RFC 8767).
    #[schemars(range(min = 0, max = 604_800))]
    pub stale_max_seconds: u64,
    /// EDNS size offered and accepted.
    #[schemars(range(min = 512, max = 4096))]
    pub edns_udp_bytes_max: u16,
    /// Questions in work at a time.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub inflight_max: u64,
    /// Of one client (an IPv4 address or an IPv6 /64), while more than half of all are taken.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub inflight_per_client_max: u64,
    /// Connections at a time: TCP, TLS, HTTPS and QUIC together.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub tcp_connections_max: u64,
    /// Connections of one client, of whatever transport: an IPv4 address or an IPv6 /64.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub tcp_connections_per_client_max: u64,
    /// Seconds after which an idle connection is closed (RFC 7766 section 6.2.3).
    #[schemars(range(min = 1, max = 3600))]
    pub tcp_idle_seconds: u64,
}

impl Default for DnsSpec {
    fn default() -> Self {
        let settings = Settings::new();
        let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            listen: Vec::new(),
            tls: SecureSpec::default(),
            https: HttpsSpec::default(),
            quic: SecureSpec::default(),
            proxy_protocol: DnsProxySpec::default(),
            dnstap: DnstapSpec::default(),
            nsid: settings.nsid.clone(),
            cookies: settings.cookies,
            cookie_secret_file: String::new(),
            rate_limit: RateLimitSpec::default(),
            // One socket a core: each has its own queue in the kernel.
            udp_sockets: 0,
            allow_from: settings.allow_from.iter().map(ToString::to_string).collect(),
            zones: Vec::new(),
            upstream: Vec::new(),
            upstream_ca: String::new(),
            upstream_timeout_milliseconds: millis(settings.upstream_timeout),
            resolve_timeout_milliseconds: millis(settings.resolve_timeout),
            ede_pass: settings.ede_pass.clone(),
            structured_errors: false,
            judge_families: settings.judge_families.into(),
            mainland_ttl_max_seconds: settings.mainland_ttl_max.as_secs(),
            cache_bytes_max: settings.cache_bytes_max as u64,
            cache_file: String::new(),
            prefetch: settings.prefetch_tenths > 0,
            cache_ttl_max_seconds: settings.cache_ttl_max.as_secs(),
            negative_ttl_max_seconds: settings.negative_ttl_max.as_secs(),
            stale_max_seconds: settings.stale_max.as_secs(),
            edns_udp_bytes_max: settings.edns_udp_bytes_max,
            inflight_max: settings.inflight_max as u64,
            inflight_per_client_max: settings.inflight_per_client_max as u64,
            tcp_connections_max: settings.tcp_connections_max as u64,
            tcp_connections_per_client_max: settings.tcp_connections_per_client_max as u64,
            tcp_idle_seconds: settings.tcp_idle.as_secs(),
            block: DnsBlockSpec::from(&settings),
        }
    }
}

/// `dns.rate-limit`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RateLimitSpec {
    /// Responses a second to one network about one thing: a name without its first label, or a failure; 0 for no limit.
    #[schemars(range(min = 0, max = 500_000))]
    pub responses_per_second: u32,
    /// One in so many responses over the limit is sent short, so that a real client comes by TCP; 0 for none.
    #[schemars(range(min = 0, max = 1000))]
    pub slip: u32,
    /// Bits of an IPv4 address that make a network.
    #[schemars(range(min = 8, max = 32))]
    pub ipv4_prefix: u8,
    /// Bits of an IPv6 address that do.
    #[schemars(range(min = 16, max = 128))]
    pub ipv6_prefix: u8,
    /// Prefixes of clients that are not limited.
    pub exempt: Vec<String>,
}

impl Default for RateLimitSpec {
    fn default() -> Self {
        let RateLimit { responses_per_second, slip, ipv4_prefix, ipv6_prefix, exempt } = RateLimit::default();
        let exempt = exempt.iter().map(ToString::to_string).collect();
        Self { responses_per_second, slip, ipv4_prefix, ipv6_prefix, exempt }
    }
}

/// `dns.block`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DnsBlockSpec {
    /// The kind of answer.
    pub action: BlockAction,
    /// Addresses of the page, for A.
    pub ipv4: Vec<String>,
    /// Addresses of the page, for AAAA.
    pub ipv6: Vec<String>,
    /// TTL of synthesised records; at most 60 keeps an approval quick.
    #[schemars(range(min = 1, max = 86_400))]
    pub ttl_seconds: u32,
    /// RFC 8914 code: 15 blocked, 16 censored, 17 filtered.
    #[schemars(range(min = 15, max = 17))]
    pub ede_code: u16,
}

impl From<&Settings> for DnsBlockSpec {
    fn from(settings: &Settings) -> Self {
        let block = &settings.block;
        Self {
            action: block.action.into(),
            ipv4: block.ipv4.iter().map(ToString::to_string).collect(),
            ipv6: block.ipv6.iter().map(ToString::to_string).collect(),
            ttl_seconds: block.ttl_seconds,
            ede_code: block.ede_code,
        }
    }
}

impl Default for DnsBlockSpec {
    fn default() -> Self {
        Self::from(&Settings::new())
    }
}

/// `dns.tls`, `dns.quic`: an encrypted listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SecureSpec {
    /// Addresses and ports; none where it is not served.
    pub listen: Vec<String>,
    /// PEM file of the certificate chain.
    pub certificate: String,
    /// PEM file of the private key.
    pub key: String,
}

/// `dns.https`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct HttpsSpec {
    /// Addresses and ports; none where it is not served.
    pub listen: Vec<String>,
    /// PEM file of the certificate chain.
    pub certificate: String,
    /// PEM file of the private key.
    pub key: String,
    /// The path that queries are sent to.
    pub path: String,
}

impl Default for HttpsSpec {
    fn default() -> Self {
        let SecureSpec { listen, certificate, key } = SecureSpec::default();
        Self { listen, certificate, key, path: Settings::new().https_path }
    }
}

/// `dns.proxy-protocol`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DnsProxySpec {
    /// Addresses and ports for UDP and TCP with PROXY headers of version 2; none where no proxy stands before the gate.
    pub listen: Vec<String>,
    /// Prefixes of the proxies that are believed; what others send there is dropped.
    pub from: Vec<String>,
}

/// `dns.dnstap`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DnstapSpec {
    /// unix:///PATH or tcp://ADDRESS:PORT of a reader, or file:///PATH; "" for no dnstap.
    pub to: String,
    /// Who says so; "" for dns.nsid.
    pub identity: String,
    /// What is copied.
    pub messages: Vec<DnstapMessage>,
}

impl Default for DnstapSpec {
    fn default() -> Self {
        let messages = vec![DnstapMessage::ClientQuery, DnstapMessage::ClientResponse];
        Self { to: String::new(), identity: String::new(), messages }
    }
}

/// A word of `dns.dnstap.messages`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DnstapMessage {
    /// Queries of clients.
    ClientQuery,
    /// Responses to them, with the verdict where it blocks.
    ClientResponse,
}

/// One entry of `dns.zones`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ZoneSpec {
    /// A directory of zone files, or one file named after its origin.
    Path(String),
    /// A zone by origin and file.
    Named(NamedZoneSpec),
}

/// A zone whose file is not named after its origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NamedZoneSpec {
    /// The zone's origin.
    pub origin: String,
    /// The master file.
    pub file: String,
}

/// One `[[dns.upstream]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct UpstreamSpec {
    /// Names at or below it are asked here; the longest suffix wins; "" for every name.
    pub suffix: String,
    /// udp://ADDRESS, tcp://ADDRESS, tls://ADDRESS#NAME, https://ADDRESS/PATH#NAME, each with an optional :PORT.
    pub servers: Vec<String>,
    /// How a server is chosen.
    pub policy: UpstreamPolicy,
}

impl Default for UpstreamSpec {
    fn default() -> Self {
        Self { suffix: String::new(), servers: Vec::new(), policy: Policy::default().into() }
    }
}
