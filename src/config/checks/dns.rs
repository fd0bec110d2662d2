//! `[dns]`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Checker, others_can_read, path, size};
use crate::config::spec::Spec;
use crate::config::spec::dns::{
    DnsBlockSpec, DnsProxySpec, DnsSpec, DnstapMessage, DnstapSpec, HttpsSpec, RateLimitSpec, UpstreamSpec, ZoneSpec,
};
use crate::config::upstream;
use crate::credentials::CertificateFiles;
use crate::dns::Settings;
use crate::dns::cookies::Secret;
use crate::dns::edns::{PASSED_MAX, info_code};
use crate::dns::rate::RateLimit;
use crate::dns::secrets;
use crate::dns::settings::{
    Block, BlockAction, Dnstap, DnstapTarget, ProxyProtocol, Secure, Structured, UpstreamGroup,
    UpstreamPolicy as Policy, ZoneFile,
};
use crate::dns::zones;
use crate::model::DomainName;

/// Octets of the path of DNS over HTTPS: it stands in every request, and in a record by which clients find it.
const PATH_OCTETS_MAX: usize = 128;
/// Octets of a server's identity: it must fit into every answer (RFC 5001 section 3.1 leaves its form to the operator).
const NSID_OCTETS_MAX: usize = 128;

impl Checker<'_> {
    pub(super) fn dns(&mut self, spec: &Spec) -> Settings {
        let text = &spec.dns;
        let listen = self.sockets("dns.listen", &text.listen);
        let proxy_protocol = self.dns_proxies(&text.proxy_protocol, &listen);
        let plain: Vec<SocketAddr> = listen.iter().chain(&proxy_protocol.listen).copied().collect();
        let secure = self.secure(text, &plain);
        let all: Vec<SocketAddr> =
            plain.iter().chain(secure.iter().flat_map(|secure| &secure.listen)).copied().collect();
        let [tls, https, quic] = secure;
        let allow_from = self.prefixes("dns.allow-from", &text.allow_from);
        if !all.is_empty() && text.allow_from.is_empty() {
            self.refuse("dns.allow-from", "", "nobody could ask; expected prefixes of clients");
        }
        let is_open = allow_from.iter().any(|prefix| prefix.prefix_len() == 0);
        if is_open && all.iter().any(|addr| !addr.ip().is_loopback()) && !text.upstream.is_empty() {
            self.warn("dns.allow-from", "the whole world may ask: an open resolver is used to attack others");
        }
        if text.resolve_timeout_milliseconds < text.upstream_timeout_milliseconds {
            let value = text.resolve_timeout_milliseconds.to_string();
            let message = "is shorter than dns.upstream-timeout-milliseconds; expected at least as long";
            self.refuse("dns.resolve-timeout-milliseconds", &value, message);
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let cookie_secret_file = Some(&text.cookie_secret_file).filter(|file| !file.is_empty()).map(PathBuf::from);
        Settings {
            udp_sockets: if text.udp_sockets == 0 { cores } else { size(text.udp_sockets) },
            zones: self.zones(&text.zones),
            zone_directories: zone_directories(&text.zones),
            upstreams: self.upstreams(&text.upstream, &all),
            upstream_ca: path(&text.upstream_ca),
            upstream_timeout: Duration::from_millis(text.upstream_timeout_milliseconds),
            resolve_timeout: Duration::from_millis(text.resolve_timeout_milliseconds),
            upstream_down: spec.policy.on_upstream_down.into(),
            block: self.dns_block(&text.block),
            ede_pass: self.ede_pass(text),
            structured_errors: self.structured_errors(spec),
            judge_families: text.judge_families.into(),
            mainland_ttl_max: Duration::from_secs(text.mainland_ttl_max_seconds),
            cache_bytes_max: size(text.cache_bytes_max),
            cache_file: path(&text.cache_file),
            prefetch_tenths: if text.prefetch { Settings::new().prefetch_tenths } else { 0 },
            cache_ttl_max: Duration::from_secs(text.cache_ttl_max_seconds),
            negative_ttl_max: Duration::from_secs(text.negative_ttl_max_seconds),
            stale_max: Duration::from_secs(text.stale_max_seconds),
            edns_udp_bytes_max: text.edns_udp_bytes_max,
            inflight_max: size(text.inflight_max),
            tcp_connections_max: size(text.tcp_connections_max),
            tcp_connections_per_client_max: size(text.tcp_connections_per_client_max),
            tcp_idle: Duration::from_secs(text.tcp_idle_seconds),
            https_path: self.https_path(&text.https.path),
            nsid: self.nsid("dns.nsid", &text.nsid),
            dnstap: self.dnstap(&text.dnstap, &text.nsid),
            cookies: text.cookies,
            cookie_secrets: self.cookie_secrets(cookie_secret_file.as_deref()),
            cookie_secret_file,
            rate_limit: self.rate_limit(&text.rate_limit),
            inflight_per_client_max: size(text.inflight_per_client_max),
            listen,
            proxy_protocol,
            tls,
            https,
            quic,
            allow_from,
        }
    }

    /// The listeners for proxies, with those that are believed.
    fn dns_proxies(&mut self, text: &DnsProxySpec, plain: &[SocketAddr]) -> ProxyProtocol {
        const FROM: &str = "dns.proxy-protocol.from";
        let listen = self.sockets("dns.proxy-protocol.listen", &text.listen);
        let from = self.prefixes(FROM, &text.from);
        if !text.listen.is_empty() && text.from.is_empty() {
            self.refuse(
                FROM,
                "",
                "is needed by dns.proxy-protocol.listen; expected prefixes of the proxies before the gate",
            );
        }
        if text.listen.is_empty() && !text.from.is_empty() {
            self.warn(FROM, "has no effect: dns.proxy-protocol.listen is empty");
        }
        if from.iter().any(|prefix| prefix.prefix_len() == 0) {
            let message = "whoever reaches this listener may ask in anybody's name; expected prefixes of proxies";
            self.warn(FROM, message);
        }
        self.not_twice("dns.proxy-protocol", &listen, plain);
        ProxyProtocol { listen, from }
    }

    /// The encrypted listeners: TLS, HTTPS, QUIC.
    fn secure(&mut self, text: &DnsSpec, plain: &[SocketAddr]) -> [Secure; 3] {
        let HttpsSpec { listen, certificate, key, .. } = &text.https;
        let (tls, quic) = (&text.tls, &text.quic);
        let res = [
            self.secure_listener("dns.tls", &tls.listen, &tls.certificate, &tls.key),
            self.secure_listener("dns.https", listen, certificate, key),
            self.secure_listener("dns.quic", &quic.listen, &quic.certificate, &quic.key),
        ];
        // Those over TCP with those over TCP; QUIC with UDP.
        let mut taken = plain.to_vec();
        for (key, secure) in [("dns.tls", &res[0]), ("dns.https", &res[1])] {
            self.not_twice(key, &secure.listen, &taken);
            taken.extend(&secure.listen);
        }
        self.not_twice("dns.quic", &res[2].listen, plain);
        res
    }

    fn not_twice(&mut self, key: &str, listen: &[SocketAddr], taken: &[SocketAddr]) {
        for (i, addr) in listen.iter().enumerate().filter(|(_, addr)| addr.port() != 0 && taken.contains(addr)) {
            let message = "is another listener's of the DNS plane as well; expected a port of its own";
            self.refuse(&format!("{key}.listen[{i}]"), &addr.to_string(), message);
        }
    }

    /// An encrypted listener with its files; what is in them is read when the plane is set up, and again when they change.
    fn secure_listener(&mut self, key: &str, listen: &[String], certificate: &str, secret: &str) -> Secure {
        let listen = self.sockets(&format!("{key}.listen"), listen);
        let files = [("certificate", certificate, "certificates"), ("key", secret, "the private key")];
        for (inner, path, what) in files {
            if path.trim().is_empty() && !listen.is_empty() {
                let message = format!("is needed by {key}.listen; expected the path of a PEM file of {what}");
                self.refuse(&format!("{key}.{inner}"), path, message);
            } else if !path.is_empty() && listen.is_empty() {
                self.warn(&format!("{key}.{inner}"), &format!("has no effect: {key}.listen is empty"));
            }
        }
        if !secret.is_empty() && others_can_read(Path::new(secret)) {
            let message = "every user of this machine can read the key; expected mode 0600 or 0640";
            self.warn(&format!("{key}.key"), message);
        }
        let has_files = !certificate.is_empty() && !secret.is_empty();
        let files = CertificateFiles { chain: PathBuf::from(certificate), key: PathBuf::from(secret) };
        Secure { listen, certificate: has_files.then_some(files) }
    }

    fn https_path(&mut self, path: &str) -> String {
        let is_good = path.starts_with('/') && path.bytes().all(|c| c.is_ascii_graphic() && !matches!(c, b'?' | b'#'));
        if !is_good || path.len() > PATH_OCTETS_MAX {
            let message = "expected a path of visible ASCII characters, such as \"/dns-query\"";
            self.refuse("dns.https.path", path, message);
        }
        path.to_owned()
    }

    fn nsid(&mut self, key: &str, text: &str) -> String {
        if text.len() > NSID_OCTETS_MAX || text.chars().any(char::is_control) {
            let message = format!("expected at most {NSID_OCTETS_MAX} octets without control characters");
            self.refuse(key, text, message);
        }
        text.to_owned()
    }

    /// Where copies of queries and responses go, and which.
    fn dnstap(&mut self, text: &DnstapSpec, nsid: &str) -> Option<Dnstap> {
        let own = self.nsid("dns.dnstap.identity", &text.identity);
        let identity = if own.is_empty() { nsid.to_owned() } else { own };
        if text.to.is_empty() {
            return None;
        }
        if text.messages.is_empty() {
            self.refuse(
                "dns.dnstap.messages",
                "",
                "nothing would be copied; expected \"client-query\", \"client-response\"",
            );
        }
        let Some(to) = dnstap_target(&text.to) else {
            let message = "expected \"unix:///PATH\", \"tcp://ADDRESS:PORT\" or \"file:///PATH\"";
            self.refuse("dns.dnstap.to", &text.to, message);
            return None;
        };
        let has = |message| text.messages.contains(&message);
        let (queries, responses) = (has(DnstapMessage::ClientQuery), has(DnstapMessage::ClientResponse));
        Some(Dnstap { to, identity, queries, responses })
    }

    /// The secrets of cookies as they are now.
    fn cookie_secrets(&mut self, file: Option<&Path>) -> Vec<Secret> {
        const KEY: &str = "dns.cookie-secret-file";
        let Some(file) = file else { return Vec::new() };
        if others_can_read(file) {
            self.warn(KEY, "every user of this machine can read the secrets; expected mode 0600 or 0640");
        }
        secrets::read(file).unwrap_or_else(|error| {
            self.refuse(KEY, &file.display().to_string(), error.to_string());
            Vec::new()
        })
    }

    fn rate_limit(&mut self, text: &RateLimitSpec) -> RateLimit {
        let RateLimitSpec { responses_per_second, slip, ipv4_prefix, ipv6_prefix, .. } = *text;
        let exempt = self.prefixes("dns.rate-limit.exempt", &text.exempt);
        RateLimit { responses_per_second, slip, ipv4_prefix, ipv6_prefix, exempt }
    }

    /// Extended errors of upstreams: those about who asks are about this gate.
    fn ede_pass(&mut self, text: &DnsSpec) -> Vec<u16> {
        const KEY: &str = "dns.ede-pass";
        let codes = &text.ede_pass;
        if codes.len() > PASSED_MAX {
            self.refuse(KEY, &codes.len().to_string(), format!("too many codes; expected at most {PASSED_MAX}"));
        }
        for (i, code) in codes.iter().enumerate() {
            let key = format!("{KEY}[{i}]");
            if codes[..i].contains(code) {
                self.refuse(&key, &code.to_string(), "is there twice");
            }
            if *code == info_code::PROHIBITED {
                let message = "is about who asks the upstream, which is this gate; expected codes about answers";
                self.refuse(&key, &code.to_string(), message);
            }
        }
        if codes.contains(&text.block.ede_code) {
            self.warn(KEY, "holds dns.block.ede-code: clients cannot tell a block here from one of an upstream");
        }
        codes.clone()
    }

    /// What structured errors say: clients throw them away without a contact.
    fn structured_errors(&mut self, spec: &Spec) -> Option<Structured> {
        const KEY: &str = "dns.structured-errors";
        if !spec.dns.structured_errors {
            return None;
        }
        let provider = &spec.provider;
        let filing_url = Some(provider.filing_url.clone()).filter(|url| !url.is_empty());
        let contacts: Vec<String> = contact_uri(&provider.contact).into_iter().chain(filing_url).collect();
        if contacts.is_empty() {
            let message = "needs somebody to ask; expected provider.contact (a mail address, telephone number or URL) or \
                provider.filing-url";
            self.refuse(KEY, "true", message);
        }
        Some(Structured { contacts, organization: provider.name.clone() })
    }

    fn dns_block(&mut self, text: &DnsBlockSpec) -> Block {
        let action: BlockAction = text.action.into();
        let ipv4 = self.read_list("dns.block.ipv4", &text.ipv4, "an IPv4 address, such as \"192.0.2.1\"");
        let ipv6 = self.read_list("dns.block.ipv6", &text.ipv6, "an IPv6 address, such as \"2001:db8::1\"");
        if action == BlockAction::Redirect && text.ipv4.is_empty() && text.ipv6.is_empty() {
            let message = "needs addresses to lead to; expected dns.block.ipv4 or dns.block.ipv6, or another action";
            self.refuse("dns.block.action", "redirect", message);
        }
        Block { action, ipv4, ipv6, ttl_seconds: text.ttl_seconds, ede_code: text.ede_code }
    }

    fn zones(&mut self, texts: &[ZoneSpec]) -> Vec<ZoneFile> {
        let mut res: Vec<ZoneFile> = Vec::new();
        for (i, text) in texts.iter().enumerate() {
            let key = format!("dns.zones[{i}]");
            let (shown, found) = match text {
                ZoneSpec::Path(path) => (path, self.zones_in(&key, path)),
                ZoneSpec::Named(zone) => {
                    let origin = self.name(&format!("{key}.origin"), &zone.origin);
                    let file = PathBuf::from(&zone.file);
                    (&zone.file, origin.map(|origin| ZoneFile { origin, file }).into_iter().collect())
                }
            };
            for zone in found {
                if let Some(other) = res.iter().find(|other| other.origin == zone.origin) {
                    let message = format!("zone {} is there twice, also in {}", zone.origin, other.file.display());
                    self.refuse(&key, shown, message);
                } else {
                    res.push(zone);
                }
            }
        }
        res
    }

    fn zones_in(&mut self, key: &str, path: &str) -> Vec<ZoneFile> {
        match zones::files_in(PathBuf::from(path).as_path()) {
            Ok(found) if found.is_empty() => {
                self.refuse(key, path, "holds no zone; expected files named after their origin, as example.com.zone");
                found
            }
            Ok(found) => found,
            Err(error) => {
                self.refuse(key, path, error.to_string());
                Vec::new()
            }
        }
    }

    fn upstreams(&mut self, texts: &[UpstreamSpec], listen: &[SocketAddr]) -> Vec<UpstreamGroup> {
        let mut res: Vec<UpstreamGroup> = Vec::new();
        for (i, text) in texts.iter().enumerate() {
            let key = format!("dns.upstream[{i}]");
            let suffix = match text.suffix.as_str() {
                "" | "." => Some(DomainName::root()),
                suffix => self.name(&format!("{key}.suffix"), suffix),
            };
            let Some(suffix) = suffix else { continue };
            if res.iter().any(|group| group.suffix == suffix) {
                self.refuse(&format!("{key}.suffix"), &text.suffix, "is there twice; expected one table a suffix");
            }
            if text.servers.is_empty() {
                self.refuse(
                    &format!("{key}.servers"),
                    "",
                    "expected at least one server, such as \"udp://192.0.2.53\"",
                );
            }
            let mut servers = Vec::with_capacity(text.servers.len());
            for (j, server) in text.servers.iter().enumerate() {
                let key = format!("{key}.servers[{j}]");
                match upstream::parse(server) {
                    Ok(server) if listen.contains(&server.addr) => {
                        self.refuse(&key, &server.text, "is this gate itself (dns.listen); expected another server");
                    }
                    Ok(server) if servers.contains(&server) => self.refuse(&key, &server.text, "is there twice"),
                    Ok(server) => servers.push(server),
                    Err(message) => self.refuse(&key, server, message),
                }
            }
            let policy = text.policy.into();
            res.push(UpstreamGroup { suffix, servers, policy, hedges: policy == Policy::Fastest });
        }
        res
    }
}

