//! Where a name leads, by the name servers of the configuration.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::rr::Name;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
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

/// Why no address was found.
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
        options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options);
        builder.build().map(Self).map_err(|error| ResolverError(error.to_string()))
    }

    /// The addresses of a name, IPv4 ones if there are any; one at least.
    pub async fn addresses(&self, name: &DomainName) -> Result<Vec<IpAddr>, ResolverError> {
        let error = |error: &dyn std::fmt::Display| ResolverError(error.to_string());
        let mut asked = Name::from_labels(name.as_ref().labels()).map_err(|why| error(&why))?;
        asked.set_fqdn(true);
        let found = self.0.lookup_ip(asked).await.map_err(|why| error(&why))?;
        Ok(found.iter().collect())
    }
}
