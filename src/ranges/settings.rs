//! Checked range settings.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv6Net;

/// What the range table is loaded from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our id in the `provider` column of tags.
    pub provider: String,
    /// Mainland prefix lists.
    pub mainland: Vec<PathBuf>,
    /// Tag tables: prefix,region,provider,product,origin.
    pub tags: Vec<PathBuf>,
    /// CNAME-suffix tables: cname_suffix,product,region.
    pub cnames: Vec<PathBuf>,
    /// NAT64 prefixes beside the well-known ones.
    pub nat64: Vec<Ipv6Net>,
    /// How often file contents are compared beside the watch; never zero.
    pub poll: Duration,
    /// Refuse a reload that loses more than this share of addresses.
    pub max_shrink_percent: u8,
}

impl Settings {
    /// Settings for `provider` with every default of the interface, reading nothing.
    pub fn new(provider: &str) -> Self {
        Self {
            provider: provider.to_owned(),
            mainland: Vec::new(),
            tags: Vec::new(),
            cnames: Vec::new(),
            nat64: Vec::new(),
            poll: Duration::from_secs(60),
            max_shrink_percent: 10,
        }
    }
}
