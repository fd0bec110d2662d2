//! `[http]` as text.

use std::net::{Ipv4Addr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::http::Settings;

/// `[http]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct HttpSpec {
    /// Addresses and ports for plain HTTP; none for no HTTP plane.
    pub listen: Vec<String>,
    /// TLS; not in this release, must be empty.
    pub tls_listen: Vec<String>,
    /// QUIC; not in this release, must be empty.
    pub quic_listen: Vec<String>,
    /// How the origin of a filed request is found.
    pub origin: OriginWord,
    /// Address and port of the origin, with origin = "fixed".
    pub fixed: String,
    /// Address and port of a built-in origin for trying things out; "" for none.
    pub demo_origin: String,
    /// How blocked requests are answered.
    pub block: HttpBlockSpec,
    /// Proxies before us.
    pub proxy_protocol: ProxyProtocolSpec,
    /// Pass /.well-known/acme-challenge/ of unfiled names (GET and HEAD).
    pub acme_carve_out: bool,
    /// Longest request or response head.
    #[schemars(range(min = 1024, max = 1_048_576))]
    pub head_bytes_max: u64,
    /// Most header lines of a head.
    #[schemars(range(min = 8, max = 1024))]
    pub head_lines_max: u64,
    /// Seconds for a whole request head.
    #[schemars(range(min = 1, max = 3600))]
    pub head_timeout_seconds: u64,
    /// Seconds a kept connection may be idle.
    #[schemars(range(min = 1, max = 86_400))]
    pub idle_timeout_seconds: u64,
    /// Seconds of silence in a body or an upgraded stream, and for each 30000 octets of a request body.
    #[schemars(range(min = 1, max = 86_400))]
    pub stream_timeout_seconds: u64,
    /// Seconds to connect to the origin.
    #[schemars(range(min = 1, max = 3600))]
    pub connect_timeout_seconds: u64,
    /// Seconds to wait for the origin's response head.
    #[schemars(range(min = 1, max = 86_400))]
    pub response_timeout_seconds: u64,
    /// Connections at a time.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub connections_max: u64,
    /// Connections of one client: an IPv4 address or an IPv6 /64.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub connections_per_client_max: u64,
    /// Requests on one connection.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub requests_per_connection_max: u32,
}

impl Default for HttpSpec {
    fn default() -> Self {
        let settings = Settings::new(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        Self {
            listen: Vec::new(),
            tls_listen: Vec::new(),
            quic_listen: Vec::new(),
            origin: OriginWord::Fixed,
            fixed: String::new(),
            demo_origin: String::new(),
            block: HttpBlockSpec::default(),
            proxy_protocol: ProxyProtocolSpec::default(),
            acme_carve_out: settings.acme_carve_out,
            head_bytes_max: settings.head_bytes_max as u64,
            head_lines_max: settings.head_lines_max as u64,
            head_timeout_seconds: settings.head_timeout.as_secs(),
            idle_timeout_seconds: settings.idle_timeout.as_secs(),
            stream_timeout_seconds: settings.stream_timeout.as_secs(),
            connect_timeout_seconds: settings.connect_timeout.as_secs(),
            response_timeout_seconds: settings.response_timeout.as_secs(),
            connections_max: settings.connections_max as u64,
            connections_per_client_max: settings.connections_per_client_max as u64,
            requests_per_connection_max: settings.requests_per_connection_max,
        }
    }
}

/// `http.origin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OriginWord {
    /// One server for all: http.fixed.
    Fixed,
    /// Where the client meant to go; not in this release.
    OriginalDst,
    /// Where the name resolves to; not in this release.
    Resolve,
}

/// `http.block`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct HttpBlockSpec {
    /// 451 (RFC 7725) or 403 with the page, 302 or 307 to redirect.
    #[schemars(range(min = 302, max = 451))]
    pub status: u16,
    /// Where 302 and 307 lead: an http or https URL; may hold {name} {domain} {reason} {id}.
    pub redirect: String,
    /// Blocked TLS: takes effect with tls-listen.
    pub tls: TlsBlockWord,
    /// Blocked QUIC: takes effect with quic-listen.
    pub quic: QuicBlockWord,
    /// Directory of page templates; "" for the compiled-in ones.
    pub pages: String,
}

impl Default for HttpBlockSpec {
    fn default() -> Self {
        let block = Settings::new(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))).block;
        Self {
            status: block.status,
            redirect: block.redirect,
            tls: TlsBlockWord::Alert,
            quic: QuicBlockWord::Close,
            pages: String::new(),
        }
    }
}

/// `http.block.tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TlsBlockWord {
    /// Fatal alert `unrecognized_name`.
    Alert,
}

/// `http.block.quic`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum QuicBlockWord {
    /// CONNECTION_CLOSE 0x170.
    Close,
}

/// `http.proxy-protocol`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProxyProtocolSpec {
    /// Prefixes of the proxies whose PROXY header and X-Forwarded-For are believed.
    pub from: Vec<String>,
    /// Speak the PROXY protocol to the origin; not in this release, must be false.
    pub to_origin: bool,
}
