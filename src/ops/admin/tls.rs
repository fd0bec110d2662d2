//! TLS of the admin listener: its certificate, and who is let in by one of his own (`admin.tls`).
//!
//! A client without a certificate comes through the handshake and is then asked for the token, where there is one; probes
//! need neither. One with a certificate that the roots do not vouch for does not come through.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::credentials::{CertificateError, Credential, provider, roots_in};
use crate::ops::settings::AdminTlsSettings;

/// Time for a handshake; a client is near.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Sessions that are kept for resumption: those of a few scrapers and people.
const SESSIONS_MAX: usize = 256;

/// What ends the TLS of the listener; replaced between two handshakes.
pub struct AdminTls {
    settings: AdminTlsSettings,
    current: ArcSwap<ServerConfig>,
}

impl AdminTls {
    /// Reads the files.
    pub fn load(settings: &AdminTlsSettings) -> Result<Self, CertificateError> {
        Ok(Self { settings: settings.clone(), current: ArcSwap::new(read(settings)?) })
    }

    /// Where the files are.
    pub fn settings(&self) -> &AdminTlsSettings {
        &self.settings
    }

    /// Takes what [`read`] has made of them anew. Connections that are open go on.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        self.current.store(config);
    }

    /// Does the handshake; true beside the stream where the client has a certificate that counts.
    pub(super) async fn accept(&self, stream: TcpStream) -> std::io::Result<(TlsStream<TcpStream>, bool)> {
        let accepting = TlsAcceptor::from(self.current.load_full()).accept(stream);
        let stream = timeout(HANDSHAKE_MAX, Box::pin(accepting)).await.map_err(std::io::Error::other)??;
        let is_known = stream.get_ref().1.peer_certificates().is_some_and(|chain| !chain.is_empty());
        Ok((stream, is_known))
    }
}

/// Reads certificate, key and roots of clients.
pub fn read(settings: &AdminTlsSettings) -> Result<Arc<ServerConfig>, CertificateError> {
    let credential = Credential::read(&settings.files, &provider())?;
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(CertificateError::Tls)?;
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let wrong = |what: String| CertificateError::Certificate { file: file.clone(), what };
            let mut roots = RootCertStore::empty();
            for root in roots_in(file).map_err(wrong)? {
                roots.add(root).map_err(|error| wrong(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
            let verifier = verifier.allow_unauthenticated().build().map_err(|error| wrong(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(credential.key)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Of this configuration alone: who was let in by roots that are gone shows his certificate again.
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
    Ok(Arc::new(config))
}
