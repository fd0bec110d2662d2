//! One table file through all cores: a reader that cuts, workers that compare and parse, and the caller that collects.
//!
//! Blocks the caller knows by their hash are not parsed again. What is on its way at one time is bounded, so a file takes
//! the same working memory whatever its size. Pieces reach the caller in the order of the file.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use thiserror::Error;

use super::arena::Rows;
use super::block::{BlockReader, Findings, Reading};
use super::parse::FileError;
use super::progress::{Phase, Progress};
use super::source::{SourceError, line_count, source_error};
use super::split::{Block, Buffers, Cutter, Piece, Quoting, Reach, next_block};
use crate::chance;
use crate::priority::Turns;

/// Pieces on their way at one time: enough to keep every core busy, some megabytes each.
const PIECES_MAX: usize = 16;

/// Octets of text between two moments at which threads that answer may go first: some twenty microseconds of comparing.
const OFFER_OCTETS: usize = 32 << 10;

/// Why a file is refused whole.
#[derive(Debug, Error)]
pub enum ScanError {
    /// By what it says.
    #[error(transparent)]
    File(#[from] FileError),
    /// By its octets.
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl ScanError {
    /// The same, with lines counted from `first_line`.
    fn below(self, first_line: u32) -> Self {
        match self {
            Self::File(FileError::CutShort { line }) => FileError::CutShort { line: first_line + line }.into(),
            Self::Source(SourceError::Encoding { line, expected }) => {
                let line = line - 1 + usize::try_from(first_line).unwrap_or(0);
                SourceError::Encoding { line, expected }.into()
            }
            other => other,
        }
    }
}

/// Tells blocks apart: 128 bits under a secret of this process.
pub type BlockHash = [u64; 2];

/// The secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockKey(pub u64, pub u64);

impl BlockKey {
    /// From the operating system's randomness.
    pub fn random() -> Self {
        let [first, second] = chance::words();
        Self(first, second)
    }

    /// What hashes under it.
    pub fn hasher(self) -> BlockHasher {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.0.to_le_bytes());
        key[8..].copy_from_slice(&self.1.to_le_bytes());
        BlockHasher(LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).expect("the key has its length")))
    }
}

/// Hashes blocks: GMAC, for which processors have instructions. Two texts that were chosen without the secret have
/// one hash in 2^128 times their length in blocks of 16 octets, for no hash ever leaves the process but into a file of the
/// same reader; the nonce stays the same for that reason too.
pub struct BlockHasher(LessSafeKey);

impl BlockHasher {
    /// The hash of a block's text.
    pub fn hash(&self, text: &[u8]) -> BlockHash {
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(text), &mut []).expect("a block is no message");
        let word = |at: usize| tag.as_ref()[at..].first_chunk().copied().map_or(0, u64::from_le_bytes);
        [word(0), word(8)]
    }
}

/// A block as it was found.
#[derive(Debug)]
pub struct ScannedBlock {
    /// Of its text.
    pub hash: BlockHash,
    /// Octets of its text.
    pub octets: u32,
    /// Lines.
    pub lines: u32,
    /// Where its rows begin in the piece's entries, or which known block it is and was not parsed.
    pub rows: BlockRows,
    /// What else it holds.
    pub found: Findings,
}

/// Where the rows of a block are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockRows {
    /// In the rows of the piece, from this octet of the entries on.
    At(u32),
    /// Those of a known block of the same hash, by its number among the known ones.
    Known(usize),
}

/// The blocks of one piece.
#[derive(Default)]
pub struct ScannedPiece {
    /// In the order of the file.
    pub blocks: Vec<ScannedBlock>,
    /// Rows of those that were parsed.
    pub rows: Rows,
    /// Octets of text.
    pub octets: usize,
    /// Why the block after the last one refuses the file.
    error: Option<ScanError>,
}

impl ScannedPiece {
    /// Rows, where a line of a block that is known counts as one.
    fn rows_in_all(&self) -> usize {
        let known = self.blocks.iter().filter(|block| matches!(block.rows, BlockRows::Known(_)));
        self.rows.len() + known.map(|block| block.lines as usize).sum::<usize>()
    }
}

/// What blocks are compared with.
pub trait Known: Sync {
    /// A known block of this hash; the one at `expected` if it is one, since files mostly stay in order.
    fn find(&self, hash: &BlockHash, expected: usize) -> Option<usize>;

    /// The block at `expected`: its hash, octets and lines.
    fn at(&self, expected: usize) -> Option<(BlockHash, Block)>;
}

