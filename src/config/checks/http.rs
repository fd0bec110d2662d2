//! `[http]`.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{Checker, path, size};
use crate::config::spec::Spec;
use crate::config::spec::http::{HttpBlockSpec, HttpSpec, OriginWord};
use crate::http::Settings;
use crate::http::settings::{Block, Origin, ProviderText};

/// What may stand in braces in `http.block.redirect`.
const PLACEHOLDERS: [&str; 4] = ["name", "domain", "reason", "id"];

impl Checker<'_> {
    pub(super) fn http(&mut self, spec: &Spec, provider: ProviderText) -> Settings {
        let text = &spec.http;
        for (key, addrs) in [("http.tls-listen", &text.tls_listen), ("http.quic-listen", &text.quic_listen)] {
            if let Some(addr) = addrs.first() {
                self.later(key, addr, "[]");
            }
        }
        match text.origin {
            OriginWord::Fixed => {}
            OriginWord::OriginalDst => self.later("http.origin", "original-dst", "\"fixed\""),
            OriginWord::Resolve => self.later("http.origin", "resolve", "\"fixed\""),
        }
        if text.proxy_protocol.to_origin {
            self.later("http.proxy-protocol.to-origin", "true", "false");
        }
        let listen = self.sockets("http.listen", &text.listen);
        let demo_origin =
            if text.demo_origin.is_empty() { None } else { self.socket("http.demo-origin", &text.demo_origin) };
        if demo_origin.is_some_and(|addr| listen.contains(&addr)) {
            self.refuse("http.demo-origin", &text.demo_origin, "is the gate's own address (http.listen)");
        }
        Settings {
            origin: Origin::Fixed(self.fixed(text, &listen)),
            block: self.http_block(&text.block),
            proxy_protocol_from: self.prefixes("http.proxy-protocol.from", &text.proxy_protocol.from),
            listen,
            demo_origin,
            provider,
            acme_carve_out: text.acme_carve_out,
            head_bytes_max: size(text.head_bytes_max),
            head_lines_max: size(text.head_lines_max),
            head_timeout: Duration::from_secs(text.head_timeout_seconds),
            idle_timeout: Duration::from_secs(text.idle_timeout_seconds),
            stream_timeout: Duration::from_secs(text.stream_timeout_seconds),
            connect_timeout: Duration::from_secs(text.connect_timeout_seconds),
            response_timeout: Duration::from_secs(text.response_timeout_seconds),
            connections_max: size(text.connections_max),
            connections_per_client_max: size(text.connections_per_client_max),
            requests_per_connection_max: text.requests_per_connection_max,
        }
    }

    /// The origin's address; without listeners nobody is passed on and it may be missing.
    fn fixed(&mut self, text: &HttpSpec, listen: &[SocketAddr]) -> SocketAddr {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        if text.fixed.is_empty() {
            if !text.listen.is_empty() {
                self.refuse("http.fixed", "", "filed requests need an origin; expected its address and port");
            }
            return nowhere;
        }
        let Some(addr) = self.peer("http.fixed", &text.fixed) else { return nowhere };
        let is_us = |own: &SocketAddr| {
            *own == addr || (own.ip().is_unspecified() && own.port() == addr.port() && addr.ip().is_loopback())
        };
        if listen.iter().any(is_us) {
            self.refuse("http.fixed", &text.fixed, "is the gate itself (http.listen): requests would go in circles");
        }
        addr
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
        Block { status: text.status, redirect: text.redirect.clone(), pages: path(&text.pages) }
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
