//! The planes: bound together or not at all, then served until the drain.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::StartError;
use super::data::Requests;
use crate::config::Config;
use crate::count::{Observe, plural};
use crate::credentials::CertificateError;
use crate::dns;
use crate::dns::secrets;
use crate::dns::secure::Servers;
use crate::dns::settings::ZoneFile;
use crate::dns::zones::{Zones, files_in};
use crate::drain::DrainWatch;
use crate::http;
use crate::http::DemoOrigin;
use crate::http::certificates::Certificates;
use crate::http::page::Pages;
use crate::http::settings::Origin;
use crate::ops::AdminTlsSettings;
use crate::ops::admin::tls::{self, AdminTls};
use crate::ops::files::CertificatesOf;
use crate::ops::health::UpstreamsOf;
use crate::ops::holder;
use crate::ops::parts::{Part, fingerprint};
use crate::ops::status::PlaneStatus;
use crate::policy::{SharedView, Sink};
use crate::registry::Shrink;
use crate::sockets::Sockets;

/// Both planes and the demo origin with their sockets.
pub struct Planes {
    pub dns: dns::Plane,
    pub dns_counters: Arc<dns::Counters>,
    pub http: http::Plane,
    pub http_counters: Arc<http::Counters>,
    pub demo: Option<(DemoOrigin, SocketAddr)>,
}

impl Planes {
    /// Binds every socket; the first that cannot be had fails the start, and those bound before it are closed.
    pub async fn bind(config: &Config, view: &SharedView, sink: &Sink, sockets: &Sockets) -> Result<Self, StartError> {
        let (dns_counters, http_counters) = (Arc::<dns::Counters>::default(), Arc::<http::Counters>::default());
        let mut http_settings = config.http.clone();
        let mut demo = None;
        if let Some(asked) = http_settings.demo_origin {
            let refused =
                |source| cannot_listen("demo origin", asked, format!("cannot listen on tcp {asked}: {source}"));
            let origin = DemoOrigin::bind(asked, sockets).await.map_err(refused)?;
            let addr = origin.addr().map_err(refused)?;
            // A port chosen by the system is known only now.
            if http_settings.origin == Origin::Fixed(asked) {
                http_settings.origin = Origin::Fixed(addr);
            }
            demo = Some((origin, addr));
        }
        let bound = dns::Plane::bind(config.dns.clone(), view.clone(), sink.clone(), dns_counters.clone(), sockets);
        let dns = bound.await.map_err(dns_error)?;
        let bound = http::Plane::bind(http_settings, view.clone(), sink.clone(), http_counters.clone(), sockets);
        let http = bound.await.map_err(http_error)?;
        Ok(Self { dns, dns_counters, http, http_counters, demo })
    }
}

impl Planes {
    /// What the planes count.
    pub fn sources(&self) -> [Arc<dyn Observe>; 4] {
        let (dns, http) = (self.dns.gate(), self.http.gate());
        let (of_dns, of_http) = (self.dns_counters.clone(), self.http_counters.clone());
        let certificates = CertificatesOf(dns.clone(), http);
        [of_dns, of_http, Arc::new(UpstreamsOf(dns)), Arc::new(certificates)]
    }

    /// Where everything listens.
    pub fn addrs(&self, admin: Option<SocketAddr>) -> Addrs {
        let demo_origin = self.demo.as_ref().map(|(_, addr)| *addr);
        let (http, tls, quic) = (self.http.addrs(), self.http.tls_addrs(), self.http.quic_addrs());
        let dns = &self.dns;
        let (dns_tls, dns_https, dns_quic) = (dns.tls_addrs(), dns.https_addrs(), dns.quic_addrs());
        let dns_proxied = dns.proxied_addrs();
        Addrs { dns: dns.addrs(), dns_proxied, dns_tls, dns_https, dns_quic, http, tls, quic, admin, demo_origin }
    }

