//! `[http]`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Checker, others_can_read, path, size};
use crate::config::spec::Spec;
use crate::config::spec::http::{
    BlockedTunnelsWord, CertificateSpec, HttpBlockSpec, HttpSpec, OriginWord, ProxyVersionWord, QuicBlockWord,
    TlsBlockWord,
};
use crate::credentials::CertificateFiles;
use crate::http::Settings;
use crate::http::settings::{Block, Origin, ProviderText, QuicBlock, TlsBlock};
use crate::proxy_header::ProxyVersion;

/// What may stand in braces in `http.block.redirect`.
const PLACEHOLDERS: [&str; 4] = ["name", "domain", "reason", "id"];

/// The addresses the gate itself listens on.
struct Own {
    tcp: Vec<SocketAddr>,
    udp: Vec<SocketAddr>,
}

impl Checker<'_> {
    pub(super) fn http(&mut self, spec: &Spec, provider: ProviderText) -> Settings {
        let text = &spec.http;
        let listen = self.sockets("http.listen", &text.listen);
        let tls_listen = self.sockets("http.tls-listen", &text.tls_listen);
        let quic_listen = self.sockets("http.quic-listen", &text.quic_listen);
        for (i, addr) in tls_listen.iter().enumerate() {
            if addr.port() != 0 && listen.contains(addr) {
                let message = "is in http.listen as well; either takes plain HTTP and TLS, so once is enough";
                self.refuse(&format!("http.tls-listen[{i}]"), &addr.to_string(), message);
            }
        }
        let own = Own { tcp: [&listen[..], &tls_listen[..]].concat(), udp: quic_listen.clone() };
        let demo_origin =
            if text.demo_origin.is_empty() { None } else { self.socket("http.demo-origin", &text.demo_origin) };
        if demo_origin.is_some_and(|addr| own.tcp.contains(&addr)) {
            self.refuse("http.demo-origin", &text.demo_origin, "is the gate's own address (http.listen)");
        }
        let fixed_tls = self.fixed_peer("http.fixed-tls", &text.fixed_tls, &own.tcp);
        // What serves TLS on a port mostly serves QUIC on the same.
        let quic_text = if text.fixed_quic.is_empty() { &text.fixed_tls } else { &text.fixed_quic };
        Settings {
            origin: self.origin(text, &own.tcp),
            resolve_to: self.prefixes("http.resolve-to", &text.resolve_to),
            fixed_tls,
            fixed_quic: self.fixed_peer("http.fixed-quic", quic_text, &own.udp),
            certificates: self.certificates(&text.certificate),
            transparent: text.transparent,
            block: self.http_block(&text.block),
            proxy_protocol_from: self.prefixes("http.proxy-protocol.from", &text.proxy_protocol.from),
            proxy_to_origin: text.proxy_protocol.to_origin.then_some(match text.proxy_protocol.version {
                ProxyVersionWord::V1 => ProxyVersion::V1,
                ProxyVersionWord::V2 => ProxyVersion::V2,
            }),
            listen,
            tls_listen,
            quic_listen,
            demo_origin,
            provider,
            acme_carve_out: text.acme_carve_out,
            head_bytes_max: size(text.head_bytes_max),
            head_lines_max: size(text.head_lines_max),
            head_timeout: Duration::from_secs(text.head_timeout_seconds),
            hello_octets_max: size(text.hello_bytes_max),
            hello_timeout: Duration::from_secs(text.hello_timeout_seconds),
            blocked_tunnel_grace: match text.blocked_tunnels {
                BlockedTunnelsWord::Close => Some(Duration::from_secs(text.blocked_tunnel_grace_seconds)),
                BlockedTunnelsWord::Keep => None,
            },
            idle_timeout: Duration::from_secs(text.idle_timeout_seconds),
            stream_timeout: Duration::from_secs(text.stream_timeout_seconds),
            connect_timeout: Duration::from_secs(text.connect_timeout_seconds),
            response_timeout: Duration::from_secs(text.response_timeout_seconds),
            connections_max: size(text.connections_max),
            connections_per_client_max: size(text.connections_per_client_max),
            requests_per_connection_max: text.requests_per_connection_max,
            quic_flows_max: size(text.quic_flows_max),
            quic_idle: Duration::from_secs(text.quic_idle_seconds),
        }
    }

    /// The files of certificates; what is in them is read when the plane is set up, and again when they change.
    fn certificates(&mut self, texts: &[CertificateSpec]) -> Vec<CertificateFiles> {
        let mut res = Vec::with_capacity(texts.len());
        for (i, text) in texts.iter().enumerate() {
            let chain_key = format!("http.certificate[{i}].chain");
            let key_key = format!("http.certificate[{i}].key");
            for (key, path, what) in [
                (&chain_key, &text.chain, "the path of a PEM file of certificates"),
                (&key_key, &text.key, "the path of a PEM file of the private key"),
            ] {
                if path.trim().is_empty() {
                    self.refuse(key, path, format!("expected {what}"));
                }
            }
            if others_can_read(Path::new(&text.key)) {
                self.warn(&key_key, "every user of this machine can read the key; expected mode 0600 or 0640");
            }
            let files = CertificateFiles { chain: PathBuf::from(&text.chain), key: PathBuf::from(&text.key) };
            if res.contains(&files) {
                self.refuse(&chain_key, &text.chain, "is there twice");
            }
            res.push(files);
        }
        res
    }

    /// How origins are found; without listeners nobody is passed on and none is needed.
    fn origin(&mut self, text: &HttpSpec, own: &[SocketAddr]) -> Origin {
        if text.origin != OriginWord::Fixed {
            for (key, addr) in [
                ("http.fixed", &text.fixed),
                ("http.fixed-tls", &text.fixed_tls),
                ("http.fixed-quic", &text.fixed_quic),
            ] {
                if !addr.is_empty() {
                    self.refuse(key, addr, "is used with origin = \"fixed\" only; expected \"\"");
                }
            }
        }
        if let Some(addr) = text.quic_listen.first().filter(|_| text.origin != OriginWord::Fixed) {
            self.refuse("http.quic-listen", addr, "works with origin = \"fixed\" only, for now; expected []");
        }
        if let Some(files) = text.certificate.first().filter(|_| text.origin != OriginWord::Fixed) {
            // Other origins are found at the port the client meant, which is one of TLS; what is inside goes on as plain HTTP.
            let message = "works with origin = \"fixed\" only: the requests inside go on as plain HTTP; expected none";
            self.refuse("http.certificate[0].chain", &files.chain, message);
        }
        for (key, values) in [("http.resolvers", &text.resolvers), ("http.resolve-to", &text.resolve_to)] {
            if let Some(first) = values.first().filter(|_| text.origin != OriginWord::Resolve) {
                self.refuse(key, first, "is used with origin = \"resolve\" only; expected []");
            }
        }
        match text.origin {
            OriginWord::Fixed => Origin::Fixed(self.fixed(text, own)),
            OriginWord::OriginalDst => Origin::OriginalDst,
            OriginWord::Resolve => Origin::Resolve(self.resolvers(&text.resolvers)),
        }
    }

    fn resolvers(&mut self, texts: &[String]) -> Vec<SocketAddr> {
        if texts.is_empty() {
            let message = "origin = \"resolve\" needs name servers; expected addresses, such as [\"127.0.0.1:53\"]";
            self.refuse("http.resolvers", "", message);
        }
        let read = |(i, text): (usize, &String)| self.peer(&format!("http.resolvers[{i}]"), text);
        texts.iter().enumerate().filter_map(read).collect()
    }

    /// The address of the origin of plain HTTP.
    fn fixed(&mut self, text: &HttpSpec, own: &[SocketAddr]) -> SocketAddr {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let ends_tls = !text.certificate.is_empty() && !text.tls_listen.is_empty();
        if text.fixed.is_empty() && (!text.listen.is_empty() || ends_tls) {
            self.refuse("http.fixed", "", "filed requests need an origin; expected its address and port");
        }
        if text.fixed_tls.is_empty() && !text.tls_listen.is_empty() {
            self.refuse("http.fixed-tls", "", "filed connections need an origin; expected its address and port");
        }
        if text.fixed_tls.is_empty() && text.fixed_quic.is_empty() && !text.quic_listen.is_empty() {
            self.refuse("http.fixed-quic", "", "filed connections need an origin; expected its address and port");
        }
        self.fixed_peer("http.fixed", &text.fixed, own).unwrap_or(nowhere)
    }

    /// An origin's address, which must not be the gate's own.
    fn fixed_peer(&mut self, key: &str, text: &str, own: &[SocketAddr]) -> Option<SocketAddr> {
        if text.is_empty() {
            return None;
        }
        let addr = self.peer(key, text)?;
        let is_us = |own: &SocketAddr| {
            *own == addr || (own.ip().is_unspecified() && own.port() == addr.port() && addr.ip().is_loopback())
        };
        if own.iter().any(is_us) {
            self.refuse(key, text, "is the gate itself: what is filed would go in circles");
        }
        Some(addr)
    }

    fn http_block(&mut self, text: &HttpBlockSpec) -> Block {
        match text.status {
            451 | 403 if !text.redirect.is_empty() => {
                let message = "is used with status 302 or 307 only; expected \"\"";
                self.refuse("http.block.redirect", &text.redirect, message);
            }
            451 | 403 => {}
            302 | 307 => self.redirect(&text.redirect),
            status => self.refuse("http.block.status", &status.to_string(), "expected 451, 403, 302 or 307"),
        }
        Block {
            status: text.status,
            redirect: text.redirect.clone(),
            tls: match text.tls {
                TlsBlockWord::Alert => TlsBlock::Alert,
                TlsBlockWord::Drop => TlsBlock::Drop,
                TlsBlockWord::Rst => TlsBlock::Reset,
            },
            quic: match text.quic {
                QuicBlockWord::Close => QuicBlock::Close,
                QuicBlockWord::Drop => QuicBlock::Drop,
            },
            pages: path(&text.pages),
        }
    }

    fn redirect(&mut self, text: &str) {
        const KEY: &str = "http.block.redirect";
        self.url(KEY, text);
        // Braces in turn: what stands between { and } must be known.
        for piece in text.split('{').skip(1) {
            let word = piece.split('}').next().unwrap_or("");
            if !PLACEHOLDERS.contains(&word) || !piece.contains('}') {
                let known = PLACEHOLDERS.map(|word| format!("{{{word}}}")).join(", ");
                self.refuse(KEY, text, format!("{{{word}}} is no placeholder; available: {known}"));
            }
        }
    }
}
