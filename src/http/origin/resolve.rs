//! Where a name leads, by the name servers of the configuration.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use thiserror::Error;

use crate::model::DomainName;

/// Answers kept, each for as long as its TTL says.
const ANSWERS_MAX: u64 = 8192;
/// Longest time an answer is kept: an origin that moved is found again.
const TTL_MAX: Duration = Duration::from_secs(300);
/// Longest time a missing answer is kept.
const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(10);
/// Time for one server's answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Why nobody can be asked.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct ResolverError(String);

/// Asks the configured name servers.
pub struct Resolver(TokioResolver);

impl Resolver {
    /// A resolver of these servers; it sends nothing yet.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, ResolverError> {
        let server = |addr: &SocketAddr| {
            let mut res = NameServerConfig::udp_and_tcp(addr.ip());
            res.connections.iter_mut().for_each(|connection| connection.port = addr.port());
            res
        };
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect());
        let mut options = ResolverOpts::default();
        options.timeout = ANSWER_TIMEOUT;
        options.cache_size = ANSWERS_MAX;
        options.positive_max_ttl = Some(TTL_MAX);
        options.negative_max_ttl = Some(NEGATIVE_TTL_MAX);
        // The machine's own table of hosts is nobody's origin.
        options.use_hosts_file = ResolveHosts::Never;
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options);
        builder.build().map(Self).map_err(|error| ResolverError(error.to_string()))
    }

    /// The IPv4 addresses of a name; none where nobody tells.
    pub async fn v4(&self, name: &DomainName) -> Vec<IpAddr> {
        self.addresses(name, RecordType::A).await
    }

    /// The IPv6 addresses of a name; none where nobody tells.
    pub async fn v6(&self, name: &DomainName) -> Vec<IpAddr> {
        self.addresses(name, RecordType::AAAA).await
    }

    async fn addresses(&self, name: &DomainName, kind: RecordType) -> Vec<IpAddr> {
        let Ok(mut asked) = Name::from_labels(name.as_ref().labels()) else { return Vec::new() };
        asked.set_fqdn(true);
        match self.0.lookup(asked, kind).await {
            Ok(found) => found.answers().iter().filter_map(|record| record.data.ip_addr()).collect(),
            Err(error) => {
                tracing::debug!(%error, %kind, "no address was found");
                Vec::new()
            }
        }
    }
}
