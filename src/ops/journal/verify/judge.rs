//! From the pieces of a journal to what was done to it.
//!
//! Pieces are put in the order of their numbers. Where two that are neighbours by number do not rest on each other, the
//! first line of the second was changed; where numbers lack between them, lines were removed, or changed if lines of no
//! chain stand there instead.

use super::{Finding, Foreign, Item, Kind, Note, Piece, Place, Report};
use crate::ops::journal::chain::{Hash, Link, Sealed};

/// Judges the items of whole files.
pub(super) fn judge(items: &[Item], res: &mut Report) {
    let mut begun = 0;
    for at in 1..items.len() {
        if let Item::Piece(piece) = &items[at]
            && begins_chain(piece)
            && items[begun..at].iter().any(|item| matches!(item, Item::Piece(_)))
        {
            let message = "a new chain begins here, and nothing joins it to the one before".to_owned();
            res.findings.push(Finding { at: piece.at, kind: Kind::Restarted, message });
            Section::of(&items[begun..at]).judge(res);
            begun = at;
        }
    }
    if begun < items.len() {
        Section::of(&items[begun..]).judge(res);
    }
}

/// True for the first line of a chain: a head that rests on nothing.
fn begins_chain(piece: &Piece) -> bool {
    let sealed = Sealed::read(&piece.first_line);
    piece.first == 1
        && sealed.is_some_and(|sealed| {
            sealed.follows(Link::START.hash) && sealed.head().and_then(|head| head.previous()) == Some(Hash::NONE)
        })
}

/// A stretch of one chain.
struct Section<'a> {
    /// The pieces that stand in order, in that order.
    kept: Vec<&'a Piece>,
    /// Lines that are of no chain, by the number of kept pieces before them.
    gaps: Vec<Gap>,
    /// Pieces that stand elsewhere than their numbers say.
    moved: Vec<&'a Piece>,
    findings: Vec<Finding>,
    notes: Vec<Note>,
}

/// Lines of no chain between two kept pieces.
#[derive(Clone, Default)]
struct Gap {
    at: Option<Place>,
    lines: u64,
    cut: Option<Place>,
    /// The file of the last of them, and how many octets they have there.
    last: (usize, u64),
}

impl Gap {
    fn add(&mut self, at: Place, lines: u64, length: u64) {
        self.at.get_or_insert(at);
        self.lines += lines;
        let before = if self.last.0 == at.file { self.last.1 } else { 0 };
        self.last = (at.file, before + length);
    }
}

impl<'a> Section<'a> {
    fn of(items: &'a [Item]) -> Self {
        let pieces: Vec<&Piece> = items.iter().filter_map(piece_of).collect();
        let is_kept = heaviest_in_order(&pieces);
        let kept: Vec<&Piece> =
            pieces.iter().zip(&is_kept).filter(|(_, kept)| **kept).map(|(piece, _)| *piece).collect();
        let gaps = vec![Gap::default(); kept.len() + 1];
        let mut res = Self { kept, gaps, moved: Vec::new(), findings: Vec::new(), notes: Vec::new() };
        let (mut before, mut turn) = (0, is_kept.iter());
        let mut strays = Vec::new();
        for item in items {
            match item {
                Item::Foreign(foreign) => res.foreign(foreign, before),
                Item::Piece(_) if turn.next() == Some(&true) => before += 1,
                Item::Piece(piece) => strays.push((piece, before)),
            }
        }
        // By number, so that several that were moved together find each other.
        strays.sort_by_key(|(piece, _)| piece.first);
        for (piece, before) in strays {
            res.stray(piece, before);
        }
        res
    }

    fn foreign(&mut self, foreign: &Foreign, before: usize) {
        // Before a chain, what is torn is part of what nothing vouches for.
        if foreign.is_noted && before > 0 {
            let message = "is torn: the gate was killed while it wrote, and noted that at its next start".to_owned();
            self.notes.push(Note { at: foreign.at, message });
            return;
        }
        self.gaps[before].add(foreign.at, foreign.lines, foreign.length);
        if foreign.is_cut {
            let line = foreign.at.line + foreign.lines - 1;
            self.gaps[before].cut = Some(Place { line, ..foreign.at });
        }
    }

