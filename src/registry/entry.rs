//! Arena entries: one name with what verdicts read of it, in one or two cache lines.
//!
//! ```text
//! cold u32 LE │ flags u8 │ dates, if flagged │ name in wire form
//! ```
//!
//! `flags`: bits 0–3 status × 3 + origin side (15: a tombstone), bit 4 accessed here, bit 5 empty access set, bit 6
//! restricted, bit 7 dates follow. `cold` is where the rest of the row begins in the chunk's cold octets. `dates` are two
//! octets, the end of the registration in days since 1990, or `ffff` and both dates in full. Wire names delimit
//! themselves and none is the beginning of another, so comparing as many octets as the wanted name has is exact.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::model::{Day, Facts, NameRef, OriginSide, Status};

/// Octets before the dates.
const HEAD: usize = 5;
/// Where the flags stand.
const FLAGS: usize = 4;
/// The combination of status and origin side that no row has: the name is gone.
const TOMBSTONE: u8 = 15;
/// Day 1 of two-octet dates minus one: 1989-12-31.
const SHORT_DAYS_SINCE: i32 = 7304;
/// Marks dates in full.
const FULL_DATES: u16 = u16::MAX;
/// "No date" among dates in full.
const NO_DAY: i32 = i32::MIN;

const BIT_HERE: u8 = 1 << 4;
const BIT_EMPTY: u8 = 1 << 5;
const BIT_RESTRICTED: u8 = 1 << 6;
const BIT_DATES: u8 = 1 << 7;

const STATUSES: [Status; 5] = [Status::Active, Status::Cancelled, Status::Expired, Status::Pending, Status::Rejected];
const ORIGINS: [OriginSide; 3] = [OriginSide::Other, OriginSide::Ours, OriginSide::Unknown];

/// Appends an entry; `cold` is where its cold record begins.
pub fn write_entry(arena: &mut Vec<u8>, name: &[u8], facts: &Facts, cold: u32) {
    let status = facts.status as u8;
    let mut flags = status * 3 + facts.origin as u8;
    flags |= if facts.accessed_here { BIT_HERE } else { 0 };
    flags |= if facts.access_is_empty { BIT_EMPTY } else { 0 };
    flags |= if facts.restricted { BIT_RESTRICTED } else { 0 };
    let has_dates = facts.expires_on.is_some() || facts.provisional_until.is_some();
    flags |= if has_dates { BIT_DATES } else { 0 };
    arena.extend_from_slice(&cold.to_le_bytes());
    arena.push(flags);
    if has_dates {
        write_dates(arena, facts);
    }
    arena.extend_from_slice(name);
}

/// Appends an entry that says its name is gone.
pub fn write_tombstone(arena: &mut Vec<u8>, name: &[u8]) {
    arena.extend_from_slice(&0u32.to_le_bytes());
    arena.push(TOMBSTONE);
    arena.extend_from_slice(name);
}

fn write_dates(arena: &mut Vec<u8>, facts: &Facts) {
    let short = facts.expires_on.and_then(|day| u16::try_from(day.number().saturating_sub(SHORT_DAYS_SINCE)).ok());
    match short {
        Some(days) if days > 0 && days < FULL_DATES && facts.provisional_until.is_none() => {
            arena.extend_from_slice(&days.to_le_bytes());
        }
        _ => {
            arena.extend_from_slice(&FULL_DATES.to_le_bytes());
            for day in [facts.expires_on, facts.provisional_until] {
                arena.extend_from_slice(&day.map_or(NO_DAY, Day::number).to_le_bytes());
            }
        }
    }
}

/// An entry, read where it stands. Positions come from slots that were checked against the arena once.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    octets: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The entry that begins at `at`.
    pub fn at(arena: &'a [u8], at: usize) -> Self {
        Self { octets: &arena[at..] }
    }

    /// True when its name is gone.
    pub fn is_tombstone(self) -> bool {
        self.octets[FLAGS] & 15 == TOMBSTONE
    }

    /// Where its cold record begins.
    pub fn cold(self) -> usize {
        u32::from_le_bytes([self.octets[0], self.octets[1], self.octets[2], self.octets[3]]) as usize
    }

    /// True when it is the entry of exactly `name`.
    pub fn is_named(self, name: NameRef<'_>) -> bool {
        self.octets[self.name_at()..].starts_with(name.wire())
    }

    /// Its name.
    pub fn name(self) -> NameRef<'a> {
        let begin = self.name_at();
        let mut end = begin;
        while self.octets[end] != 0 {
            end += usize::from(self.octets[end]) + 1;
        }
        NameRef::from_canonical_wire(&self.octets[begin..=end])
    }

    /// How many octets it takes.
    pub fn octets(self) -> usize {
        self.name_at() + self.name().wire().len()
    }

    /// Writes as much of it as `out` holds, with `position` in place of where its cold record begins.
    pub fn write_at(self, out: &mut [u8], position: u32) {
        out.copy_from_slice(&self.octets[..out.len()]);
        out[..FLAGS].copy_from_slice(&position.to_le_bytes());
    }

    /// A number over name, flags and dates, the same on every node.
    pub fn digest(self) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(1, 2);
        hasher.write_u8(self.octets[FLAGS]);
        hasher.write(&self.octets[HEAD..self.octets()]);
        hasher.finish()
    }

    /// What verdicts read.
    pub fn facts(self) -> Facts {
        let flags = self.octets[FLAGS];
        let combination = usize::from(flags & 15).min(TOMBSTONE as usize - 1);
        let (expires_on, provisional_until) = self.dates();
        Facts {
            status: STATUSES[combination / 3],
            accessed_here: flags & BIT_HERE != 0,
            access_is_empty: flags & BIT_EMPTY != 0,
            restricted: flags & BIT_RESTRICTED != 0,
            provisional_until,
            expires_on,
            origin: ORIGINS[combination % 3],
        }
    }

    fn dates(self) -> (Option<Day>, Option<Day>) {
        if self.octets[FLAGS] & BIT_DATES == 0 {
            return (None, None);
        }
        let short = u16::from_le_bytes([self.octets[HEAD], self.octets[HEAD + 1]]);
        if short != FULL_DATES {
            return (Some(Day::from_number(i32::from(short) + SHORT_DAYS_SINCE)), None);
        }
        let day = |at: usize| {
            let o = &self.octets[at..at + 4];
            let number = i32::from_le_bytes([o[0], o[1], o[2], o[3]]);
            (number != NO_DAY).then(|| Day::from_number(number))
        };
        (day(HEAD + 2), day(HEAD + 6))
    }

    /// Where its name begins.
    pub fn name_at(self) -> usize {
        match self.octets[FLAGS] & BIT_DATES {
            0 => HEAD,
            _ if self.octets[HEAD] == 0xff && self.octets[HEAD + 1] == 0xff => HEAD + 10,
            _ => HEAD + 2,
        }
    }
}

