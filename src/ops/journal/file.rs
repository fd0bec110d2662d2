//! The journal's file: opened for append, followed when it is renamed, rotated by size, chained where that is asked for.
//!
//! Two gates write one journal while one takes the other's place. Rotation and every batch of a chained journal therefore
//! hold a lock on the file (flock), and whoever finds that the other has written goes on from what it finds.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, flock};

use super::chain::{Head, Link, Sealed, Torn};
use super::{Counters, rfc3339};
use crate::ops::settings::{JournalSettings, Rotation};

/// Buffer before the file: a hundred lines.
const BUFFER_OCTETS: usize = 64 << 10;
/// Octets at the end of a file in which its last whole line is looked for; a line has some thousand at most.
const TAIL_OCTETS_MAX: u64 = 1 << 20;
/// How often a file that is renamed meanwhile is opened anew before that counts as a failure.
const OPENS_MAX: usize = 8;
/// Longest time another gate may hold the lock: it writes a batch meanwhile.
/// Less than the last words of a gate that ends may take.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(4);
/// Between two looks whether it still does.
const LOCK_PAUSE: Duration = Duration::from_millis(2);
/// Octets of a head at most: a file that has no more is not rotated, however long the first line.
const HEAD_OCTETS_MAX: u64 = 512;
/// Until a rotation that failed is tried again; the file grows meanwhile.
const ROTATION_PAUSE: Duration = Duration::from_secs(60);

/// An open file that remembers which one it is.
struct LineFile {
    out: BufWriter<File>,
    identity: (u64, u64),
    /// Its length, with what the buffer holds, as far as this gate knows.
    octets: u64,
    /// How far its chain has come; `None` where that must be read first.
    link: Option<Link>,
}