/// What all pieces of a file are scanned with.
#[derive(Clone, Copy)]
pub struct Scanning<'a> {
    /// Of blocks.
    pub hasher: &'a BlockHasher,
    /// Blocks that need no parsing.
    pub known: &'a dyn Known,
    /// For pieces to come.
    pub buffers: &'a Buffers,
    /// Where rows and times are counted.
    pub progress: &'a Progress,
}

/// Scans a file from `first_line` on and calls `each` with its pieces in order; stops at the first error.
pub fn scan<R: Read + Send>(
    mut cutter: Cutter<'_, R>,
    reading: Reading<'_>,
    scanning: Scanning<'_>,
    first_line: u32,
    mut each: impl FnMut(ScannedPiece) -> Result<(), ScanError>,
) -> Result<(), ScanError> {
    let Scanning { buffers, progress, .. } = scanning;
    let mut line = first_line;
    let mut collect = |mut piece: ScannedPiece| {
        progress.count(piece.rows_in_all(), piece.blocks.iter().map(|block| block.found.issues.len()).sum());
        let error = piece.error.take();
        line += piece.blocks.iter().map(|block| block.lines).sum::<u32>();
        progress.spend(Phase::Parse, || each(piece))?;
        error.map_or(Ok(()), |error| Err(error.below(line)))
    };
    let next_piece = |cutter: &mut Cutter<'_, R>| progress.spend(Phase::Read, || cutter.next_piece());
    let Some(first) = next_piece(&mut cutter).map_err(source_error)? else { return Ok(()) };
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    if first.is_last || cores == 1 {
        let (mut reader, mut turns) = (BlockReader::new(reading), Turns::new());
        let mut next = Some(first);
        while let Some(piece) = next {
            collect(read_piece(&mut reader, reading, scanning, &piece, &mut turns))?;
            buffers.put(piece.buffer);
            next = next_piece(&mut cutter).map_err(source_error)?;
        }
        return Ok(());
    }
    std::thread::scope(|scope| {
        let (pieces, to_workers) = sync_channel::<(usize, Piece)>(cores);
        let to_workers = Mutex::new(to_workers);
        let to_workers = std::sync::Arc::new(to_workers);
        let (results, from_workers) = channel();
        let (tokens, to_cutter) = sync_channel::<()>(PIECES_MAX);
        for _ in 0..cores {
            let (to_workers, results) = (to_workers.clone(), results.clone());
            scope.spawn(move || work(&to_workers, &results, reading, scanning));
        }
        drop(to_workers);
        let errors = results;
        scope.spawn(move || cut(cutter, first, progress, &pieces, &to_cutter, &errors));
        in_order(&from_workers, &tokens, &mut collect)
    })
}

/// The reader's thread: feeds pieces, each for a token, until the file or the interest ends.
fn cut<R: Read>(
    mut cutter: Cutter<'_, R>,
    first: Piece,
    progress: &Progress,
    pieces: &SyncSender<(usize, Piece)>,
    tokens: &Receiver<()>,
    results: &Sender<(usize, Result<ScannedPiece, ScanError>)>,
) {
    let mut next = Some(first);
    for number in 0.. {
        let Some(piece) = next else { return };
        let nobody_listens = number >= PIECES_MAX && tokens.recv().is_err();
        if nobody_listens || pieces.send((number, piece)).is_err() {
            return;
        }
        next = match progress.spend(Phase::Read, || cutter.next_piece()) {
            Ok(next) => next,
            Err(error) => {
                // If nobody listens any more there is another error already.
                let _ = results.send((number + 1, Err(source_error(error).into())));
                return;
            }
        };
    }
}

/// A worker's thread.
fn work(
    pieces: &Mutex<Receiver<(usize, Piece)>>,
    results: &Sender<(usize, Result<ScannedPiece, ScanError>)>,
    reading: Reading<'_>,
    scanning: Scanning<'_>,
) {
    let (mut reader, mut turns) = (BlockReader::new(reading), Turns::new());
    loop {
        let next = pieces.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, piece)) = next else { return };
        let scanned = read_piece(&mut reader, reading, scanning, &piece, &mut turns);
        scanning.buffers.put(piece.buffer);
        if results.send((number, Ok(scanned))).is_err() {
            return;
        }
    }
}

/// The caller's part: brings results into order.
fn in_order(
    results: &Receiver<(usize, Result<ScannedPiece, ScanError>)>,
    tokens: &SyncSender<()>,
    collect: &mut impl FnMut(ScannedPiece) -> Result<(), ScanError>,
) -> Result<(), ScanError> {
    let mut early = BTreeMap::new();
    let mut expected = 0;
    while let Ok((number, result)) = results.recv() {
        early.insert(number, result);
        while let Some(result) = early.remove(&expected) {
            collect(result?)?;
            expected += 1;
            // The cutter may have come to the end already.
            let _ = tokens.try_send(());
        }
    }
    Ok(())
}

