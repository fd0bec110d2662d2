//! The certificates by which TLS ends here: read from PEM, chosen by the name a client asks for.
//!
//! A certificate stands for the names in it, `*.` for one label more (RFC 6125 section 6.4.3). All are read or none: an
//! operator who breaks a file keeps what was served before.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, crypto};

use super::host::{self, HostName};
use crate::credentials::{self, CertificateError, CertificateFiles, Credential};

/// What may be spoken inside, the preferred one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Certificates by the names they are for.
#[derive(Debug, Default)]
pub struct Certificates {
    names: Arc<Names>,
    /// `None` without certificates: then no TLS ends here.
    server: Option<Arc<ServerConfig>>,
    count: usize,
    expiry: Option<u64>,
}

impl Certificates {
    /// Reads all of them; the first that is listed for a name is the name's.
    pub fn load(files: &[CertificateFiles]) -> Result<Self, CertificateError> {
        if files.is_empty() {
            return Ok(Self::default());
        }
        let provider = credentials::provider();
        let mut names = Names::default();
        for file in files {
            names.add(file, &provider)?;
        }
        let names = Arc::new(names);
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(CertificateError::Tls)?.with_no_client_auth();
        let mut server = builder.with_cert_resolver(names.clone());
        server.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        let expiry = names.expiry;
        Ok(Self { names, server: Some(Arc::new(server)), count: files.len(), expiry })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// When the first of them expires, in seconds since 1970; none without any.
    pub fn expiry(&self) -> Option<u64> {
        self.expiry
    }

    /// True for a host that one of them is for.
    pub fn covers(&self, host: &HostName) -> bool {
        self.names.find(host).is_some()
    }

    /// What ends the TLS of a connection for a host that one of them is for.
    pub fn server_for(&self, host: &HostName) -> Option<Arc<ServerConfig>> {
        self.server.clone().filter(|_| self.covers(host))
    }
}

/// Which certificate is for which name.
#[derive(Debug, Default)]
struct Names {
    /// By canonical wire form.
    exact: HashMap<Box<[u8]>, Arc<CertifiedKey>>,
    /// By the name below which one label more is meant.
    wildcard: HashMap<Box<[u8]>, Arc<CertifiedKey>>,
    /// Of the first that expires.
    expiry: Option<u64>,
}

impl Names {
    /// Reads one certificate with its key.
    fn add(&mut self, files: &CertificateFiles, provider: &crypto::CryptoProvider) -> Result<(), CertificateError> {
        let Credential { key, names, expires_at } = Credential::read(files, provider)?;
        if names.is_empty() {
            let what = "names no host; expected a subjectAltName with DNS names".to_owned();
            return Err(CertificateError::Certificate { file: files.chain.clone(), what });
        }
        self.expiry = [self.expiry, expires_at].into_iter().flatten().min();
        for (name, is_wildcard) in names {
            let names = if is_wildcard { &mut self.wildcard } else { &mut self.exact };
            names.entry(name.wire().into()).or_insert_with(|| key.clone());
        }
        Ok(())
    }

    fn find(&self, host: &HostName) -> Option<&Arc<CertifiedKey>> {
        let name = host.name()?.as_ref();
        let above = || self.wildcard.get(name.parent()?.wire());
        self.exact.get(name.wire()).or_else(above)
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let text = hello.server_name()?;
        let host = HostName::read(host::split(text.as_bytes()).ok()?.of(text.as_bytes())).ok()?;
        self.find(&host).cloned()
    }
}