impl LineFile {
    fn open(path: &Path, is_chained: bool) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).read(is_chained).open(path)?;
        let metadata = file.metadata()?;
        let out = BufWriter::with_capacity(BUFFER_OCTETS, file);
        Ok(Self { out, identity: identity(&metadata), octets: metadata.len(), link: None })
    }

    /// True while `path` leads to this file.
    fn is_at(&self, path: &Path) -> bool {
        std::fs::metadata(path).map(|now| identity(&now)).ok() == Some(self.identity)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.out.get_ref().metadata()?.len() + self.out.buffer().len() as u64)
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.out.write_all(octets)?;
        self.octets += octets.len() as u64;
        Ok(())
    }

    fn lock(&self) -> io::Result<()> {
        let begun = Instant::now();
        loop {
            match flock(self.out.get_ref(), FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) if begun.elapsed() < LOCK_WAIT_MAX => {
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(io::Error::other(format!("another process holds it for {LOCK_WAIT_MAX:?}")));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn unlock(&self) -> io::Result<()> {
        Ok(flock(self.out.get_ref(), FlockOperation::Unlock)?)
    }
}

fn identity(metadata: &std::fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Where lines go, whichever file that is now. A batch is written between [`Target::begin`] and [`Target::end`].
pub(super) struct Target {
    /// The configured path.
    pub path: PathBuf,
    rotation: Option<Rotation>,
    is_chained: bool,
    counters: Arc<Counters>,
    /// `None` while it cannot be opened.
    file: Option<LineFile>,
    /// The last link that is known to be in a file.
    last: Option<Link>,
    rotation_failed: Option<Instant>,
}

impl Target {
    /// Opens the file at `path`.
    pub fn open(path: &Path, settings: &JournalSettings, counters: Arc<Counters>) -> io::Result<Self> {
        let mut res = Self {
            path: path.to_owned(),
            rotation: settings.rotation,
            is_chained: settings.is_chained,
            counters,
            file: None,
            last: None,
            rotation_failed: None,
        };
        res.begin(true)?;
        res.end(true)?;
        if let Some(link) = res.last {
            tracing::info!(path = %res.path.display(), seq = link.seq, hash = %link.hash, "journal goes on");
        }
        Ok(res)
    }

    /// True while there is a file to write to.
    pub fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// How far the chain has come, as far as it is in the file.
    pub fn link(&self) -> Option<Link> {
        self.last
    }

    /// Has a file to write to; `look` also sees whether it was renamed.
    pub fn begin(&mut self, look: bool) -> io::Result<()> {
        if self.is_chained {
            return self.begin_chained();
        }
        if let Some(mut file) = self.file.take_if(|file| look && !file.is_at(&self.path)) {
            file.out.flush()?;
        }
        match &mut self.file {
            None => self.file = Some(self.open_file()?),
            // Another gate may have written meanwhile.
            Some(file) if look => file.octets = file.length()?,
            Some(_) => {}
        }
        Ok(())
    }

    /// Has the file and its lock, and knows the last line of it.
    fn begin_chained(&mut self) -> io::Result<()> {
        for _ in 0..OPENS_MAX {
            let mut file = match self.file.take() {
                Some(file) => file,
                None => self.open_file()?,
            };
            file.lock()?;
            let is_here = file.is_at(&self.path);
            if file.link.is_none() || file.length()? != file.octets {
                let tail = Tail::read(file.out.get_ref())?;
                if is_here {
                    self.go_on(&mut file, &tail)?;
                } else {
                    file.link = tail.last;
                }
            }
            self.last = file.link.or(self.last);
            if is_here {
                self.file = Some(file);
                return Ok(());
            }
        }
        Err(io::Error::other("it is renamed again and again"))
    }

    /// Goes on behind what `file` holds; what is no whole line there is named in a head.
    fn go_on(&self, file: &mut LineFile, tail: &Tail) -> io::Result<()> {
        file.octets = tail.octets;
        let torn = (!tail.rest.is_empty()).then(|| Torn::of(&tail.rest));
        match (tail.last, torn) {
            (Some(link), None) => {
                file.link = Some(link);
                Ok(())
            }
            // Only its line feed is missing.
            (Some(link), Some(_)) if Sealed::read(&tail.rest).is_some_and(|rest| rest.follows(link.hash)) => {
                file.link = Sealed::read(&tail.rest).map(|rest| rest.link);
                file.write(b"\n")
            }
            (Some(link), torn) => head(file, link, torn),
            (None, torn) => {
                let before = if tail.octets == 0 { self.before() } else { None };
                head(file, self.last.or(before).unwrap_or(Link::START), torn)
            }
        }
    }

    /// How far the chain had come in the file before this one.
    fn before(&self) -> Option<Link> {
        let file = File::open(numbered(&self.path, 1)).ok()?;
        Tail::read(&file).ok()?.last
    }

    fn open_file(&self) -> io::Result<LineFile> {
        let res = LineFile::open(&self.path, self.is_chained)?;
        self.counters.opened.increment();
        Ok(res)
    }

    /// Writes one line, given without its line feed.
    pub fn write(&mut self, mut line: String) -> io::Result<()> {
        // Number and hash of a line have a hundred octets.
        let length = line.len() as u64 + if self.is_chained { 100 } else { 1 };
        if self.is_full(length) {
            self.rotate()?;
        }
        let Some(file) = &mut self.file else { return Err(io::Error::other("it is not open")) };
        if let Some(link) = &mut file.link {
            link.seal(&mut line);
        }
        line.push('\n');
        file.write(line.as_bytes())
    }

    fn is_full(&self, length: u64) -> bool {
        let (Some(file), Some(rotation)) = (&self.file, self.rotation) else { return false };
        let is_tried = self.rotation_failed.is_none_or(|at| at.elapsed() >= ROTATION_PAUSE);
        file.octets + length > rotation.octets && file.octets > HEAD_OCTETS_MAX && is_tried
    }

    fn rotate(&mut self) -> io::Result<()> {
        let (Some(mut file), Some(rotation)) = (self.file.take(), self.rotation) else { return Ok(()) };
        file.out.flush()?;
        if !self.is_chained {
            file.lock()?;
        }
        self.last = file.link.or(self.last);
        // Another gate may have done it.
        if file.is_at(&self.path) {
            if let Err(error) = shift(&self.path, rotation.keep) {
                self.counters.errors.increment();
                self.rotation_failed = Some(Instant::now());
                tracing::warn!(%error, path = %self.path.display(), "journal cannot be rotated, the file grows");
                if !self.is_chained {
                    file.unlock()?;
                }
                self.file = Some(file);
                return Ok(());
            }
            self.rotation_failed = None;
            self.counters.rotations.increment();
        }
        let mode = file.out.get_ref().metadata()?.permissions();
        drop(file);
        self.begin(true)?;
        if let Some(next) = &self.file
            && let Err(error) = next.out.get_ref().set_permissions(mode)
        {
            tracing::warn!(%error, path = %self.path.display(), "the new journal has not the old one's mode");
        }
        Ok(())
    }

    /// Ends a batch; a chained one is always flushed.
    pub fn end(&mut self, flush: bool) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        if flush || self.is_chained {
            file.out.flush()?;
        }
        if self.is_chained {
            self.last = file.link;
            self.counters.seq.set(self.last.map_or(0, |link| link.seq));
            file.unlock()?;
        }
        Ok(())
    }

    /// Opens the file anew with the next batch.
    pub fn close(&mut self) -> io::Result<()> {
        self.file.take().map_or(Ok(()), |mut file| file.out.flush())
    }

    /// Gives up a file that failed. What its buffer holds would fail again when dropped; it is lost.
    pub fn give_up(&mut self) {
        if let Some(file) = self.file.take() {
            drop(file.out.into_parts());
        }
    }
}

/// Writes a head behind `link`, on a line of its own.
fn head(file: &mut LineFile, mut link: Link, torn: Option<Torn>) -> io::Result<()> {
    let mut said = Head::new(rfc3339(SystemTime::now()), link, torn.clone());
    if link == Link::START {
        // With the line feed behind what is torn.
        said.unchained = Some(file.octets + u64::from(torn.is_some())).filter(|octets| *octets > 0);
    }
    let mut line = said.json();
    link.seal(&mut line);
    if torn.is_some() {
        line.insert(0, '\n');
        tracing::warn!(octets = torn.map_or(0, |torn| torn.octets), "the journal's last line is torn, it is marked so");
    }
    line.push('\n');
    file.write(line.as_bytes())?;
    // A head alone is whole at once: whoever looks at the file finds what it goes on from.
    file.out.flush()?;
    file.link = Some(link);
    Ok(())
}

/// The end of a file.
struct Tail {
    /// The last whole line of a chain.
    last: Option<Link>,
    /// What stands behind it; without any such line, behind the last line feed.
    rest: Vec<u8>,
    /// The whole length.
    octets: u64,
}

impl Tail {
    fn read(file: &File) -> io::Result<Self> {
        let octets = file.metadata()?.len();
        let (mut file, mut text) = (file, Vec::new());
        file.seek(SeekFrom::Start(octets.saturating_sub(TAIL_OCTETS_MAX)))?;
        file.take(TAIL_OCTETS_MAX).read_to_end(&mut text)?;
        let end = text.iter().rposition(|&octet| octet == b'\n').map_or(0, |at| at + 1);
        let (mut last, mut rest_at) = (None, end);
        let mut line_end = end;
        while line_end > 0 {
            let line_at = text[..line_end - 1].iter().rposition(|&octet| octet == b'\n').map_or(0, |at| at + 1);
            if let Some(sealed) = Sealed::read(&text[line_at..line_end - 1]) {
                (last, rest_at) = (Some(sealed.link), line_end);
                break;
            }
            line_end = line_at;
        }
        Ok(Self { last, rest: text.split_off(rest_at), octets })
    }
}

/// The length of a journal without what a gate is just writing. A file whose lock cannot be had is taken as it is.
pub fn length_settled(file: &File) -> io::Result<u64> {
    let begun = Instant::now();
    while matches!(flock(file, FlockOperation::NonBlockingLockShared), Err(rustix::io::Errno::WOULDBLOCK))
        && begun.elapsed() < LOCK_WAIT_MAX
    {
        std::thread::sleep(LOCK_PAUSE);
    }
    let octets = file.metadata()?.len();
    // Without a lock there is none to give back.
    let _ = flock(file, FlockOperation::Unlock);
    Ok(octets)
}

/// The path of the file that was rotated away so many files ago.
pub fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut res = path.as_os_str().to_owned();
    res.push(format!(".{number}"));
    res.into()
}

/// Moves each file one number up, the first one from `path`, and removes what is then beyond `keep`.
fn shift(path: &Path, keep: u32) -> io::Result<()> {
    let mut beyond = keep;
    // Kept by a higher limit before.
    while beyond < Rotation::KEEP_MAX && numbered(path, beyond + 1).exists() {
        beyond += 1;
        std::fs::remove_file(numbered(path, beyond))?;
    }
    for number in (1..keep).rev() {
        match std::fs::rename(numbered(path, number), numbered(path, number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::rename(path, numbered(path, 1))
}
