//! What a load is doing and how long its parts take: counted by the piece, read by whoever shows it, at any time.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::store::{Store, lock};

/// A part of a load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Life-cycle events are applied.
    Events,
    /// Files are read and parsed, both side by side.
    #[default]
    Files,
    /// The look-up table is built, and compared with the one before.
    Index,
    /// Text becomes packed rows, on all cores.
    Parse,
    /// Files are read, unpacked, decoded and cut into pieces.
    Read,
    /// The snapshot file is read and checked.
    Restore,
}

impl Phase {
    const ALL: [Self; 6] = [Self::Events, Self::Files, Self::Index, Self::Parse, Self::Read, Self::Restore];
}

/// How long a load took, and its parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadTimes {
    /// Reading and checking the snapshot file.
    pub restore: Duration,
    /// From the first file opened to the last row packed.
    pub files: Duration,
    /// Of that, the reader's time: reading, unpacking, decoding and cutting, waits for the disk included.
    pub read: Duration,
    /// Of that, the time of all cores together: comparing, parsing and packing.
    pub parse: Duration,
    /// Building the look-up table and comparing it with the one before.
    pub index: Duration,
    /// Applying events.
    pub events: Duration,
    /// Until there was a state to publish.
    pub total: Duration,
}

/// How far a load is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// What it is at.
    pub phase: Phase,
    /// Octets read of the files as they lie on disk.
    pub octets: u64,
    /// Octets they have; 0 where that is not known.
    pub octets_in_all: u64,
    /// Rows read.
    pub rows: u64,
    /// Findings so far.
    pub issues: u64,
}

/// The load that runs, or the last one. One load at a time counts here; reading takes no part in it.
#[derive(Debug, Default)]
pub struct Progress {
    begun: Mutex<Option<Instant>>,
    is_watched: AtomicBool,
    phase: AtomicU8,
    octets: AtomicU64,
    octets_in_all: AtomicU64,
    rows: AtomicU64,
    issues: AtomicU64,
    nanos: [AtomicU64; Phase::ALL.len()],
}

impl Progress {
    /// A load begins.
    pub(super) fn begin(&self) {
        *lock(&self.begun) = Some(Instant::now());
        for number in [&self.octets, &self.octets_in_all, &self.rows, &self.issues].into_iter().chain(&self.nanos) {
            number.store(0, Ordering::Relaxed);
        }
    }

    /// Does a part of the load and counts its time; the parts of one phase add up, on whatever threads.
    pub(super) fn spend<T>(&self, phase: Phase, work: impl FnOnce() -> T) -> T {
        self.phase.store(phase as u8, Ordering::Relaxed);
        let begun = Instant::now();
        let res = work();
        let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.nanos[phase as usize].fetch_add(nanos, Ordering::Relaxed);
        res
    }

    /// So many rows and findings more.
    pub(super) fn count(&self, rows: usize, issues: usize) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.issues.fetch_add(issues as u64, Ordering::Relaxed);
    }

    /// The files have so many octets. Asked for only where somebody looks, since it costs a look at each file.
    pub(super) fn expect(&self, octets: impl FnOnce() -> u64) {
        if self.is_watched.load(Ordering::Relaxed) {
            self.octets_in_all.store(octets(), Ordering::Relaxed);
        }
    }

    /// Somebody looks from now on.
    pub fn watch(&self) {
        self.is_watched.store(true, Ordering::Relaxed);
    }

    /// How far it is.
    pub fn figures(&self) -> Figures {
        let number = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let phase = usize::from(self.phase.load(Ordering::Relaxed));
        Figures {
            phase: Phase::ALL.get(phase).copied().unwrap_or_default(),
            octets: number(&self.octets),
            octets_in_all: number(&self.octets_in_all),
            rows: number(&self.rows),
            issues: number(&self.issues),
        }
    }

    /// How long it took so far.
    pub fn times(&self) -> LoadTimes {
        let of = |phase: Phase| Duration::from_nanos(self.nanos[phase as usize].load(Ordering::Relaxed));
        LoadTimes {
            restore: of(Phase::Restore),
            files: of(Phase::Files),
            read: of(Phase::Read),
            parse: of(Phase::Parse),
            index: of(Phase::Index),
            events: of(Phase::Events),
            total: lock(&self.begun).map_or(Duration::ZERO, |begun| begun.elapsed()),
        }
    }
}

/// Counts octets on their way.
pub(super) struct Counted<R> {
    reader: R,
    progress: Arc<Progress>,
}

impl<R> Counted<R> {
    pub fn new(reader: R, progress: &Arc<Progress>) -> Self {
        Self { reader, progress: progress.clone() }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.progress.octets.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Store {
    /// How far the load is that runs.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_found_by_their_number() {
        for (number, phase) in Phase::ALL.into_iter().enumerate() {
            assert_eq!(phase as usize, number);
        }
    }

    #[test]
    fn a_load_begins_from_nothing() {
        let progress = Arc::new(Progress::default());
        progress.expect(|| unreachable!("nobody looks"));
        progress.watch();
        progress.expect(|| 12);
        progress.count(3, 1);
        io::copy(&mut Counted::new(&b"seven"[..], &progress), &mut io::sink()).expect("reads");
        progress.spend(Phase::Index, || std::hint::black_box((0..1000).sum::<u64>()));
        let figures = Figures { phase: Phase::Index, octets: 5, octets_in_all: 12, rows: 3, issues: 1 };
        assert_eq!(progress.figures(), figures);
        let times = progress.times();
        assert!(times.index > Duration::ZERO && times.total == Duration::ZERO);
        progress.begin();
        assert_eq!(progress.figures(), Figures { phase: Phase::Index, ..Figures::default() });
        assert_eq!(progress.times().index, Duration::ZERO);
    }
}
