//! Certificates with their keys, as operators keep them: two PEM files. The one place that reads them, for both planes.

mod expiry;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

use crate::model::DomainName;

/// Octets of a file of certificates or of a key; a chain has a few thousand.
const FILE_OCTETS_MAX: u64 = 1 << 20;

/// Where a certificate and its key are, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, and behind it those that lead to a root.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why a certificate cannot be used. The operator is at fault.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// The chain's first certificate cannot be read as one.
    #[error("certificate {}: {what}", .file.display())]
    Certificate {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The key is none, or another certificate's.
    #[error("key {}: {what}", .file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The library does not work as built.
    #[error("tls: {0}")]
    Tls(rustls::Error),
}

/// The library's cryptography, the same for all TLS that ends here.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The certificates in a PEM file, at least one.
pub fn roots_in(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(file)?;
    let roots: Result<Vec<CertificateDer<'static>>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    let roots = roots.map_err(|error| format!("{error}; expected certificates in PEM"))?;
    if roots.is_empty() { Err("holds no certificate; expected PEM".to_owned()) } else { Ok(roots) }
}

/// What a client of TLS trusts: public roots and, where given, the operator's own from a PEM file.
pub fn client_config(extra_roots: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(path) = extra_roots {
        let name = path.display();
        for root in roots_in(path).map_err(|error| format!("{name}: {error}"))? {
            roots.add(root).map_err(|error| format!("{name}: {error}"))?;
        }
    }
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let config = builder.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}

/// A certificate that may be used.
#[derive(Debug)]
pub struct Credential {
    /// The chain and the key.
    pub key: Arc<CertifiedKey>,
    /// The names it is for, in their order; wildcards without their `*.` and marked so.
    pub names: Vec<(DomainName, bool)>,
    /// When the chain's first certificate expires, in seconds since 1970; `None` where that cannot be told.
    pub expires_at: Option<u64>,
}

impl Credential {
    /// Reads the files; the key must be that of the chain's first certificate.
    pub fn read(files: &CertificateFiles, provider: &CryptoProvider) -> Result<Self, CertificateError> {
        let wrong = |what: String| CertificateError::Certificate { file: files.chain.clone(), what };
        let wrong_key = |what: String| CertificateError::Key { file: files.key.clone(), what };
        let text = read(&files.chain).map_err(wrong)?;
        let chain: Result<Vec<CertificateDer<'static>>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
        let chain = chain.map_err(|error| wrong(format!("{error}; expected certificates in PEM")))?;
        let first = chain.first().ok_or_else(|| wrong("holds no certificate; expected PEM".to_owned()))?.clone();
        let names = names_of(&first).map_err(wrong)?;
        let expires_at = expiry::not_after(&first);
        let text = read(&files.key).map_err(wrong_key)?;
        let key = PrivateKeyDer::from_pem_slice(&text);
        let key = key.map_err(|error| wrong_key(format!("{error}; expected a private key in PEM")))?;
        let key = CertifiedKey::from_der(chain, key, provider)
            .map_err(|error| wrong_key(format!("{error}; expected the key of {}", files.chain.display())))?;
        Ok(Self { key: Arc::new(key), names, expires_at })
    }
}

/// The DNS names in a certificate.
pub fn names_of(certificate: &CertificateDer<'_>) -> Result<Vec<(DomainName, bool)>, String> {
    let certificate = webpki::EndEntityCert::try_from(certificate).map_err(|error| error.to_string())?;
    let names = certificate.valid_dns_names().filter_map(|text| {
        let (text, is_wildcard) = text.strip_prefix("*.").map_or((text, false), |rest| (rest, true));
        let name = DomainName::from_text(text).ok()?;
        (!name.as_ref().is_root()).then_some((name, is_wildcard))
    });
    Ok(names.collect())
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    if std::fs::metadata(file).map_err(unreadable)?.len() > FILE_OCTETS_MAX {
        return Err(format!("is larger than {FILE_OCTETS_MAX} octets"));
    }
    std::fs::read(file).map_err(unreadable)
}