    /// Serves every plane that listens until the drain is over, and behind them the demo origin until all is stopped.
    pub fn serve(self, tasks: &mut JoinSet<()>, behind: &mut JoinSet<()>, drain: &DrainWatch) {
        if self.dns.is_listening() {
            tasks.spawn(self.dns.run(drain.clone()));
        }
        if self.http.is_listening() {
            tasks.spawn(self.http.run(drain.clone()));
        }
        if let Some((demo, _)) = self.demo {
            behind.spawn(demo.run(drain.clone()));
        }
    }
}

/// Where a gate listens.
#[derive(Clone, Debug, Default)]
pub struct Addrs {
    /// The DNS plane, UDP and TCP.
    pub dns: Vec<SocketAddr>,
    /// The DNS plane, UDP and TCP for proxies.
    pub dns_proxied: Vec<SocketAddr>,
    /// The DNS plane, DNS over TLS.
    pub dns_tls: Vec<SocketAddr>,
    /// The DNS plane, DNS over HTTPS.
    pub dns_https: Vec<SocketAddr>,
    /// The DNS plane, DNS over QUIC.
    pub dns_quic: Vec<SocketAddr>,
    /// The HTTP plane, plain HTTP.
    pub http: Vec<SocketAddr>,
    /// The HTTP plane, TLS.
    pub tls: Vec<SocketAddr>,
    /// The HTTP plane, QUIC over UDP.
    pub quic: Vec<SocketAddr>,
    /// The admin listener.
    pub admin: Option<SocketAddr>,
    /// The built-in demo origin.
    pub demo_origin: Option<SocketAddr>,
}

impl Addrs {
    /// For the status.
    pub fn listening(&self) -> Vec<PlaneStatus> {
        let plane = |plane, transports, addrs: &[SocketAddr]| {
            let addresses = addrs.to_vec();
            PlaneStatus { plane, addresses, transports }
        };
        let mut res = vec![plane("dns", "udp, tcp", &self.dns)];
        let others = [
            ("dns behind proxies", "udp, tcp", &self.dns_proxied),
            ("dns over tls", "tcp", &self.dns_tls),
            ("dns over https", "tcp", &self.dns_https),
            ("dns over quic", "udp", &self.dns_quic),
        ];
        let served = others.into_iter().filter(|(_, _, addrs)| !addrs.is_empty());
        res.extend(served.map(|(name, transports, addrs)| plane(name, transports, addrs)));
        res.push(plane("http", "tcp", &self.http));
        if !self.tls.is_empty() {
            res.push(plane("tls", "tcp", &self.tls));
        }
        if !self.quic.is_empty() {
            res.push(plane("quic", "udp", &self.quic));
        }
        res.extend(self.admin.map(|addr| plane("admin", "tcp", &[addr])));
        res
    }

    /// One log line a listener, for whoever watches the start; in the demo with what to try.
    pub fn announce(&self) {
        let is_demo = self.demo_origin.is_some();
        for addr in &self.dns {
            tracing::info!("dns listens on {addr}, udp and tcp");
        }
        for addr in &self.dns_proxied {
            tracing::info!("dns for proxies listens on {addr}, udp and tcp with PROXY headers");
        }
        for (name, addrs) in [("tls", &self.dns_tls), ("https", &self.dns_https), ("quic", &self.dns_quic)] {
            for addr in addrs {
                tracing::info!("dns over {name} listens on {addr}");
            }
        }
        for addr in &self.http {
            tracing::info!("http listens on {addr}");
        }
        for addr in &self.tls {
            tracing::info!("tls listens on {addr}");
        }
        for addr in &self.quic {
            tracing::info!("quic listens on {addr}, udp");
        }
        if let Some(addr) = self.demo_origin {
            tracing::info!("demo origin listens on {addr}");
        }
        if let Some(addr) = self.admin {
            tracing::info!("admin listens on {addr}: console, /metrics, /readyz");
        }
        if let Some(addr) = self.dns.first().filter(|_| is_demo) {
            tracing::info!("try: kdig @{} -p {} www.unfiled.example", addr.ip(), addr.port());
        }
        if let Some(addr) = self.http.first().filter(|_| is_demo) {
            tracing::info!("try: curl -i -H 'Host: www.unfiled.example' http://{addr}/");
        }
        if let Some(addr) = self.admin.filter(|_| is_demo) {
            tracing::info!("try: http://{addr}/ in a browser");
        }
    }
}

