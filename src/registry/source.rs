//! Where registry octets come from: files and directories, decompressed and decoded, every reader with a limit.
//!
//! With `store` and `reload` the only part of the registry that touches files. It interprets nothing.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use encoding_rs::GB18030;
use thiserror::Error;

use super::progress::{Counted, Progress};
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
    /// Changed again and again while it was looked at.
    #[error("is still being written")]
    Unsettled,
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

/// What tells two states of a file apart without reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Octets on disk.
    pub octets: u64,
    /// Device and number of the file: another file under the same name has others.
    pub identity: (u64, u64),
    /// Nanoseconds since 1970 of the last change of content and of the last change of anything.
    pub changed: (i128, i128),
}

impl Stamp {
    /// The stamp of an open file.
    pub fn of(file: &File) -> io::Result<Self> {
        file.metadata().map(|data| Self::read(&data))
    }

    /// The stamp of the file at `path`.
    pub fn at(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|data| Self::read(&data))
    }

    #[cfg(unix)]
    fn read(data: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Self {
            octets: data.len(),
            identity: (data.dev(), data.ino()),
            changed: (nanos(data.mtime(), data.mtime_nsec()), nanos(data.ctime(), data.ctime_nsec())),
        }
    }

    #[cfg(not(unix))]
    fn read(data: &std::fs::Metadata) -> Self {
        let since = data.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let nanos = since.map_or(0, |since| i128::try_from(since.as_nanos()).unwrap_or(i128::MAX));
        Self { octets: data.len(), identity: (0, 0), changed: (nanos, 0) }
    }

    /// True when the content changed so shortly before `now` that its writer may not be done with it.
    fn is_young(&self, now: SystemTime) -> bool {
        const YOUNG_NANOS: i128 = 1_000_000_000;
        nanos_since_1970(now) - self.changed.0 < YOUNG_NANOS
    }

    /// True when a change right after `now` could leave the stamp as it is: clocks of file systems tick coarsely.
    pub fn is_fresh(&self, now: SystemTime) -> bool {
        /// Some ticks of the clock that file systems take their times from.
        const TICK_NANOS: i128 = 40_000_000;
        /// Tick of file systems that keep whole seconds, or two.
        const COARSE_TICK_NANOS: i128 = 2_000_000_000;
        let latest = self.changed.0.max(self.changed.1);
        let keeps_seconds_only = self.changed.0 % 1_000_000_000 == 0 && self.changed.1 % 1_000_000_000 == 0;
        let tick = if keeps_seconds_only { COARSE_TICK_NANOS } else { TICK_NANOS };
        nanos_since_1970(now) - latest < tick
    }
}

fn nanos_since_1970(at: SystemTime) -> i128 {
    let since = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i128::try_from(since.as_nanos()).unwrap_or(i128::MAX)
}

/// An open file as text to be, with its stamp.
pub struct Opened {
    /// UTF-8, if what stands in the file is what it should be; the reader of blocks checks.
    pub reader: Box<dyn Read + Send>,
    /// Taken after opening.
    pub stamp: Stamp,
}

/// Opens a file and whatever unpacks and decodes it. Errors while reading carry a [`SourceError`].
///
/// The first half of a TOML file may look whole: it is opened once it rests. The other formats show where they are cut.
pub fn open(
    path: &Path,
    format: Format,
    encoding: Encoding,
    now: SystemTime,
    progress: &Arc<Progress>,
) -> Result<Opened, SourceError> {
    /// Longer than a writer pauses between two pieces of a file.
    const WRITER_PAUSE_MAX: Duration = Duration::from_millis(30);
    match format {
        Format::Changes | Format::Csv | Format::JsonLines => open_as_it_is(path, encoding, progress),
        Format::Toml => open_at_rest(path, encoding, now, progress, || std::thread::sleep(WRITER_PAUSE_MAX)),
    }
}

fn open_as_it_is(path: &Path, encoding: Encoding, progress: &Arc<Progress>) -> Result<Opened, SourceError> {
    let file = File::open(path)?;
    let stamp = Stamp::of(&file)?;
    if stamp.octets > FILE_OCTETS_MAX {
        return Err(SourceError::TooLarge(FILE_OCTETS_MAX));
    }
    let name = path.to_string_lossy();
    Ok(Opened { reader: text_reader(&name, Box::new(Counted::new(file, progress)), encoding)?, stamp })
}

/// Opens a file that has not changed during a `wait`, if it changed lately.
fn open_at_rest(
    path: &Path,
    encoding: Encoding,
    now: SystemTime,
    progress: &Arc<Progress>,
    wait: impl Fn(),
) -> Result<Opened, SourceError> {
    /// Looks until it is given up; the change that comes then leads to the next reload.
    const LOOKS_MAX: usize = 20;
    for _ in 0..LOOKS_MAX {
        let opened = open_as_it_is(path, encoding, progress)?;
        if !opened.stamp.is_young(now) {
            return Ok(opened);
        }
        wait();
        if Stamp::at(path)? == opened.stamp {
            return Ok(opened);
        }
    }
    Err(SourceError::Unsettled)
}

