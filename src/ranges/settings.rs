//! Checked range settings.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv6Net;

/// What the range table is loaded from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our id in the `provider` column of tags.
    pub provider: String,
    /// Mainland prefix lists: files, or directories of `*.txt`.
    pub mainland: Vec<PathBuf>,
    /// Tag tables, prefix,region,provider,product,origin: files, or directories of `*.csv`; later ones override.
    pub tags: Vec<PathBuf>,
    /// CNAME-suffix tables, cname_suffix,product,region: files, or directories of `*.csv`.
    pub cnames: Vec<PathBuf>,
    /// NAT64 prefixes beside the well-known ones.
    pub nat64: Vec<Ipv6Net>,
    /// How often file contents are compared beside the watch; never zero.
    pub poll: Duration,
    /// Refuse a reload that loses more than this share of addresses.
    pub max_shrink_percent: u8,
}

impl Settings {
    /// Settings for `provider` with every default of the interface, and no files yet.
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

    /// Every configured path.
    pub fn paths(&self) -> Vec<PathBuf> {
        [&self.mainland, &self.tags, &self.cnames].into_iter().flatten().cloned().collect()
    }
}