    /// A piece whose numbers do not go on from those before it.
    fn stray(&mut self, piece: &'a Piece, before: usize) {
        let all = || self.kept.iter().chain(&self.moved);
        let is_there = all().any(|other| piece.first <= other.last && other.first <= piece.last);
        let joins = |other: &&Piece| {
            other.last.checked_add(1) == Some(piece.first) && follows(piece, other.last_hash)
                || piece.last.checked_add(1) == Some(other.first) && follows(other, piece.last_hash)
        };
        if is_there {
            let message = format!("{} were not written here: their numbers stand elsewhere too", lines(piece));
            self.findings.push(Finding { at: piece.at, kind: Kind::Inserted, message });
        } else if all().any(joins) {
            let message =
                format!("{} were written elsewhere: they belong behind number {}", lines(piece), piece.first - 1);
            self.findings.push(Finding { at: piece.at, kind: Kind::Reordered, message });
            self.moved.push(piece);
        } else {
            self.gaps[before].add(piece.at, piece.lines, 0);
        }
    }

    fn judge(mut self, res: &mut Report) {
        let mut order: Vec<(&Piece, usize)> = self.kept.iter().enumerate().map(|(i, piece)| (*piece, i)).collect();
        for piece in &self.moved {
            // Lines of no chain are asked for at the kept piece before.
            let before = self.kept.iter().filter(|kept| kept.first < piece.first).count();
            order.push((*piece, before.saturating_sub(1)));
        }
        order.sort_by_key(|(piece, _)| piece.first);
        match order.first() {
            Some((first, _)) => self.beginning(first),
            None => self.nothing(),
        }
        // The hash that the next piece must rest on, where it is another than the one that is written.
        let mut real = None;
        for at in 1..order.len() {
            let ((before, gap_at), (next, _)) = (order[at - 1], order[at]);
            let gap = std::mem::take(&mut self.gaps[gap_at + 1]);
            let hole = next.first.saturating_sub(before.last).saturating_sub(1);
            self.between(next, &gap, (before.last + 1, hole));
            let hash = real.take().unwrap_or(before.last_hash);
            if hole == 0 && !follows(next, hash) {
                self.changed(next);
                // Where its own hash was changed, the line behind it is as it was.
                real = Sealed::read(&next.first_line).filter(|_| next.lines == 1).map(|line| line.hash_after(hash));
                real = real.filter(|real| order.get(at + 1).is_some_and(|(third, _)| follows(third, *real)));
            }
        }
        let end = self.gaps.pop().unwrap_or_default();
        self.end(&end);
        res.findings.append(&mut self.findings);
        res.notes.append(&mut self.notes);
    }

    fn changed(&mut self, piece: &Piece) {
        let message = format!("number {} is not as it was written", piece.first);
        self.findings.push(Finding { at: piece.at, kind: Kind::Changed, message });
    }

    /// What stands before the first line of the chain.
    fn beginning(&mut self, first: &Piece) {
        let gap = std::mem::take(&mut self.gaps[0]);
        let sealed = Sealed::read(&first.first_line);
        let head = sealed.and_then(|sealed| sealed.head());
        match (gap.at, head) {
            (Some(at), Some(head)) if begins_chain(first) && is_known(&gap, first, head.unchained) => {
                let message = format!("{} before the chain begins, which nothing vouches for", count(gap.lines));
                self.notes.push(Note { at, message });
            }
            (Some(at), Some(_)) => self.push(at, Kind::Inserted, gap.lines, "before the head of the chain"),
            (Some(at), None) => self.push(at, Kind::Changed, gap.lines, "where the head of the chain should stand"),
            (None, Some(head)) => {
                if !head.previous().is_some_and(|previous| follows(first, previous)) {
                    self.changed(first);
                }
            }
            (None, None) => {
                let message = format!("lines before number {} are gone: the file has no head", first.first);
                self.findings.push(Finding { at: first.at, kind: Kind::Removed, message });
            }
        }
    }

