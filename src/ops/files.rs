//! What files tell beside what is loaded from them: the age of the registry's copy, the expiry of certificates.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use crate::count::{Labels, Observe, Sample};
use crate::dns;
use crate::dns::send::Transport;
use crate::http;
use crate::registry;

/// The compiled copy of the registry (`registry.snapshot`) as a source of metrics; it is looked at when somebody asks.
pub struct SnapshotFile {
    path: Option<PathBuf>,
    writer: &'static str,
}

impl SnapshotFile {
    /// The copy that these settings name, if any. Where it must be signed the gate does not write it.
    pub fn of(settings: &registry::Settings) -> Self {
        let writer = match (&settings.snapshot, &settings.snapshot_keys) {
            (None, _) => "nobody",
            (Some(_), Some(_)) => "others",
            (Some(_), None) => "gate",
        };
        Self { path: settings.snapshot.clone(), writer }
    }
}

impl Observe for SnapshotFile {
    fn observe(&self, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {
        let written = self.path.as_ref().and_then(|path| std::fs::metadata(path).and_then(|file| file.modified()).ok());
        let since = written.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        let writer = [("writer", self.writer)];
        show("registry_snapshot_timestamp_seconds", &writer, Sample::Value(since.as_secs_f64()));
    }
}

/// The certificates of both planes as a source of metrics.
pub struct CertificatesOf(pub Arc<dns::handler::Gate>, pub Arc<http::Gate>);

impl Observe for CertificatesOf {
    fn observe(&self, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {
        let Self(dns, http) = self;
        let servers = dns.servers();
        for transport in [Transport::Https, Transport::Quic, Transport::Tls] {
            let expires_at = servers.get(transport).and_then(|server| server.expires_at).unwrap_or(0);
            let labels = [("transport", transport.label())];
            show("dns_certificate_expiry_timestamp_seconds", &labels, Sample::Count(expires_at));
        }
        let expiry = http.certificates().expiry().unwrap_or(0);
        show("http_certificate_expiry_timestamp_seconds", &[], Sample::Count(expiry));
    }
}