/// Directories among `dns.zones`: their files may come and go.
fn zone_directories(texts: &[ZoneSpec]) -> Vec<PathBuf> {
    let path = |text: &ZoneSpec| match text {
        ZoneSpec::Path(path) => Some(PathBuf::from(path)),
        ZoneSpec::Named(_) => None,
    };
    texts.iter().filter_map(path).filter(|path| path.is_dir()).collect()
}

/// A mail address, telephone number or URL as a URI.
fn contact_uri(text: &str) -> Option<String> {
    let text = text.trim();
    let is_uri =
        ["http://", "https://", "mailto:", "tel:", "sip:", "sips:"].iter().any(|scheme| text.starts_with(scheme));
    let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let is_number = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | '(' | ')');
    match text {
        "" => None,
        _ if is_uri => Some(text.to_owned()),
        _ if text.contains('@') && !text.contains(char::is_whitespace) => Some(format!("mailto:{text}")),
        _ if digits.chars().all(is_number) && digits.contains(|c: char| c.is_ascii_digit()) => {
            Some(format!("tel:{digits}"))
        }
        _ => None,
    }
}

/// The target of dnstap; paths are absolute.
fn dnstap_target(text: &str) -> Option<DnstapTarget> {
    let (scheme, rest) = text.split_once("://")?;
    let path = || Some(PathBuf::from(rest)).filter(|path| path.is_absolute() && path.file_name().is_some());
    match scheme {
        "file" => path().map(DnstapTarget::File),
        "tcp" => rest.parse().ok().map(DnstapTarget::Tcp),
        "unix" => path().map(DnstapTarget::Unix),
        _ => None,
    }
}