/// Unpacks by the name's suffix and decodes; a UTF-8 byte-order mark wins over the setting.
pub fn text_reader(
    name: &str,
    raw: Box<dyn Read + Send>,
    encoding: Encoding,
) -> Result<Box<dyn Read + Send>, SourceError> {
    let raw: Box<dyn Read + Send> = Box::new(Limited { reader: raw, left: FILE_OCTETS_MAX, limit: FILE_OCTETS_MAX });
    let unpacked: Box<dyn Read + Send> = if name.ends_with(".gz") {
        Box::new(Unpacking(flate2::read::MultiGzDecoder::new(raw)))
    } else if name.ends_with(".zst") {
        Box::new(Unpacking(zstd::stream::read::Decoder::new(raw).map_err(SourceError::Compressed)?))
    } else {
        raw
    };
    let mut text = Limited { reader: unpacked, left: TEXT_OCTETS_MAX, limit: TEXT_OCTETS_MAX };
    let mut mark = Vec::new();
    text.by_ref().take(3).read_to_end(&mut mark).map_err(source_error)?;
    if mark.starts_with(&[0xff, 0xfe]) || mark.starts_with(&[0xfe, 0xff]) {
        return Err(SourceError::Encoding { line: 1, expected: "UTF-8 or GB18030 (it is UTF-16)" });
    }
    if mark == [0xef, 0xbb, 0xbf] {
        return Ok(Box::new(text));
    }
    let begun = io::Cursor::new(mark).chain(text);
    Ok(match encoding {
        Encoding::Utf8 => Box::new(begun),
        Encoding::Gb18030 => Box::new(Decoding::new(begun)),
    })
}

/// What an error of a reader made by [`text_reader`] says.
pub fn source_error(error: io::Error) -> SourceError {
    match error.downcast::<SourceError>() {
        Ok(error) => error,
        Err(error) => SourceError::Io(error),
    }
}

/// Reads the whole of a text; for formats that cannot be read in parts.
pub fn read_text(mut reader: impl Read) -> Result<String, SourceError> {
    let mut octets = Vec::new();
    reader.read_to_end(&mut octets).map_err(source_error)?;
    utf8(octets)
}

/// Reads a file's octets as they lie on disk, at most [`FILE_OCTETS_MAX`]: for lists.
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
    read_within(file, octets_max)
}

/// Unpacks the octets of a small table by the name's suffix, to at most `octets_max`.
pub fn unpack_within(name: &str, octets: Vec<u8>, octets_max: u64) -> Result<Vec<u8>, SourceError> {
    if name.ends_with(".gz") {
        return read_within(Unpacking(flate2::read::MultiGzDecoder::new(&octets[..])), octets_max);
    }
    if name.ends_with(".zst") {
        let decoder = zstd::stream::read::Decoder::new(&octets[..]).map_err(SourceError::Compressed)?;
        return read_within(Unpacking(decoder), octets_max);
    }
    Ok(octets)
}

fn read_within(reader: impl Read, octets_max: u64) -> Result<Vec<u8>, SourceError> {
    let mut res = Vec::new();
    Limited { reader, left: octets_max, limit: octets_max }.read_to_end(&mut res).map_err(source_error)?;
    Ok(res)
}

/// As [`utf8`], with or without a byte-order mark.
pub fn utf8_marked(octets: Vec<u8>) -> Result<String, SourceError> {
    if octets.starts_with(&[0xff, 0xfe]) || octets.starts_with(&[0xfe, 0xff]) {
        return Err(SourceError::Encoding { line: 1, expected: "UTF-8 (it is UTF-16)" });
    }
    let text = utf8(octets)?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Octets as text; the error names the line.
pub fn utf8(octets: Vec<u8>) -> Result<String, SourceError> {
    String::from_utf8(octets).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        SourceError::Encoding { line: line_count(good), expected: "UTF-8" }
    })
}

/// The line that follows the last line feed of `text`, from 1.
pub fn line_count(text: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', text).count() + 1
}

/// Fails once more than `limit` octets were read.
struct Limited<R> {
    reader: R,
    left: u64,
    limit: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.left =
            self.left.checked_sub(count as u64).ok_or_else(|| io::Error::other(SourceError::TooLarge(self.limit)))?;
        Ok(count)
    }
}

/// Names damage of a compressed stream as such.
struct Unpacking<R>(R);

impl<R: Read> Read for Unpacking<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match source_error(error) {
            SourceError::Io(error) => io::Error::other(SourceError::Compressed(error)),
            other => io::Error::other(other),
        })
    }
}

