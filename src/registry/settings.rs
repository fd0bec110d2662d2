//! Checked registry settings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::lint::ListSettings;
use super::saved::PublicKeys;

/// Text encoding of the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// GB 18030, which includes GBK and GB 2312.
    Gb18030,
    /// UTF-8, with or without a byte-order mark.
    #[default]
    Utf8,
}

impl Encoding {
    /// The spelling in the configuration.
    pub fn label(self) -> &'static str {
        match self {
            Self::Gb18030 => "gb18030",
            Self::Utf8 => "utf-8",
        }
    }
}

/// What the registry is loaded from and how strictly.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our id in access sets.
    pub provider: String,
    /// Files and directories.
    pub paths: Vec<PathBuf>,
    /// How often file contents are compared beside the watch; never zero.
    pub poll: Duration,
    /// Refuse a reload that loses more than this share of rows.
    pub max_shrink_percent: u8,
    /// More bad rows than this refuse the file.
    pub max_bad_rows: usize,
    /// Encoding of tables without a byte-order mark.
    pub encoding: Encoding,
    /// Public suffix list; `None` means the compiled-in one.
    pub suffix_list: Option<PathBuf>,
    /// Where the registry is kept as one file to start from; `None` means nowhere.
    pub snapshot: Option<PathBuf>,
    /// Who must have signed that file; then it is read and never written here. `None` takes any.
    pub snapshot_keys: Option<PublicKeys>,
    /// Compare addresses with the row's `addresses` (`bind_check`).
    pub bind_check: bool,
    /// What the linter compares rows with.
    pub lint: ListSettings,
    /// From so many octets of rows on, the old ones wait in a file while most of them are replaced.
    pub moved_out_from: usize,
}

/// Smaller registries may be in memory twice for the time of a reload.
const MOVED_OUT_FROM: usize = 64 << 20;

impl Settings {
    /// Where rows are kept for the time of a reload that replaces most of them.
    pub fn room_directory(&self) -> PathBuf {
        let of_snapshot = self.snapshot.as_deref().and_then(Path::parent);
        match of_snapshot {
            Some(directory) if directory.as_os_str().is_empty() => PathBuf::from("."),
            Some(directory) => directory.to_owned(),
            None => std::env::temp_dir(),
        }
    }

    /// Settings for `provider` and `paths` with every default of the interface.
    pub fn new(provider: &str, paths: Vec<PathBuf>) -> Self {
        Self {
            provider: provider.to_owned(),
            paths,
            poll: Duration::from_secs(60),
            max_shrink_percent: 10,
            max_bad_rows: 100,
            encoding: Encoding::Utf8,
            suffix_list: None,
            snapshot: None,
            snapshot_keys: None,
            bind_check: false,
            lint: ListSettings::default(),
            moved_out_from: MOVED_OUT_FROM,
        }
    }
}