    /// Files without any line of a chain.
    fn nothing(&mut self) {
        let gap = std::mem::take(&mut self.gaps[0]);
        let Some(at) = gap.at else { return };
        let message = format!("{} and no chain: was it written with journal.chain?", count(gap.lines));
        self.findings.push(Finding { at, kind: Kind::Changed, message });
    }

    /// What stands between two neighbours, where `hole.1` numbers from `hole.0` on are missing.
    fn between(&mut self, next: &Piece, gap: &Gap, hole: (u64, u64)) {
        let (from, missing) = hole;
        let numbers =
            if missing == 1 { format!("number {from}") } else { format!("numbers {from} to {}", from + missing - 1) };
        match (gap.at, missing) {
            (None, 0) => {}
            (None, _) => {
                let message = format!("{numbers} before this line are gone");
                self.findings.push(Finding { at: next.at, kind: Kind::Removed, message });
            }
            (Some(at), 0) => self.push(at, Kind::Inserted, gap.lines, "between lines of the chain"),
            (Some(at), _) => {
                self.push(at, Kind::Changed, gap.lines, &format!("where {numbers} should stand"));
                if missing > gap.lines {
                    let message = format!("of {numbers} {} are gone", missing - gap.lines);
                    self.findings.push(Finding { at, kind: Kind::Removed, message });
                }
            }
        }
        if let Some(at) = gap.cut {
            self.cut(at);
        }
    }

    /// What stands behind the last line of the chain.
    fn end(&mut self, gap: &Gap) {
        let (Some(at), cut) = (gap.at, gap.cut) else { return };
        if gap.lines > u64::from(cut.is_some()) {
            self.push(at, Kind::Changed, gap.lines, "behind the last line of the chain");
        }
        if let Some(at) = cut {
            self.cut(at);
        }
    }

    fn cut(&mut self, at: Place) {
        let message = "the file ends within this line".to_owned();
        self.findings.push(Finding { at, kind: Kind::CutOff, message });
    }

    fn push(&mut self, at: Place, kind: Kind, lines: u64, wherever: &str) {
        let message = format!("{} of no chain {wherever}", count(lines));
        self.findings.push(Finding { at, kind, message });
    }
}

/// True when a head knows of what stands before it in its file; other files may have been written without a chain.
fn is_known(gap: &Gap, first: &Piece, unchained: Option<u64>) -> bool {
    let (file, length) = gap.last;
    let here = if file == first.at.file { length } else { 0 };
    unchained.unwrap_or(0) == here
}

fn piece_of(item: &Item) -> Option<&Piece> {
    match item {
        Item::Foreign(_) => None,
        Item::Piece(piece) => Some(piece),
    }
}

/// True when the first line of `piece` rests on `previous`.
fn follows(piece: &Piece, previous: Hash) -> bool {
    Sealed::read(&piece.first_line).is_some_and(|sealed| sealed.follows(previous))
}

fn count(lines: u64) -> String {
    if lines == 1 { "a line".to_owned() } else { format!("{lines} lines") }
}

fn lines(piece: &Piece) -> String {
    match piece.lines {
        1 => format!("number {}", piece.first),
        _ => format!("numbers {} to {}", piece.first, piece.last),
    }
}

/// Which pieces stand in order: of all ways to leave some out, the one that leaves out the fewest lines.
fn heaviest_in_order(pieces: &[&Piece]) -> Vec<bool> {
    let mut best: Vec<(u64, Option<usize>)> = Vec::with_capacity(pieces.len());
    for (at, piece) in pieces.iter().enumerate() {
        let before = (0..at).filter(|&other| pieces[other].last < piece.first).max_by_key(|&other| best[other].0);
        best.push((piece.lines + before.map_or(0, |other| best[other].0), before));
    }
    let mut res = vec![false; pieces.len()];
    let mut at = (0..pieces.len()).max_by_key(|&at| best[at].0);
    while let Some(kept) = at {
        res[kept] = true;
        at = best[kept].1;
    }
    res
}
