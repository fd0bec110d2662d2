//! The names on certificates: of a file, or of what a server shows.
//!
//! A browser that has a connection for one name of a certificate sends requests for its neighbours over it, where the
//! address fits (RFC 9113 section 9.1.1): inside TLS that is passed on nobody sees them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::credentials::names_of;
use crate::model::DomainName;

/// Octets of a file of certificates.
const FILE_OCTETS_MAX: u64 = 1 << 20;
/// How long a server may take to show its certificate.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// The names on the first certificate in a PEM file; a wildcard's with its `*`.
pub fn of_file(path: &Path) -> Result<Vec<DomainName>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    if std::fs::metadata(path).map_err(failed)?.len() > FILE_OCTETS_MAX {
        return Err(format!("{}: larger than {FILE_OCTETS_MAX} octets", path.display()));
    }
    let octets = std::fs::read(path).map_err(failed)?;
    let certificate = CertificateDer::from_pem_slice(&octets)
        .map_err(|error| format!("{}: {error}; expected a certificate in PEM", path.display()))?;
    with_stars(&certificate).map_err(|what| format!("{}: {what}", path.display()))
}

/// The names on the certificate that the server at `addr` shows who asks for `name`. Who signed it does not matter.
pub async fn of_server(addr: SocketAddr, name: Option<&str>) -> Result<Vec<DomainName>, String> {
    let said = |what: String| format!("{addr}: {what}");
    let name = match name {
        Some(name) => ServerName::try_from(name.to_owned()).map_err(|_| said(format!("{name:?} is no server name")))?,
        None => ServerName::from(addr.ip()),
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| said(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let handshake = async { connector.connect(name, TcpStream::connect(addr).await?).await };
    let stream = match timeout(HANDSHAKE_MAX, handshake).await {
        Ok(stream) => stream.map_err(|error| said(error.to_string()))?,
        Err(_) => return Err(said(format!("no certificate within {} s", HANDSHAKE_MAX.as_secs()))),
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    with_stars(shown.ok_or_else(|| said("no certificate".to_owned()))?).map_err(said)
}

fn with_stars(certificate: &CertificateDer<'_>) -> Result<Vec<DomainName>, String> {
    let starred = |(name, is_wildcard): (DomainName, bool)| match is_wildcard {
        false => Some(name),
        true => DomainName::from_labels(std::iter::once(&b"*"[..]).chain(name.as_ref().labels())).ok(),
    };
    Ok(names_of(certificate)?.into_iter().filter_map(starred).collect())
}

/// Takes any certificate: it is read, and nothing is sent to whoever shows it.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
