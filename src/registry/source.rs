//! Where registry octets come from: files and directories, decompressed and decoded, every reader with a limit.
//!
//! With `store` and `reload` the only part of the registry that touches files. It interprets nothing.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use encoding_rs::GB18030;
use thiserror::Error;

use super::settings::Encoding;

/// Octets of one file as it lies on disk: ten million rows of 200 octets.
pub const FILE_OCTETS_MAX: u64 = 2 << 30;
/// Octets of one file after decompression; a compressed bomb ends here.
pub const TEXT_OCTETS_MAX: u64 = 4 << 30;
/// Files of one registry.
pub const FILES_MAX: usize = 10_000;
/// Depth of directories below a configured path.
const DEPTH_MAX: usize = 8;

/// Why a file cannot be read whole.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The compressed stream is damaged or cut.
    #[error("the compressed stream is damaged or cut: {0}")]
    Compressed(io::Error),
    /// Not text in the expected encoding.
    #[error("line {line} is not {expected}; set encoding to \"utf-8\" or \"gb18030\" as the file was written")]
    Encoding {
        /// First line that does not decode.
        line: usize,
        /// The encoding tried.
        expected: &'static str,
    },
    /// Unreadable.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Over a limit.
    #[error("larger than {0} octets")]
    TooLarge(u64),
}

/// The files below `paths`, sorted, each once: `*.csv`, `*.jsonl`, `*.toml`, each also with `.gz` or `.zst`.
///
/// Hidden names (editors' temporary files, ConfigMap's `..data`) and `README*` are left out, so are other extensions
/// inside directories; a file named directly is taken whatever its name. Errors name the path.
pub fn list_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let mut res = Vec::new();
    for path in paths {
        list_into(path, 0, &mut res).map_err(|error| (path.clone(), error))?;
    }
    res.sort();
    res.dedup();
    Ok(res)
}

fn list_into(path: &Path, depth: usize, res: &mut Vec<PathBuf>) -> io::Result<()> {
    if !std::fs::metadata(path)?.is_dir() {
        res.push(path.to_owned());
        return Ok(());
    }
    if depth >= DEPTH_MAX {
        return Err(io::Error::other(format!("directories are nested deeper than {DEPTH_MAX}")));
    }
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        if name.is_empty() || name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        let is_dir = path.is_dir();
        if is_dir || Format::of(name).is_some() {
            list_into(&path, depth + 1, res)?;
        }
        if res.len() > FILES_MAX {
            return Err(io::Error::other(format!("more than {FILES_MAX} files")));
        }
    }
    Ok(())
}

/// What a file's name says of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `*.changes.jsonl`: life-cycle events.
    Changes,
    /// `*.csv`.
    Csv,
    /// `*.jsonl`: one object a line.
    JsonLines,
    /// `*.toml`: `[[filing]]` tables.
    Toml,
}

impl Format {
    /// Reads the name, compression suffix aside.
    pub fn of(name: &str) -> Option<Self> {
        let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(name);
        let ends = |suffix: &str| name.len() > suffix.len() && name.ends_with(suffix);
        match () {
            () if ends(".changes.jsonl") => Some(Self::Changes),
            () if ends(".csv") => Some(Self::Csv),
            () if ends(".jsonl") => Some(Self::JsonLines),
            () if ends(".toml") => Some(Self::Toml),
            () => None,
        }
    }
}

/// Reads a file's octets as they lie on disk. A file that changes meanwhile is read again by the next poll.
pub fn read_file(path: &Path) -> Result<Vec<u8>, SourceError> {
    read_file_within(path, FILE_OCTETS_MAX)
}

/// As [`read_file`], for tables that have their own limit.
pub fn read_file_within(path: &Path, octets_max: u64) -> Result<Vec<u8>, SourceError> {
    let file = File::open(path)?;
    // A file that says it is too large is not read at all; one that lies is cut off.
    if file.metadata()?.len() > octets_max {
        return Err(SourceError::TooLarge(octets_max));
    }
    read_bounded(file, octets_max).map_err(|error| match error {
        ReadError::Io(error) => SourceError::Io(error),
        ReadError::TooLarge => SourceError::TooLarge(octets_max),
    })
}

