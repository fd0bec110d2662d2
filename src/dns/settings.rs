//! Checked settings of the DNS plane.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::cookies::Secret;
use super::edns::PASSED;
use super::rate::RateLimit;
use crate::credentials::CertificateFiles;
use crate::model::DomainName;

/// How a blocked name is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BlockAction {
    /// No answer at all.
    Drop,
    /// NOERROR without records.
    Nodata,
    /// NXDOMAIN.
    Nxdomain,
    /// The block addresses.
    #[default]
    Redirect,
    /// REFUSED.
    Refused,
}

/// How blocked names are answered.
#[derive(Clone, Debug)]
pub struct Block {
    /// The kind of answer.
    pub action: BlockAction,
    /// Addresses of the page, for A.
    pub ipv4: Vec<Ipv4Addr>,
    /// Addresses of the page, for AAAA.
    pub ipv6: Vec<Ipv6Addr>,
    /// TTL of synthesised records; at most 60 s keeps an approval quick (rules B.5).
    pub ttl_seconds: u32,
    /// RFC 8914 info code: 15 blocked, 16 censored (external requirement), 17 filtered.
    pub ede_code: u16,
}

/// Which address families a judgement looks at (D-D11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JudgeFamilies {
    /// Only the family asked for.
    Asked,
    /// A and AAAA together for names that are not filed.
    #[default]
    Both,
}

/// Where upstream answers come from over which transport.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamTransport {
    /// DNS over HTTPS, RFC 8484; the path, usually `/dns-query`.
    Https {
        /// Request path.
        path: String,
        /// Name in the certificate.
        server_name: String,
    },
    /// DNS over TCP.
    Tcp,
    /// DNS over TLS, RFC 7858.
    Tls {
        /// Name in the certificate.
        server_name: String,
    },
    /// UDP, TCP on truncation.
    Udp,
}

/// One upstream server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamServer {
    /// As written in the configuration; the label in logs and metrics.
    pub text: String,
    /// Address and port; default 53, TLS 853, HTTPS 443.
    pub addr: SocketAddr,
    /// Transport.
    pub transport: UpstreamTransport,
}

/// How a server of a group is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamPolicy {
    /// By measured latency, with probing of the others.
    #[default]
    Fastest,
    /// The first healthy one in written order.
    Ordered,
    /// One after the other.
    RoundRobin,
}

/// The servers for one suffix.
#[derive(Clone, Debug)]
pub struct UpstreamGroup {
    /// Names at or below it go here; the longest suffix wins; the root is the default.
    pub suffix: DomainName,
    /// At least one.
    pub servers: Vec<UpstreamServer>,
    /// Choice among them.
    pub policy: UpstreamPolicy,
    /// Whether a second one is asked beside a slow first one.
    pub hedges: bool,
}

/// What happens when no upstream answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamDown {
    /// SERVFAIL with EDE 22 at once.
    Servfail,
    /// A stale cached answer with EDE 3 if there is one (RFC 8767), else SERVFAIL with EDE 22.
    #[default]
    Stale,
}

/// One zone to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneFile {
    /// The zone's origin.
    pub origin: DomainName,
    /// The master file.
    pub file: PathBuf,
}

/// An encrypted transport.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secure {
    /// Listen addresses; empty means that it is not served.
    pub listen: Vec<SocketAddr>,
    /// The certificate; there with a listen address.
    pub certificate: Option<CertificateFiles>,
}

/// Listeners for proxies that say who asks (PROXY protocol, version 2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// UDP and TCP listen addresses, of proxies alone.
    pub listen: Vec<SocketAddr>,
    /// The proxies that are believed; there with a listen address.
    pub from: Vec<IpNet>,
}

/// What structured errors say beside why a name is blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structured {
    /// Whom to ask, as URIs; at least one.
    pub contacts: Vec<String>,
    /// Who blocks; empty for nobody in particular.
    pub organization: String,
}

/// Where copies of queries and responses go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnstapTarget {
    /// A file, one way.
    File(PathBuf),
    /// A reader that listens on TCP.
    Tcp(SocketAddr),
    /// A reader that listens on a unix socket.
    Unix(PathBuf),
}

impl fmt::Display for DnstapTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file://{}", path.display()),
            Self::Tcp(addr) => write!(f, "tcp://{addr}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// Copies of queries and responses for dnstap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dnstap {
    /// Where they go.
    pub to: DnstapTarget,
    /// Who says so; empty for nobody in particular.
    pub identity: String,
    /// Queries of clients.
    pub queries: bool,
    /// Responses to them.
    pub responses: bool,
}

