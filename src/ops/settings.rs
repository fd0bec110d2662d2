//! Checked settings of operation: admin listener, journal, logs, fail-mode contract.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::credentials::CertificateFiles;
use crate::policy::Outcome;

/// Where the admin listener stands and who may use it.
#[derive(Clone, Debug, Default)]
pub struct AdminSettings {
    /// The listen address; `None` means no admin listener.
    pub listen: Option<SocketAddr>,
    /// The bearer token; without one and without `tls.client_ca` the listener is on a loopback address, which `config` holds.
    pub token: Option<String>,
    /// What ends TLS on the listen address; `None` for HTTP in the open.
    pub tls: Option<AdminTlsSettings>,
    /// A Unix socket for our user and root, who need no token there.
    pub socket: Option<PathBuf>,
    /// Host names by which browsers may come, beside addresses and `localhost`.
    pub names: Vec<String>,
    /// Where the next gate asks for the sockets of this one; `None` means that it binds its own.
    pub handover: Option<PathBuf>,
}

impl AdminSettings {
    /// True where somebody who comes over a network must show who he is.
    pub fn is_guarded(&self) -> bool {
        self.token.is_some() || self.asks_for_certificates()
    }

    /// True where a client's certificate lets him in.
    pub fn asks_for_certificates(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
    }
}

/// The certificate of the admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminTlsSettings {
    /// Certificate and key.
    pub files: CertificateFiles,
    /// PEM file of the roots that vouch for clients; `None` leaves it to the token.
    pub client_ca: Option<PathBuf>,
}

impl AdminTlsSettings {
    /// Every file.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> {
        [self.files.chain.clone(), self.files.key.clone()].into_iter().chain(self.client_ca.clone())
    }
}

/// Which verdicts the journal keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JournalWhat {
    /// Every verdict.
    All,
    /// Blocks, enforced or not.
    #[default]
    Blocks,
    /// Every block, and one allow in so many; never zero.
    Sampled(u32),
}

/// Where verdicts are written as JSON lines.
#[derive(Clone, Debug, Default)]
pub struct JournalSettings {
    /// The file, opened for append; `None` means no journal.
    pub path: Option<PathBuf>,
    /// Which verdicts.
    pub what: JournalWhat,
    /// Where unfiled domains that were met are remembered; `None` means in memory.
    pub unfiled: Option<PathBuf>,
    /// When the file is rotated; `None` leaves that to others.
    pub rotation: Option<Rotation>,
    /// True where each line carries the hash chain.
    pub is_chained: bool,
}

/// When a journal is rotated, and what is kept of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Octets that no file exceeds by more than a line.
    pub octets: u64,
    /// Files kept beside the one that is written; from 1 to [`Rotation::KEEP_MAX`].
    pub keep: u32,
}

impl Rotation {
    /// Most files kept: each rotation renames them all.
    pub const KEEP_MAX: u32 = 1000;
}

/// Form of the log on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    #[default]
    Text,
}

/// What to do when a data set cannot be loaded at start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// Start, and answer nothing that needs a verdict until the data are there.
    Block,
    /// Start, and carry no verdict out until the data are there.
    Observe,
    /// Do not start.
    #[default]
    Refuse,
}

/// The fail-mode contract: what each fault does. Upstream failure is the DNS plane's setting.
#[derive(Clone, Debug)]
pub struct FaultSettings {
    /// No registry could be loaded at start.
    pub on_missing_registry: Missing,
    /// No ranges could be loaded at start.
    pub on_missing_ranges: Missing,
    /// The registry is older than `registry_age_max`.
    pub on_old_registry: Outcome,
    /// Longest time since the files were last read and found good, changed or not; `None` means no limit.
    pub registry_age_max: Option<Duration>,
    /// The time of day moved against the monotonic clock by more than `clock_jump_max`.
    pub on_clock_jump: Outcome,
    /// See `on_clock_jump`.
    pub clock_jump_max: Duration,
}

impl Default for FaultSettings {
    fn default() -> Self {
        Self {
            on_missing_registry: Missing::Refuse,
            on_missing_ranges: Missing::Refuse,
            on_old_registry: Outcome::Serve,
            registry_age_max: None,
            on_clock_jump: Outcome::Serve,
            // Dates in filings are days: a minute changes no verdict but at midnight. No official reference.
            clock_jump_max: Duration::from_secs(60),
        }
    }
}
