//! The compiled-in demo: what runs without a configuration, on sample data, with no network.
//!
//! Where the working directory holds the sample data (a checkout), they are used in place, so that an edit of a registry
//! file shows at once. Elsewhere they are laid out in a fresh directory below the system's temporary one.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The configuration's name in messages.
pub const NAME: &str = "conf/icpgate.toml (compiled in)";
/// The configuration, with paths relative to the working directory.
pub const TEXT: &str = include_str!("../../conf/icpgate.toml");

/// Declares compiled-in files by their path in the checkout.
macro_rules! files {
    ($($path:literal,)+) => { &[$(($path, include_bytes!(concat!("../../", $path)))),+] };
}

/// Every file the configuration leads to.
const FILES: &[(&str, &[u8])] = files![
    "conf/pages/en.toml",
    "conf/pages/page.html",
    "conf/pages/page.txt",
    "conf/pages/zh-CN.toml",
    "conf/ranges/mainland-v4.txt",
    "conf/ranges/mainland-v6.txt",
    "conf/ranges/products.csv",
    "conf/ranges/provider.csv",
    "conf/registry/README.md",
    "conf/registry/example.changes.jsonl",
    "conf/registry/filings.csv",
    "conf/registry/pending.jsonl",
    "conf/registry/special.toml",
    "conf/zones/example.zone",
];

/// Names tried for the directory before giving up; somebody else made all the earlier ones.
const TRIES_MAX: u32 = 100;

/// The demo's data.
#[derive(Debug)]
pub struct Demo {
    /// The directory that was made; `None` where the working directory has the data.
    unpacked: Option<PathBuf>,
    /// Whether the directory outlives this value.
    is_kept: bool,
}

impl Demo {
    /// Finds the data in the working directory, or lays them out.
    pub fn prepare() -> io::Result<Self> {
        let is_here = FILES.iter().all(|(path, _)| Path::new(path).exists());
        if is_here {
            return Ok(Self { unpacked: None, is_kept: true });
        }
        Self::unpack(&std::env::temp_dir())
    }

    /// Lays the data out in a fresh directory of `parent` that nobody else can enter.
    pub fn unpack(parent: &Path) -> io::Result<Self> {
        let directory = fresh_directory(parent)?;
        let res = Self { unpacked: Some(directory.clone()), is_kept: false };
        for (path, octets) in FILES {
            let file = directory.join(path);
            if let Some(parent) = file.parent() {
                std::fs::create_dir_all(parent)?;
            }
            File::create_new(&file)?.write_all(octets)?;
        }
        Ok(res)
    }

    /// The configuration with paths to where the data are.
    pub fn text(&self) -> String {
        let Some(directory) = &self.unpacked else { return TEXT.to_owned() };
        // Every path of the text begins with the quoted directory; quotes and backslashes in the new one are escaped.
        let directory = directory.display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
        TEXT.replace("\"conf/", &format!("\"{directory}/conf/"))
    }

    /// The directory that was made for the data.
    pub fn directory(&self) -> Option<&Path> {
        self.unpacked.as_deref()
    }

    /// Lets the directory stay after this value is gone: a server's user may have edited it.
    pub fn keep(&mut self) {
        self.is_kept = true;
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if let Some(directory) = self.unpacked.as_ref().filter(|_| !self.is_kept) {
            // Left-overs in the temporary directory are the system's to clean.
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}

fn fresh_directory(parent: &Path) -> io::Result<PathBuf> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    for i in 0..TRIES_MAX {
        let path = parent.join(format!("icpgate-demo-{}-{i}", std::process::id()));
        match builder.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(()) => return Ok(path),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{}: too many demo directories", parent.display())))
}
