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
    /// Addresses and ports for TLS, passed on unopened once the name in the open is judged.
    pub tls_listen: Vec<String>,
    /// Addresses and ports (UDP) for QUIC, passed on unopened once the name in the open is judged.
    pub quic_listen: Vec<String>,
    /// How the origin of what is filed is found.
    pub origin: OriginWord,
    /// Address and port of the origin of plain HTTP, with origin = "fixed".
    pub fixed: String,
    /// Address and port that TLS goes on to, with origin = "fixed"; "" for none: TLS is refused.
    pub fixed_tls: String,
    /// Address and port that QUIC goes on to, with origin = "fixed"; "" for that of TLS.
    pub fixed_quic: String,
    /// Name servers that tell where a name leads, with origin = "resolve".
    pub resolvers: Vec<String>,
    /// Prefixes of private and other special addresses that names may lead to, with origin = "resolve".
    pub resolve_to: Vec<String>,
    /// Certificates of names whose TLS ends here, so that they can be shown the page.
    pub certificate: Vec<CertificateSpec>,
    /// Accept connections to any address (TPROXY); needs CAP_NET_ADMIN.
    pub transparent: bool,
    /// Address and port of a built-in origin for trying things out; "" for none.
    pub demo_origin: String,
    /// How blocked requests are answered.
    pub block: HttpBlockSpec,
    /// Proxies before us.
    pub proxy_protocol: ProxyProtocolSpec,
    /// Pass /.well-known/acme-challenge/ of unfiled names (GET and HEAD), and checks by acme-tls/1 where TLS ends here.
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
    /// Longest TLS ClientHello.
    #[schemars(range(min = 1024, max = 65_536))]
    pub hello_bytes_max: u64,
    /// Seconds for a whole ClientHello.
    #[schemars(range(min = 1, max = 3600))]
    pub hello_timeout_seconds: u64,
    /// What becomes of connections, requests and streams that are open when their name is blocked.
    pub blocked_tunnels: BlockedTunnelsWord,
    /// Seconds that they may go on, with blocked-tunnels = "close".
    #[schemars(range(min = 1, max = 86_400))]
    pub blocked_tunnel_grace_seconds: u64,
    /// Connections at a time.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub connections_max: u64,
    /// Connections of one client: an IPv4 address or an IPv6 /64.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub connections_per_client_max: u64,
    /// Requests on one connection.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub requests_per_connection_max: u32,
    /// QUIC flows at a time.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub quic_flows_max: u64,
    /// Seconds of silence after which a QUIC flow is forgotten.
    #[schemars(range(min = 1, max = 86_400))]
    pub quic_idle_seconds: u64,
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
            fixed_tls: String::new(),
            fixed_quic: String::new(),
            resolvers: Vec::new(),
            resolve_to: Vec::new(),
            certificate: Vec::new(),
            transparent: settings.transparent,
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
            hello_bytes_max: settings.hello_octets_max as u64,
            hello_timeout_seconds: settings.hello_timeout.as_secs(),
            blocked_tunnels: BlockedTunnelsWord::Close,
            blocked_tunnel_grace_seconds: settings.blocked_tunnel_grace.map_or(0, |grace| grace.as_secs()),
            connections_max: settings.connections_max as u64,
            connections_per_client_max: settings.connections_per_client_max as u64,
            requests_per_connection_max: settings.requests_per_connection_max,
            quic_flows_max: settings.quic_flows_max as u64,
            quic_idle_seconds: settings.quic_idle.as_secs(),
        }
    }
}

/// One `[[http.certificate]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CertificateSpec {
    /// PEM file of the certificate and those that lead from it to a root; it is used for the DNS names in it.
    pub chain: String,
    /// PEM file of its private key.
    pub key: String,
}

/// `http.origin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OriginWord {
    /// One server for all: http.fixed, http.fixed-tls, http.fixed-quic.
    Fixed,
    /// Where the client meant to go, before the system sent it here (REDIRECT, TPROXY).
    OriginalDst,
    /// Where the name resolves to, by http.resolvers; the port is the one reached.
    Resolve,
}

/// `http.blocked-tunnels`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BlockedTunnelsWord {
    /// They end after the grace period.
    Close,
    /// They go on until either side ends them.
    Keep,
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
    /// How blocked TLS is refused.
    pub tls: TlsBlockWord,
    /// How blocked QUIC is refused.
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
    /// Fatal alert `unrecognized_name`, then the end.
    Alert,
    /// Nothing more is said; the client's time runs out.
    Drop,
    /// The connection is reset.
    Rst,
}

/// `http.block.quic`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum QuicBlockWord {
    /// CONNECTION_CLOSE 0x170, so that clients turn to TCP at once.
    Close,
    /// Nothing is answered; clients turn to TCP after a while.
    Drop,
}

/// `http.proxy-protocol`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProxyProtocolSpec {
    /// Prefixes of the proxies whose PROXY header and X-Forwarded-For are believed.
    pub from: Vec<String>,
    /// Tell the client's address to the origin of HTTP and TLS.
    pub to_origin: bool,
    /// By which version of the protocol.
    pub version: ProxyVersionWord,
}

impl Default for ProxyProtocolSpec {
    fn default() -> Self {
        Self { from: Vec::new(), to_origin: false, version: ProxyVersionWord::V2 }
    }
}

/// `http.proxy-protocol.version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyVersionWord {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}
