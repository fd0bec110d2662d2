//! Who is at the other end of a connection, and how they came: what all its requests share.

use std::net::{IpAddr, SocketAddr};

use super::gate::Gate;
use super::head::Hop;
use super::host::HostName;
use super::origin::Ends;
use super::settings::Settings;

/// Addresses of a forwarding chain that are looked at.
const FORWARDERS_MAX: usize = 32;

/// The client of a connection.
#[derive(Clone, Debug)]
pub struct Party {
    /// Who talks to whom.
    pub ends: Ends,
    /// Who connected, as text.
    pub client_text: String,
    /// True when the peer is a proxy whose word is taken.
    pub is_listed: bool,
    /// What the TLS handshake said, where TLS ends here.
    pub secure: Option<Secure>,
}

/// A TLS connection that ends here.
#[derive(Clone, Debug)]
pub struct Secure {
    /// The name it was opened for.
    pub server_name: Option<HostName>,
}

impl Party {
    /// A peer that speaks for itself.
    pub fn new(settings: &Settings, peer: SocketAddr, ends: Ends) -> Self {
        let client_text = ends.client.ip().to_string();
        Self { ends, client_text, is_listed: settings.lists(peer.ip()), secure: None }
    }

    /// The connection is somebody else's, says a listed proxy: of `source`, who reached `destination`.
    pub fn speaks_for(&mut self, source: SocketAddr, destination: SocketAddr) {
        self.ends.client = SocketAddr::new(source.ip().to_canonical(), source.port());
        self.ends.reached = destination;
        self.client_text = self.client().to_string();
    }

    /// Who connected: the peer, or whom its PROXY header names.
    pub fn client(&self) -> IpAddr {
        self.ends.client.ip()
    }

    /// The address reached, which stands for the host a client did not name.
    pub fn reached(&self) -> IpAddr {
        self.ends.reached.ip().to_canonical()
    }

    /// What this hop adds to a head on its way to the origin.
    pub fn hop<'a>(&'a self, gate: &'a Gate) -> Hop<'a> {
        Hop { client: &self.client_text, via: gate.via(), is_listed: self.is_listed, is_secure: self.secure.is_some() }
    }

    /// True where a request for `host` may come over this connection (RFC 9110 section 7.4): always without TLS.
    pub fn may_ask_for(&self, gate: &Gate, host: &HostName) -> bool {
        let Some(secure) = &self.secure else { return true };
        secure.server_name.as_ref() == Some(host) || gate.certificates().covers(host)
    }

    /// True where an origin's offer of HTTP/3 must not reach the client: it would go where nobody judges (D-Q12).
    pub fn hides_http3(&self, gate: &Gate) -> bool {
        self.secure.is_some() && gate.settings().quic_listen.is_empty()
    }

    /// The client a listed proxy speaks for: the last address of `X-Forwarded-For` that no listed proxy added.
    pub fn original_client<'v>(&self, gate: &Gate, forwarded_for: impl Iterator<Item = &'v [u8]>) -> IpAddr {
        let mut res = self.client();
        if !gate.settings().lists(res) {
            return res;
        }
        let values: Vec<&[u8]> = forwarded_for.flat_map(super::head::list).collect();
        for value in values.into_iter().rev().take(FORWARDERS_MAX) {
            let Some(addr) = std::str::from_utf8(value).ok().and_then(|text| text.parse::<IpAddr>().ok()) else {
                break;
            };
            res = addr.to_canonical();
            if !gate.settings().lists(res) {
                break;
            }
        }
        res
    }
}
