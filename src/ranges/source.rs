//! Where range files lie and how their octets become text. It interprets nothing.

use std::io;
use std::path::{Path, PathBuf};

use super::Settings;
use crate::registry::source::{SourceError, read_file_within, unpack_within, utf8_marked};

/// Octets of one range file as it lies on disk: a whole routing table in text is a third of it.
pub const FILE_OCTETS_MAX: u64 = 64 << 20;
/// Octets of one range file after decompression.
pub const TEXT_OCTETS_MAX: u64 = 256 << 20;
/// Files of one table.
pub const FILES_MAX: usize = 1000;

/// What a file is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A mainland list: one address block a line.
    Mainland,
    /// A tag table.
    Tags,
    /// A CNAME-suffix table.
    Cnames,
}

impl Kind {
    /// The extension looked for inside directories.
    fn extension(self) -> &'static str {
        match self {
            Self::Mainland => ".txt",
            Self::Cnames | Self::Tags => ".csv",
        }
    }
}

/// One file to read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// What it is read as.
    pub kind: Kind,
    /// Where it lies.
    pub path: PathBuf,
}

/// The files of `settings`, in the order their rows count: as configured, inside a directory by name.
///
/// Inside directories `*.txt` (mainland lists) or `*.csv` count, each also with `.gz` or `.zst`; hidden names and `README*`
/// are left out. A file named directly is taken whatever its name. Errors name the path.
pub fn list_sources(settings: &Settings) -> Result<Vec<Source>, (PathBuf, io::Error)> {
    let kinds = [(Kind::Mainland, &settings.mainland), (Kind::Tags, &settings.tags), (Kind::Cnames, &settings.cnames)];
    let mut res: Vec<Source> = Vec::new();
    for (kind, paths) in kinds {
        for path in paths {
            let found = files_at(kind, path).map_err(|error| (path.clone(), error))?;
            for path in found {
                let source = Source { kind, path };
                if !res.contains(&source) {
                    res.push(source);
                }
            }
            if res.len() > FILES_MAX {
                return Err((path.clone(), io::Error::other(format!("more than {FILES_MAX} files"))));
            }
        }
    }
    Ok(res)
}

/// The files of one configured path.
fn files_at(kind: Kind, path: &Path) -> io::Result<Vec<PathBuf>> {
    if !std::fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut res = Vec::new();
    for entry in std::fs::read_dir(path)?.take(FILES_MAX + 1) {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(name);
        let is_hidden = name.starts_with('.') || name.starts_with("README");
        if !is_hidden && plain.ends_with(kind.extension()) && path.is_file() {
            res.push(path);
        }
    }
    res.sort();
    Ok(res)
}

/// Reads a file's octets as they lie on disk.
pub fn read(path: &Path) -> Result<Vec<u8>, SourceError> {
    read_file_within(path, FILE_OCTETS_MAX)
}

/// Decompresses by the name's suffix and decodes as UTF-8, with or without a byte-order mark.
pub fn text_of(name: &str, octets: Vec<u8>) -> Result<String, SourceError> {
    utf8_marked(unpack_within(name, octets, TEXT_OCTETS_MAX)?)
}