/// Checked settings of the DNS plane.
#[derive(Clone, Debug)]
pub struct Settings {
    /// UDP and TCP listen addresses.
    pub listen: Vec<SocketAddr>,
    /// DNS over TLS (RFC 7858).
    pub tls: Secure,
    /// DNS over HTTPS (RFC 8484).
    pub https: Secure,
    /// Its path.
    pub https_path: String,
    /// DNS over QUIC (RFC 9250).
    pub quic: Secure,
    /// UDP and TCP behind proxies.
    pub proxy_protocol: ProxyProtocol,
    /// Copies of queries and responses; `None` for none.
    pub dnstap: Option<Dnstap>,
    /// What clients are told who ask which server answers (RFC 5001); empty for nothing.
    pub nsid: String,
    /// Whether clients with cookies get ours (RFC 7873).
    pub cookies: bool,
    /// Secrets of cookies at the start, the first for new ones; empty for one of this process.
    pub cookie_secrets: Vec<Secret>,
    /// The file they are from, which is read again when it changes.
    pub cookie_secret_file: Option<PathBuf>,
    /// Responses over UDP.
    pub rate_limit: RateLimit,
    /// UDP sockets per listen address (SO_REUSEPORT); one per core.
    pub udp_sockets: usize,
    /// Who may ask.
    pub allow_from: Vec<IpNet>,
    /// Local zones.
    pub zones: Vec<ZoneFile>,
    /// Directories whose zone files are all served, looked into again at every reload; their files are in `zones` too.
    pub zone_directories: Vec<PathBuf>,
    /// Upstream groups; empty means authoritative only (REFUSED outside the zones).
    pub upstreams: Vec<UpstreamGroup>,
    /// Roots to trust for upstream TLS beside the built-in ones (PEM file); for private resolvers.
    pub upstream_ca: Option<PathBuf>,
    /// One exchange with one server.
    pub upstream_timeout: Duration,
    /// All tries of one question.
    pub resolve_timeout: Duration,
    /// No upstream answers.
    pub upstream_down: UpstreamDown,
    /// Blocked names.
    pub block: Block,
    /// Extended error codes of upstreams that are passed on, without their texts (RFC 8914).
    pub ede_pass: Vec<u16>,
    /// JSON in extended errors for clients that ask for it; `None` for none.
    pub structured_errors: Option<Structured>,
    /// Families.
    pub judge_families: JudgeFamilies,
    /// TTL cap of answers that lead to the mainland (D-D26).
    pub mainland_ttl_max: Duration,
    /// Bound of the answer cache.
    pub cache_bytes_max: usize,
    /// Where the cache is kept between two runs.
    pub cache_file: Option<PathBuf>,
    /// Tenths of an answer's lifetime in which a query has it asked for anew; 0 for never.
    pub prefetch_tenths: u32,
    /// TTL ceiling of the cache.
    pub cache_ttl_max: Duration,
    /// TTL ceiling of negative answers (RFC 2308 section 5).
    pub negative_ttl_max: Duration,
    /// How long past its TTL an answer may still be served (RFC 8767).
    pub stale_max: Duration,
    /// EDNS size we offer and accept (1232: DNS flag day 2020).
    pub edns_udp_bytes_max: u16,
    /// Questions in work at a time; more are answered SERVFAIL or dropped.
    pub inflight_max: usize,
    /// Of one client, while more than half of them are taken.
    pub inflight_per_client_max: usize,
    /// Connections at a time, of TCP and of the encrypted transports together.
    pub tcp_connections_max: usize,
    /// Connections of one client address.
    pub tcp_connections_per_client_max: usize,
    /// Idle time of connections (RFC 7766 section 6.2.3).
    pub tcp_idle: Duration,
}

impl Settings {
    /// Settings with every default of the interface, listening nowhere and forwarding nowhere.
    pub fn new() -> Self {
        Self {
            listen: Vec::new(),
            tls: Secure::default(),
            https: Secure::default(),
            https_path: "/dns-query".to_owned(),
            quic: Secure::default(),
            proxy_protocol: ProxyProtocol::default(),
            dnstap: None,
            nsid: String::new(),
            cookies: true,
            cookie_secrets: Vec::new(),
            cookie_secret_file: None,
            rate_limit: RateLimit::default(),
            udp_sockets: 1,
            allow_from: vec!["127.0.0.0/8".parse().expect("a prefix"), "::1/128".parse().expect("a prefix")],
            zones: Vec::new(),
            zone_directories: Vec::new(),
            upstreams: Vec::new(),
            upstream_ca: None,
            upstream_timeout: Duration::from_millis(1500),
            resolve_timeout: Duration::from_secs(4),
            upstream_down: UpstreamDown::Stale,
            block: Block {
                action: BlockAction::Redirect,
                ipv4: vec![Ipv4Addr::LOCALHOST],
                ipv6: vec![Ipv6Addr::LOCALHOST],
                ttl_seconds: 30,
                ede_code: 16,
            },
            ede_pass: PASSED.to_vec(),
            structured_errors: None,
            judge_families: JudgeFamilies::Both,
            mainland_ttl_max: Duration::from_secs(300),
            cache_bytes_max: 64 << 20,
            cache_file: None,
            prefetch_tenths: 1,
            cache_ttl_max: Duration::from_secs(86_400),
            negative_ttl_max: Duration::from_secs(3600),
            stale_max: Duration::from_secs(86_400),
            edns_udp_bytes_max: 1232,
            inflight_max: 10_000,
            inflight_per_client_max: 1000,
            tcp_connections_max: 1000,
            tcp_connections_per_client_max: 100,
            tcp_idle: Duration::from_secs(10),
        }
    }

    /// How long idle connections are kept, in tenths of a second, as far as the option for it can say (RFC 7828).
    pub fn keepalive_tenths(&self) -> u16 {
        u16::try_from(self.tcp_idle.as_millis() / 100).unwrap_or(u16::MAX)
    }

    /// The files of the certificates in use.
    pub fn certificates(&self) -> impl Iterator<Item = &CertificateFiles> {
        let secure = [&self.tls, &self.https, &self.quic].into_iter();
        secure.filter(|secure| !secure.listen.is_empty()).filter_map(|secure| secure.certificate.as_ref())
    }

    /// True when `client` may ask.
    pub fn allows(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.allow_from.iter().any(|net| net.contains(&client))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}