/// A listen failure with who holds the port, where that can be told.
pub fn cannot_listen(plane: &'static str, addr: SocketAddr, reason: String) -> StartError {
    StartError::Listen { plane, reason: format!("{reason}{}", holder::hint(addr)) }
}

fn dns_error(error: dns::BindError) -> StartError {
    let reason = error.to_string();
    match error {
        dns::BindError::Socket { addr, .. } => cannot_listen("dns", addr, reason),
        dns::BindError::Certificate(_) | dns::BindError::Upstream(_) | dns::BindError::Zone(_) => {
            StartError::Setup { plane: "dns", reason }
        }
    }
}

fn http_error(error: http::BindError) -> StartError {
    let reason = error.to_string();
    match error {
        http::BindError::Socket { addr, .. } => cannot_listen("http", addr, reason),
        http::BindError::Certificate(_) | http::BindError::Page(_) | http::BindError::Resolver(_) => {
            StartError::Setup { plane: "http", reason }
        }
    }
}

//--- Zones, pages, certificates, secrets -------------------------------------------------------------------------------------------------

/// The reloadable parts of the planes, with their files and what those held before the first load.
pub struct Parts {
    pub zones: Arc<Part>,
    pub pages: Arc<Part>,
    pub certificates: Arc<Part>,
    pub secrets: Arc<Part>,
    zone_paths: Vec<PathBuf>,
    page_paths: Vec<PathBuf>,
    certificate_paths: Vec<PathBuf>,
    secret_paths: Vec<PathBuf>,
    loaded: (u64, u64, u64, u64),
}

impl Parts {
    /// Looks at the files; called before they are loaded, so that no change between is missed.
    pub async fn look(config: &Config) -> Self {
        let files = single_zones(&config.dns).map(|zone| zone.file.clone());
        let zone_paths: Vec<PathBuf> = config.dns.zone_directories.iter().cloned().chain(files).collect();
        let page_paths: Vec<PathBuf> = config.http.block.pages.iter().cloned().collect();
        let certificates = config.http.certificates.iter().chain(config.dns.certificates());
        let certificate_paths = certificates.flat_map(|files| [files.chain.clone(), files.key.clone()]);
        let admin = config.admin.tls.iter().flat_map(AdminTlsSettings::paths);
        let certificate_paths: Vec<PathBuf> = certificate_paths.chain(admin).collect();
        let secret_paths: Vec<PathBuf> = config.dns.cookie_secret_file.iter().cloned().collect();
        let loaded = tokio::join!(
            fingerprint(&zone_paths),
            fingerprint(&page_paths),
            fingerprint(&certificate_paths),
            fingerprint(&secret_paths)
        );
        let [zones, pages, certificates, secrets] =
            ["zones", "pages", "certificates", "secrets"].map(|name| Arc::new(Part::new(name)));
        Self { zones, pages, certificates, secrets, zone_paths, page_paths, certificate_paths, secret_paths, loaded }
    }

    /// What they count.
    pub fn sources(&self) -> [Arc<dyn Observe>; 4] {
        [self.zones.clone(), self.pages.clone(), self.certificates.clone(), self.secrets.clone()]
    }

    /// Keeps all current until the drain, each from its own requests.
    pub fn keep(
        self,
        tasks: &mut JoinSet<()>,
        (planes, admin): (&Planes, Option<Arc<AdminTls>>),
        [zones_asked, pages_asked, certificates_asked, secrets_asked]: [Requests; 4],
        drain: &DrainWatch,
    ) {
        let (dns, http, path) = (planes.dns.gate(), planes.http.gate(), self.page_paths.first().cloned());
        let for_zones = dns.clone();
        let load = move |shrink| reload_zones(for_zones.clone(), shrink);
        tasks.spawn(self.zones.keep(self.zone_paths, self.loaded.0, load, zones_asked.receiver, drain.clone()));
        let gate = http.clone();
        let load = move |_| reload_pages(gate.clone(), path.clone());
        tasks.spawn(self.pages.keep(self.page_paths, self.loaded.1, load, pages_asked.receiver, drain.clone()));
        let (path, for_secrets) = (self.secret_paths.first().cloned(), dns.clone());
        let load = move |_| reload_secrets(for_secrets.clone(), path.clone());
        tasks.spawn(self.secrets.keep(self.secret_paths, self.loaded.3, load, secrets_asked.receiver, drain.clone()));
        let load = move |_| reload_certificates(dns.clone(), http.clone(), admin.clone());
        let (paths, asked) = (self.certificate_paths, certificates_asked.receiver);
        tasks.spawn(self.certificates.keep(paths, self.loaded.2, load, asked, drain.clone()));
    }
}