/// Moves the cold position of the entry that begins at `at` by `by`.
pub fn shift_cold(arena: &mut [u8], at: usize, by: u32) {
    let octets = &mut arena[at..at + FLAGS];
    let cold = u32::from_le_bytes([octets[0], octets[1], octets[2], octets[3]]);
    octets.copy_from_slice(&cold.wrapping_add(by).to_le_bytes());
}

/// True when `arena[at..]` begins with a whole entry whose name is well formed; for octets from outside.
pub fn is_sound(arena: &[u8], at: usize) -> bool {
    arena.get(at..).is_some_and(|octets| name_begin(octets).is_some_and(|begin| name_end(octets, begin).is_some()))
}

/// True when `octets` are one whole entry whose name is well formed or left out; for octets from outside.
pub fn is_sound_alone(octets: &[u8]) -> bool {
    name_begin(octets).is_some_and(|begin| begin == octets.len() || name_end(octets, begin) == Some(octets.len()))
}

fn name_begin(octets: &[u8]) -> Option<usize> {
    if octets.get(FLAGS)? & BIT_DATES == 0 {
        return Some(HEAD);
    }
    let begin = HEAD + if octets.get(HEAD..HEAD + 2)? == [0xff, 0xff] { 10 } else { 2 };
    (begin <= octets.len()).then_some(begin)
}

fn name_end(octets: &[u8], begin: usize) -> Option<usize> {
    let mut end = begin;
    loop {
        match octets.get(end) {
            Some(0) => return (end + 1 - begin <= crate::model::name::NAME_OCTETS_MAX).then_some(end + 1),
            Some(&length) if length < 64 && end - begin < crate::model::name::NAME_OCTETS_MAX => {
                end += usize::from(length) + 1;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DomainName;

    #[test]
    fn every_combination_of_facts_is_read_back() {
        let name = DomainName::from_text("here.com.cn").expect("a name");
        let days = [None, Some(0), Some(7305), Some(20_000), Some(72_839), Some(100_000), Some(-5)];
        for status in STATUSES {
            for origin in ORIGINS {
                for bits in 0..8 {
                    for (i, expires) in days.iter().enumerate() {
                        let facts = Facts {
                            status,
                            origin,
                            accessed_here: bits & 1 != 0,
                            access_is_empty: bits & 2 != 0,
                            restricted: bits & 4 != 0,
                            expires_on: expires.map(Day::from_number),
                            provisional_until: days[(i * bits) % days.len()].map(Day::from_number),
                        };
                        let mut arena = vec![0];
                        write_entry(&mut arena, name.wire(), &facts, 77);
                        shift_cold(&mut arena, 1, 23);
                        assert!(is_sound(&arena, 1) && !is_sound(&arena[..arena.len() - 1], 1));
                        assert!(is_sound_alone(&arena[1..]) && !is_sound_alone(&arena[1..arena.len() - 1]));
                        let entry = Entry::at(&arena, 1);
                        assert_eq!((entry.facts(), entry.cold()), (facts, 100));
                        assert!(entry.is_named(name.as_ref()) && !entry.is_tombstone());
                        assert_eq!((entry.name().wire(), entry.octets()), (name.wire(), arena.len() - 1));
                    }
                }
            }
        }
    }

    #[test]
    fn tombstones_keep_their_name() {
        let name = DomainName::from_text("gone.cn").expect("a name");
        let mut arena = Vec::new();
        write_tombstone(&mut arena, name.wire());
        let entry = Entry::at(&arena, 0);
        assert!(entry.is_tombstone() && entry.is_named(name.as_ref()));
    }
}
