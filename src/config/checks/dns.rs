//! `[dns]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{Checker, path, size};
use crate::config::spec::Spec;
use crate::config::spec::dns::{DnsBlockSpec, SecureSpec, UpstreamSpec, ZoneSpec};
use crate::config::upstream;
use crate::dns::Settings;
use crate::dns::settings::{Block, BlockAction, UpstreamGroup, ZoneFile};
use crate::dns::zones;
use crate::model::DomainName;

impl Checker<'_> {
    pub(super) fn dns(&mut self, spec: &Spec) -> Settings {
        let text = &spec.dns;
        for (key, secure) in [("dns.tls", &text.tls), ("dns.https", &text.https), ("dns.quic", &text.quic)] {
            self.later_listener(key, secure);
        }
        let listen = self.sockets("dns.listen", &text.listen);
        let allow_from = self.prefixes("dns.allow-from", &text.allow_from);
        if !listen.is_empty() && text.allow_from.is_empty() {
            self.refuse("dns.allow-from", "", "nobody could ask; expected prefixes of clients");
        }
        let is_open = allow_from.iter().any(|prefix| prefix.prefix_len() == 0);
        if is_open && listen.iter().any(|addr| !addr.ip().is_loopback()) && !text.upstream.is_empty() {
            self.warn("dns.allow-from", "the whole world may ask: an open resolver is used to attack others");
        }
        if text.resolve_timeout_milliseconds < text.upstream_timeout_milliseconds {
            let value = text.resolve_timeout_milliseconds.to_string();
            let message = "is shorter than dns.upstream-timeout-milliseconds; expected at least as long";
            self.refuse("dns.resolve-timeout-milliseconds", &value, message);
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Settings {
            udp_sockets: if text.udp_sockets == 0 { cores } else { size(text.udp_sockets) },
            zones: self.zones(&text.zones),
            zone_directories: zone_directories(&text.zones),
            upstreams: self.upstreams(&text.upstream, &listen),
            upstream_ca: path(&text.upstream_ca),
            upstream_timeout: Duration::from_millis(text.upstream_timeout_milliseconds),
            resolve_timeout: Duration::from_millis(text.resolve_timeout_milliseconds),
            upstream_down: spec.policy.on_upstream_down.into(),
            block: self.dns_block(&text.block),
            judge_families: text.judge_families.into(),
            mainland_ttl_max: Duration::from_secs(text.mainland_ttl_max_seconds),
            cache_bytes_max: size(text.cache_bytes_max),
            cache_ttl_max: Duration::from_secs(text.cache_ttl_max_seconds),
            negative_ttl_max: Duration::from_secs(text.negative_ttl_max_seconds),
            stale_max: Duration::from_secs(text.stale_max_seconds),
            edns_udp_bytes_max: text.edns_udp_bytes_max,
            inflight_max: size(text.inflight_max),
            tcp_connections_max: size(text.tcp_connections_max),
            tcp_connections_per_client_max: size(text.tcp_connections_per_client_max),
            tcp_idle: Duration::from_secs(text.tcp_idle_seconds),
            listen,
            allow_from,
        }
    }

    fn later_listener(&mut self, key: &str, secure: &SecureSpec) {
        if let Some(addr) = secure.listen.first() {
            self.later(&format!("{key}.listen"), addr, "[]");
        }
        for (inner, value) in [("certificate", &secure.certificate), ("key", &secure.key)] {
            if !value.is_empty() {
                self.later(&format!("{key}.{inner}"), value, "\"\"");
            }
        }
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
            res.push(UpstreamGroup { suffix, servers, policy: text.policy.into() });
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