/// Zones named by their file; those in directories are looked for at every load.
fn single_zones(settings: &dns::Settings) -> impl Iterator<Item = &ZoneFile> {
    let is_single = |zone: &&ZoneFile| !settings.zone_directories.iter().any(|path| zone.file.starts_with(path));
    settings.zones.iter().filter(is_single)
}

/// Loads the zones anew and replaces them; losing all of them must be meant.
async fn reload_zones(gate: Arc<dns::handler::Gate>, shrink: Shrink) -> Result<String, String> {
    let settings = gate.settings();
    let mut files: Vec<ZoneFile> = single_zones(settings).cloned().collect();
    for directory in &settings.zone_directories {
        files.extend(files_in(directory).map_err(|error| error.to_string())?);
    }
    let zones = Zones::load(&files).await.map_err(|error| error.to_string())?;
    if zones.is_empty() && gate.zone_count() > 0 && shrink == Shrink::Refuse {
        return Err("every zone is gone; reload with accept-shrink if that is meant".to_owned());
    }
    let count = zones.len();
    gate.replace_zones(zones);
    Ok(plural(count, "zone"))
}

/// Loads the page templates anew and replaces them.
async fn reload_pages(gate: Arc<http::Gate>, path: Option<PathBuf>) -> Result<String, String> {
    let loading = tokio::task::spawn_blocking(move || Pages::load(path.as_deref()));
    let Ok(loaded) = loading.await else { return Err("the load was cut off by an internal error".to_owned()) };
    gate.replace_pages(loaded.map_err(|error| error.to_string())?);
    Ok("templates replaced".to_owned())
}

/// Reads the secrets of cookies anew and replaces them.
async fn reload_secrets(gate: Arc<dns::handler::Gate>, path: Option<PathBuf>) -> Result<String, String> {
    let Some(path) = path else { return Ok("none".to_owned()) };
    let loading = tokio::task::spawn_blocking(move || secrets::read(&path));
    let Ok(loaded) = loading.await else { return Err("the load was cut off by an internal error".to_owned()) };
    let secrets = loaded.map_err(|error| error.to_string())?;
    gate.replace_cookie_secrets(&secrets);
    Ok(plural(secrets.len(), "secret"))
}

/// Reads the certificates of both planes and the admin listener anew and replaces them, all or none.
async fn reload_certificates(
    dns: Arc<dns::handler::Gate>,
    http: Arc<http::Gate>,
    admin: Option<Arc<AdminTls>>,
) -> Result<String, String> {
    let (for_dns, files, for_admin) = (dns.clone(), http.settings().certificates.clone(), admin.clone());
    let loading = tokio::task::spawn_blocking(move || {
        let of_admin = for_admin.map(|admin| tls::read(admin.settings())).transpose()?;
        Ok::<_, CertificateError>((Servers::load(for_dns.settings())?, Certificates::load(&files)?, of_admin))
    });
    let Ok(loaded) = loading.await else { return Err("the load was cut off by an internal error".to_owned()) };
    let (servers, certificates, of_admin) = loaded.map_err(|error| error.to_string())?;
    let count = servers.len() + certificates.len() + usize::from(of_admin.is_some());
    dns.replace_servers(servers);
    http.replace_certificates(certificates);
    if let (Some(admin), Some(config)) = (admin, of_admin) {
        admin.replace(config);
    }
    Ok(plural(count, "certificate"))
}