/// Decodes GB18030 on the way.
struct Decoding<R> {
    reader: R,
    decoder: encoding_rs::Decoder,
    raw: Vec<u8>,
    /// Decoded and, from `text_at` on, not yet given out.
    text: Vec<u8>,
    text_at: usize,
    is_done: bool,
    lines: usize,
}

impl<R: Read> Decoding<R> {
    fn new(reader: R) -> Self {
        let decoder = GB18030.new_decoder_without_bom_handling();
        Self { reader, decoder, raw: Vec::new(), text: Vec::new(), text_at: 0, is_done: false, lines: 1 }
    }

    /// Decodes the next octets of the file.
    fn decode_more(&mut self) -> io::Result<()> {
        /// Raw octets read at a time.
        const RAW_OCTETS: u64 = 256 << 10;
        self.raw.clear();
        let is_last = self.reader.by_ref().take(RAW_OCTETS).read_to_end(&mut self.raw)? == 0;
        let room = self.decoder.max_utf8_buffer_length_without_replacement(self.raw.len());
        self.text.resize(room.unwrap_or(self.raw.len() * 4), 0);
        let (result, _, written) = self.decoder.decode_to_utf8_without_replacement(&self.raw, &mut self.text, is_last);
        self.text.truncate(written);
        self.text_at = 0;
        self.lines += memchr::memchr_iter(b'\n', &self.text).count();
        self.is_done = is_last;
        match result {
            encoding_rs::DecoderResult::InputEmpty => Ok(()),
            _ => Err(io::Error::other(SourceError::Encoding { line: self.lines, expected: "GB18030" })),
        }
    }
}

impl<R: Read> Read for Decoding<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.text_at == self.text.len() && !self.is_done {
            self.decode_more()?;
        }
        let count = buffer.len().min(self.text.len() - self.text_at);
        buffer[..count].copy_from_slice(&self.text[self.text_at..self.text_at + count]);
        self.text_at += count;
        Ok(count)
    }
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
    fn a_file_that_is_being_written_is_waited_for() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = dir.path().join("a.toml");
        std::fs::write(&path, "one").expect("writes");
        let written = Stamp::at(&path).expect("a file").changed.0;
        let later = |seconds: u64| {
            let since = u64::try_from(written).map(Duration::from_nanos).expect("after 1970");
            std::time::UNIX_EPOCH + since + Duration::from_secs(seconds)
        };
        let waits = std::cell::Cell::new(0);
        let opened = |now: SystemTime, writes_until: usize| {
            waits.set(0);
            open_at_rest(&path, Encoding::Utf8, now, &Arc::default(), || {
                waits.set(waits.get() + 1);
                if waits.get() < writes_until {
                    std::fs::write(&path, "more".repeat(waits.get())).expect("writes");
                }
            })
        };
        assert_eq!((opened(later(2), 9).is_ok(), waits.get()), (true, 0));
        assert_eq!((opened(later(0), 0).is_ok(), waits.get()), (true, 1));
        let res = opened(later(0), 4).expect("rests at last");
        assert_eq!((read_text(res.reader).expect("a text").as_str(), waits.get()), ("moremoremore", 4));
        assert!(matches!(opened(later(0), usize::MAX), Err(SourceError::Unsettled)));
    }

    fn decoded(name: &str, octets: &[u8], encoding: Encoding) -> Result<String, SourceError> {
        read_text(text_reader(name, Box::new(io::Cursor::new(octets.to_vec())), encoding)?)
    }

    #[test]
    fn encodings_are_told_apart() {
        let long = "域名\n".repeat(100_000);
        let gb = GB18030.encode(&long).0.into_owned();
        assert!(decoded("a.csv", &gb, Encoding::Gb18030).expect("GB18030") == long);
        assert!(matches!(decoded("a.csv", &gb, Encoding::Utf8), Err(SourceError::Encoding { line: 1, .. })));
        let marked = "\u{feff}域名".as_bytes();
        assert_eq!(decoded("a.csv", marked, Encoding::Gb18030).expect("a byte-order mark wins"), "域名");
        let bad = decoded("a.csv", b"ok\n\xff\xfe", Encoding::Gb18030);
        assert!(matches!(bad, Err(SourceError::Encoding { line: 2, .. })), "{bad:?}");
    }

    #[test]
    fn cut_streams_are_errors() {
        let whole = zstd::encode_all(&b"domain,access\n"[..], 1).expect("encodes");
        let cut = decoded("a.csv.zst", &whole[..whole.len() - 3], Encoding::Utf8);
        assert!(matches!(cut, Err(SourceError::Compressed(_))), "{cut:?}");
        assert_eq!(decoded("a.csv.zst", &whole, Encoding::Utf8).expect("whole"), "domain,access\n");
    }
}
