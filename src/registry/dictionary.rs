//! Texts that many rows share, each kept once: access sets, provinces, registrars.
//!
//! Numbers are given out in order and keep their meaning for good, so tables of several generations can share one
//! dictionary. People's look-ups take its read lock; verdicts never do.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Texts kept: providers number a few hundred and their combinations some ten thousand. Texts beyond stand in the rows.
pub const TEXTS_MAX: usize = 1 << 16;
/// Longest text kept.
const TEXT_OCTETS_MAX: usize = 256;

/// The shared texts by number.
#[derive(Default)]
pub struct Dictionary {
    texts: RwLock<Texts>,
}

#[derive(Default)]
struct Texts {
    by_number: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
}

impl Dictionary {
    /// The number of `text`, given out now if it is new; `None` where it is not to be shared.
    pub fn number(&self, text: &str) -> Option<u32> {
        if text.len() > TEXT_OCTETS_MAX {
            return None;
        }
        let known = self.texts.read().unwrap_or_else(PoisonError::into_inner).numbers.get(text).copied();
        if known.is_some() {
            return known;
        }
        let mut texts = self.texts.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(&number) = texts.numbers.get(text) {
            return Some(number);
        }
        let number = u32::try_from(texts.by_number.len()).ok().filter(|&number| (number as usize) < TEXTS_MAX)?;
        let text: Arc<str> = text.into();
        texts.by_number.push(text.clone());
        texts.numbers.insert(text, number);
        Some(number)
    }

    /// The text of a number given out before.
    pub fn text(&self, number: u32) -> Option<Arc<str>> {
        self.texts.read().unwrap_or_else(PoisonError::into_inner).by_number.get(number as usize).cloned()
    }

    /// Every text in order of its number.
    pub fn all(&self) -> Vec<Arc<str>> {
        self.texts.read().unwrap_or_else(PoisonError::into_inner).by_number.clone()
    }

    /// Octets held, roughly: each text once, its number and its place in the two tables.
    pub fn octets(&self) -> usize {
        const PLACES: usize = 72;
        self.all().iter().map(|text| text.len() + PLACES).sum()
    }
}

/// A worker's memory of numbers it asked for, so that it rarely takes the lock.
#[derive(Default)]
pub struct Remembered {
    numbers: HashMap<Box<str>, Option<u32>>,
}

impl Remembered {
    /// As [`Dictionary::number`].
    pub fn number(&mut self, dictionary: &Dictionary, text: &str) -> Option<u32> {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let number = dictionary.number(text);
        if self.numbers.len() < TEXTS_MAX {
            self.numbers.insert(text.into(), number);
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_texts_beyond_the_bounds_are_not_shared() {
        let dictionary = Dictionary::default();
        let mut remembered = Remembered::default();
        assert_eq!((dictionary.number("self"), remembered.number(&dictionary, "other")), (Some(0), Some(1)));
        assert_eq!((remembered.number(&dictionary, "self"), dictionary.number("other")), (Some(0), Some(1)));
        assert_eq!(dictionary.text(1).as_deref(), Some("other"));
        assert_eq!(dictionary.number(&"x".repeat(300)), None);
        for n in 2..TEXTS_MAX {
            assert!(dictionary.number(&n.to_string()).is_some());
        }
        assert_eq!((dictionary.number("one more"), dictionary.text(99_999_999)), (None, None));
    }
}
