//! Checked settings of the HTTP plane.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::credentials::CertificateFiles;
use crate::proxy_header::ProxyVersion;

/// Where filed requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// One server for all.
    Fixed(SocketAddr),
    /// Where the client meant to go before the system sent it here.
    OriginalDst,
    /// Where these name servers say that the name leads; the port is the one reached.
    Resolve(Vec<SocketAddr>),
}

/// How a blocked TLS connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsBlock {
    /// Fatal alert `unrecognized_name`, then the end.
    Alert,
    /// Silence.
    Drop,
    /// A reset.
    Reset,
}

/// How a blocked QUIC flow is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuicBlock {
    /// CONNECTION_CLOSE 0x170.
    Close,
    /// Silence.
    Drop,
}

/// How blocked requests are answered.
#[derive(Clone, Debug)]
pub struct Block {
    /// 451 (RFC 7725), 403, or 302 / 307 with `redirect`.
    pub status: u16,
    /// Location for 302 / 307; may hold `{name}` `{domain}` `{reason}` `{id}`, filled percent-encoded.
    pub redirect: String,
    /// Blocked TLS.
    pub tls: TlsBlock,
    /// Blocked QUIC.
    pub quic: QuicBlock,
    /// Directory of page templates; `None` means the compiled-in ones.
    pub pages: Option<PathBuf>,
}

/// What the page says of the provider.
#[derive(Clone, Debug, Default)]
pub struct ProviderText {
    /// Provider id.
    pub id: String,
    /// Name on the page.
    pub name: String,
    /// The provider itself: who blocks (RFC 7725 section 4).
    pub url: String,
    /// Where to file.
    pub filing_url: String,
    /// Whom to ask: a mail address, telephone number or URL.
    pub contact: String,
}

/// Checked settings of the HTTP plane.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Plain HTTP listen addresses.
    pub listen: Vec<SocketAddr>,
    /// TLS listen addresses.
    pub tls_listen: Vec<SocketAddr>,
    /// QUIC listen addresses (UDP).
    pub quic_listen: Vec<SocketAddr>,
    /// Filed requests; for TLS and QUIC as well, but for `Fixed`.
    pub origin: Origin,
    /// Addresses that are not public and that names may lead to all the same, with `Origin::Resolve`.
    pub resolve_to: Vec<IpNet>,
    /// Where TLS goes with `Origin::Fixed`; `None` refuses it.
    pub fixed_tls: Option<SocketAddr>,
    /// Where QUIC goes with `Origin::Fixed`; `None` refuses it.
    pub fixed_quic: Option<SocketAddr>,
    /// Certificates by which TLS may end here.
    pub certificates: Vec<CertificateFiles>,
    /// Accept connections to any address (TPROXY).
    pub transparent: bool,
    /// Where the built-in demo origin listens; `None` means none.
    pub demo_origin: Option<SocketAddr>,
    /// Blocked requests.
    pub block: Block,
    /// The provider, for the page.
    pub provider: ProviderText,
    /// Proxies whose PROXY header and X-Forwarded-For are believed (client address in journal and page only).
    pub proxy_protocol_from: Vec<IpNet>,
    /// PROXY header sent to the origin first.
    pub proxy_to_origin: Option<ProxyVersion>,
    /// Pass `/.well-known/acme-challenge/` of unfiled names (GET and HEAD only, D-H30), and checks of control over TLS for names
    /// whose TLS ends here.
    pub acme_carve_out: bool,
    /// Longest request or response head.
    pub head_bytes_max: usize,
    /// Most header lines of a head.
    pub head_lines_max: usize,
    /// Time for a whole request head (D-H25).
    pub head_timeout: Duration,
    /// Longest ClientHello, header included.
    pub hello_octets_max: usize,
    /// Time for a whole ClientHello (D-T20).
    pub hello_timeout: Duration,
    /// How long what is open of a name goes on once it is blocked; `None` means for good.
    pub blocked_tunnel_grace: Option<Duration>,
    /// Keep-alive idle time.
    pub idle_timeout: Duration,
    /// Longest silence while a body or an upgraded stream flows.
    pub stream_timeout: Duration,
    /// Connecting to the origin.
    pub connect_timeout: Duration,
    /// Waiting for the origin's response head.
    pub response_timeout: Duration,
    /// Connections at a time.
    pub connections_max: usize,
    /// Connections of one client address.
    pub connections_per_client_max: usize,
    /// Requests on one connection.
    pub requests_per_connection_max: u32,
    /// QUIC flows at a time.
    pub quic_flows_max: usize,
    /// Silence after which a QUIC flow is forgotten.
    pub quic_idle: Duration,
}

impl Settings {
    /// True for proxies whose word on client addresses is taken.
    pub fn lists(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        self.proxy_protocol_from.iter().any(|net| net.contains(&addr))
    }

    /// Settings with every default of the interface, listening nowhere.
    pub fn new(origin: SocketAddr) -> Self {
        Self {
            listen: Vec::new(),
            tls_listen: Vec::new(),
            quic_listen: Vec::new(),
            origin: Origin::Fixed(origin),
            resolve_to: Vec::new(),
            fixed_tls: None,
            fixed_quic: None,
            certificates: Vec::new(),
            transparent: false,
            demo_origin: None,
            block: Block {
                status: 451,
                redirect: String::new(),
                tls: TlsBlock::Alert,
                quic: QuicBlock::Close,
                pages: None,
            },
            provider: ProviderText::default(),
            proxy_protocol_from: Vec::new(),
            proxy_to_origin: None,
            acme_carve_out: false,
            head_bytes_max: 64 << 10,
            head_lines_max: 128,
            head_timeout: Duration::from_secs(10),
            hello_octets_max: super::hello::HELLO_OCTETS_MAX,
            hello_timeout: Duration::from_secs(5),
            blocked_tunnel_grace: Some(Duration::from_secs(10)),
            idle_timeout: Duration::from_secs(60),
            stream_timeout: Duration::from_secs(300),
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            connections_max: 20_000,
            connections_per_client_max: 1000,
            requests_per_connection_max: 10_000,
            quic_flows_max: 100_000,
            quic_idle: Duration::from_secs(60),
        }
    }
}