fn read_piece(
    reader: &mut BlockReader<'_>,
    reading: Reading<'_>,
    scanning: Scanning<'_>,
    piece: &Piece,
    turns: &mut Turns,
) -> ScannedPiece {
    scanning.progress.spend(Phase::Parse, || blocks_of(reader, reading, scanning, piece, turns))
}

fn blocks_of(
    reader: &mut BlockReader<'_>,
    reading: Reading<'_>,
    Scanning { hasher, known, .. }: Scanning<'_>,
    piece: &Piece,
    turns: &mut Turns,
) -> ScannedPiece {
    let mut res = ScannedPiece { octets: piece.octets, ..ScannedPiece::default() };
    let text = piece.text();
    // Without quotes and carriage returns every line is a record: looking for them line by line costs twice.
    let is_plain = memchr::memchr2(b'"', b'\r', text).is_none();
    let quoting = if is_plain { Quoting::None } else { reading.quoting() };
    let reach = if piece.is_last { Reach::File } else { Reach::Records };
    let (mut at, mut expected) = (0, 0);
    let mut offered_at = 0;
    while at < text.len() {
        if at - offered_at >= OFFER_OCTETS {
            turns.offer();
            offered_at = at;
        }
        let rest = &text[at..];
        // Where lines are records, the same octets are the same records: they need not be told apart again.
        // Where the file had ended there is no end of a block: what follows now belongs to it.
        let has_end = |block: &(BlockHash, Block)| known.at(expected + 1).is_some() || block.1.octets == rest.len();
        let again = known.at(expected).filter(|block| quoting == Quoting::None && has_end(block));
        let Some((hash, block)) = again.and_then(|block| same_block(rest, block, hasher)).or_else(|| {
            let block = next_block(rest, quoting, reach)?;
            Some((hasher.hash(&rest[..block.octets]), block))
        }) else {
            break;
        };
        let text = &rest[..block.octets];
        at += block.octets;
        let octets = u32::try_from(block.octets).expect("a piece is far below 4 GiB");
        let (lines, found) = (block.lines, Findings::default());
        let mut scanned = ScannedBlock { hash, octets, lines, rows: BlockRows::Known(0), found };
        match known.find(&hash, expected) {
            Some(i) => {
                scanned.rows = BlockRows::Known(i);
                expected = i + 1;
            }
            None => {
                let ends_file = piece.is_last && at == piece.octets;
                let begin = u32::try_from(res.rows.entries.len()).expect("a piece's rows are far below 4 GiB");
                scanned.rows = BlockRows::At(begin);
                match read_block(reader, text, ends_file, &mut res.rows) {
                    Ok(found) => scanned.found = found,
                    Err(error) => {
                        res.error = Some(error);
                        return res;
                    }
                }
                // A changed block most often stands where the old one did.
                expected += 1;
            }
        }
        res.blocks.push(scanned);
    }
    res
}

/// The known block, where `rest` begins with it; what follows then begins another line.
fn same_block(rest: &[u8], (hash, block): (BlockHash, Block), hasher: &BlockHasher) -> Option<(BlockHash, Block)> {
    let text = rest.get(..block.octets).filter(|text| text.ends_with(b"\n"))?;
    (hasher.hash(text) == hash).then_some((hash, block))
}

fn read_block(
    reader: &mut BlockReader<'_>,
    text: &[u8],
    ends_file: bool,
    rows: &mut Rows,
) -> Result<Findings, ScanError> {
    let text = std::str::from_utf8(text)
        .map_err(|error| SourceError::Encoding { line: line_count(&text[..error.valid_up_to()]), expected: "UTF-8" })?;
    Ok(reader.read(text, ends_file, rows)?)
}

/// Reads the header of a CSV: what was read behind it, the columns, the header's text, and the line that follows.
pub fn read_header(reader: &mut impl Read) -> Result<Header, ScanError> {
    /// Octets in which the header must be: a row's length, with room for comments above.
    const HEADER_OCTETS_MAX: u64 = 256 << 10;
    let mut begun = Vec::new();
    io::Read::by_ref(reader).take(HEADER_OCTETS_MAX).read_to_end(&mut begun).map_err(source_error)?;
    super::parse::split_header(begun).map_err(|error| match error {
        super::parse::HeaderError::File(error) => error.into(),
        super::parse::HeaderError::Encoding(line) => SourceError::Encoding { line, expected: "UTF-8" }.into(),
    })
}

pub use super::parse::Header;