/// Decompresses by the name's suffix.
pub fn decompress(name: &str, octets: Vec<u8>) -> Result<Vec<u8>, SourceError> {
    decompress_within(name, octets, TEXT_OCTETS_MAX)
}

/// As [`decompress`], for tables that have their own limit.
pub fn decompress_within(name: &str, octets: Vec<u8>, octets_max: u64) -> Result<Vec<u8>, SourceError> {
    let convert = |error: ReadError| match error {
        ReadError::Io(error) => SourceError::Compressed(error),
        ReadError::TooLarge => SourceError::TooLarge(octets_max),
    };
    if name.ends_with(".gz") {
        return read_bounded(flate2::read::MultiGzDecoder::new(&octets[..]), octets_max).map_err(convert);
    }
    if name.ends_with(".zst") {
        let decoder = zstd::stream::read::Decoder::new(&octets[..]).map_err(SourceError::Compressed)?;
        return read_bounded(decoder, octets_max).map_err(convert);
    }
    Ok(octets)
}

/// Decodes to text; a UTF-8 byte-order mark wins over the setting.
pub fn decode(octets: Vec<u8>, encoding: Encoding) -> Result<String, SourceError> {
    if octets.starts_with(&[0xff, 0xfe]) || octets.starts_with(&[0xfe, 0xff]) {
        return Err(SourceError::Encoding { line: 1, expected: "UTF-8 or GB18030 (it is UTF-16)" });
    }
    let has_mark = octets.starts_with(&[0xef, 0xbb, 0xbf]);
    if encoding == Encoding::Utf8 || has_mark {
        let octets = if has_mark { octets[3..].to_vec() } else { octets };
        return String::from_utf8(octets).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            SourceError::Encoding { line: line_count(good), expected: "UTF-8" }
        });
    }
    let text = GB18030.decode_without_bom_handling_and_without_replacement(&octets);
    text.map(std::borrow::Cow::into_owned).ok_or_else(|| {
        let (lossy, _) = GB18030.decode_without_bom_handling(&octets);
        let good = lossy.split('\u{fffd}').next().unwrap_or("");
        SourceError::Encoding { line: line_count(good.as_bytes()), expected: "GB18030" }
    })
}

fn line_count(text: &[u8]) -> usize {
    text.iter().filter(|&&octet| octet == b'\n').count() + 1
}

enum ReadError {
    Io(io::Error),
    TooLarge,
}

fn read_bounded(reader: impl Read, octets_max: u64) -> Result<Vec<u8>, ReadError> {
    let mut res = Vec::new();
    let read = reader.take(octets_max + 1).read_to_end(&mut res).map_err(ReadError::Io)?;
    if read as u64 > octets_max { Err(ReadError::TooLarge) } else { Ok(res) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_formats() {
        assert_eq!(Format::of("a.csv.gz"), Some(Format::Csv));
        assert_eq!(Format::of("a.changes.jsonl"), Some(Format::Changes));
        assert_eq!(Format::of("a.changes.jsonl.zst"), Some(Format::Changes));
        assert_eq!(Format::of("a.jsonl"), Some(Format::JsonLines));
        assert_eq!(Format::of("a.csv.bak"), None);
        assert_eq!(Format::of(".csv"), None);
    }

    #[test]
    fn encodings_are_told_apart() {
        let gb = GB18030.encode("域名").0.into_owned();
        assert_eq!(decode(gb.clone(), Encoding::Gb18030).expect("GB18030"), "域名");
        assert!(matches!(decode(gb, Encoding::Utf8), Err(SourceError::Encoding { line: 1, .. })));
        let marked = "\u{feff}域名".as_bytes().to_vec();
        assert_eq!(decode(marked, Encoding::Gb18030).expect("a byte-order mark wins"), "域名");
        assert!(decode(b"ok\n\xff\xfe".to_vec(), Encoding::Gb18030).is_err());
    }

    #[test]
    fn cut_streams_are_errors() {
        let whole = zstd::encode_all(&b"domain,access\n"[..], 1).expect("encodes");
        assert!(matches!(decompress("a.csv.zst", whole[..whole.len() - 3].to_vec()), Err(SourceError::Compressed(_))));
        assert_eq!(decompress("a.csv.zst", whole).expect("whole"), b"domain,access\n");
    }
}
