//! TLS of the encrypted transports: one certificate each, replaced between two handshakes.
//!
//! A resolver is mostly found by its address, so its certificate is shown whatever name the client asks for, or none.
//! Nothing is taken early: 0-RTT is not offered, which RFC 9250 section 4.5 leaves to the server.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::counters::Handshake;
use super::handler::Gate;
use super::send::Transport;
use super::settings::{Secure, Settings};
use crate::credentials::{self, CertificateError, Credential};
use crate::model::DomainName;

/// Time for a handshake: three round trips and a slow device. No official reference.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// What is spoken inside, the preferred one first. Clients that offer nothing are served as well.
fn protocols(transport: Transport) -> &'static [&'static [u8]] {
    match transport {
        Transport::Https => &[b"h2", b"http/1.1"],
        Transport::Quic => &[b"doq"],
        // Registered for it; RFC 7858 itself asks for none.
        _ => &[b"dot"],
    }
}

/// What ends the TLS of one transport.
#[derive(Clone, Debug)]
pub struct Server {
    /// For TLS over TCP, and in QUIC.
    pub config: Arc<ServerConfig>,
    /// The first name in the certificate that is one, for the records by which clients find this server.
    pub name: Option<DomainName>,
    /// When its certificate expires, in seconds since 1970; `None` where that cannot be told.
    pub expires_at: Option<u64>,
}

/// What ends the TLS of each transport that is served.
#[derive(Clone, Debug, Default)]
pub struct Servers {
    tls: Option<Server>,
    https: Option<Server>,
    quic: Option<Server>,
}

impl Servers {
    /// Reads the certificates: all or none.
    pub fn load(settings: &Settings) -> Result<Self, CertificateError> {
        let load = |secure: &Secure, transport| {
            let files = secure.certificate.as_ref().filter(|_| !secure.listen.is_empty());
            files.map(|files| Server::new(Credential::read(files, &credentials::provider())?, transport)).transpose()
        };
        Ok(Self {
            tls: load(&settings.tls, Transport::Tls)?,
            https: load(&settings.https, Transport::Https)?,
            quic: load(&settings.quic, Transport::Quic)?,
        })
    }

    /// That of a transport; `None` where it is not served, or not encrypted.
    pub fn get(&self, transport: Transport) -> Option<&Server> {
        match transport {
            Transport::Https => self.https.as_ref(),
            Transport::Quic => self.quic.as_ref(),
            Transport::Tls => self.tls.as_ref(),
            Transport::Tcp | Transport::Udp => None,
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        Transport::ALL.into_iter().filter(|&transport| self.get(transport).is_some()).count()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Server {
    fn new(credential: Credential, transport: Transport) -> Result<Self, CertificateError> {
        let builder = ServerConfig::builder_with_provider(credentials::provider());
        let builder = match transport {
            Transport::Quic => builder.with_protocol_versions(&[&rustls::version::TLS13]),
            _ => builder.with_safe_default_protocol_versions(),
        };
        let builder = builder.map_err(CertificateError::Tls)?.with_no_client_auth();
        let mut config = builder.with_cert_resolver(Arc::new(Always(credential.key)));
        config.alpn_protocols = protocols(transport).iter().map(|name| name.to_vec()).collect();
        let name = credential.names.into_iter().find(|(_, is_wildcard)| !is_wildcard).map(|(name, _)| name);
        Ok(Self { config: Arc::new(config), name, expires_at: credential.expires_at })
    }
}

/// One certificate for all names.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// Does the handshake of a connection; `None` where it failed or took too long, which is counted.
pub async fn shake_hands(gate: &Gate, stream: TcpStream, transport: Transport) -> Option<TlsStream<TcpStream>> {
    let config = gate.servers().get(transport)?.config.clone();
    let accepting = TlsAcceptor::from(config).accept(stream);
    let (outcome, res) = match timeout(HANDSHAKE_MAX, Box::pin(accepting)).await {
        Ok(Ok(stream)) => (Handshake::Done, Some(stream)),
        Ok(Err(_)) => (Handshake::Failed, None),
        Err(_) => (Handshake::Slow, None),
    };
    gate.counters().handshake(transport, outcome);
    res
}
