//! The answer cache: what a source said, what it leads to, and how it was last judged.
//!
//! An entry keeps the source's answer for its lifetime and beside it the finished answer with everything it was judged
//! under. Under anything else it is judged again from what is kept: no upstream is asked, and no verdict outlives its
//! generation (interception D-D26, peers' #54). Bounded by octets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::answer::Answer;
use super::companions::Companions;
use super::gate::Judged;
use super::question::Question;
use super::refresh::renewed_after;
use super::saved;
use super::settings::Settings;
use super::wire::{flag, rcode};
use crate::model::name::NAME_OCTETS_MAX;

/// The question as a key: name, type, class and the header bits that change the answer.
pub(super) type Key = Box<[u8]>;

/// Octets of a key behind the name: type, class and four bits.
const TAIL_OCTETS: usize = 5;
/// Octets of a key.
pub(super) const KEY_OCTETS_MAX: usize = NAME_OCTETS_MAX + TAIL_OCTETS;

/// A key on the stack: to look an answer up allocates nothing.
struct Asked {
    octets: [u8; KEY_OCTETS_MAX],
    length: usize,
}

impl Asked {
    fn new(question: &Question) -> Self {
        let name = question.name.wire();
        let bits =
            [question.recursion_desired, question.authentic_data, question.checking_disabled, question.dnssec_ok];
        let bits = bits.iter().fold(0, |sum, bit| sum << 1 | u8::from(*bit));
        let ([type0, type1], [class0, class1]) = (question.qtype.to_be_bytes(), question.qclass.to_be_bytes());
        let mut res = Self { octets: [0; KEY_OCTETS_MAX], length: name.len() + TAIL_OCTETS };
        res.octets[..name.len()].copy_from_slice(name);
        res.octets[name.len()..][..TAIL_OCTETS].copy_from_slice(&[type0, type1, class0, class1, bits]);
        res
    }

    fn key(&self) -> &[u8] {
        &self.octets[..self.length]
    }
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A local zone: authoritative, never kept.
    Local,
    /// An upstream.
    Upstream,
}

/// One answer with what became of it.
pub struct Entry {
    /// As the source sent it.
    pub answer: Answer,
    /// Where it came from.
    pub source: Source,
    /// When.
    pub stored_at: Instant,
    /// How long it may be used.
    pub lifetime: Duration,
    /// The age from which a hit renews it.
    renewed_after: Duration,
    /// Whether somebody has begun to.
    is_renewed: AtomicBool,
    /// Other addresses the verdict looks at, once they were needed.
    pub companions: ArcSwapOption<Companions>,
    /// The last judgement.
    pub judged: ArcSwapOption<Judged>,
}

impl Entry {
    /// A fresh entry.
    pub fn new(answer: Answer, source: Source, lifetime: Duration) -> Self {
        Self {
            answer,
            source,
            stored_at: Instant::now(),
            lifetime,
            renewed_after: Duration::MAX,
            is_renewed: AtomicBool::new(false),
            companions: ArcSwapOption::empty(),
            judged: ArcSwapOption::empty(),
        }
    }

    /// Whole seconds since it came.
    pub fn age_seconds(&self) -> u32 {
        u32::try_from(self.stored_at.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    /// True for the first who asks.
    pub(super) fn is_first_to_renew(&self) -> bool {
        !self.is_renewed.swap(true, Ordering::Relaxed)
    }
}

#[derive(Clone)]
struct Octets;

impl Weighter<Key, Arc<Entry>> for Octets {
    fn weight(&self, key: &Key, entry: &Arc<Entry>) -> u64 {
        // The message twice (as it came and finished), names at their longest, and the fixed parts.
        let answer = &entry.answer;
        let names = answer.chain.len() + answer.targets.len();
        (key.len() + 2 * answer.message.len() + 40 * answer.records.len() + 256 * names + 512) as u64
    }
}

/// True for codes that say nothing of the name.
fn is_failure(answer: &Answer) -> bool {
    matches!(answer.rcode(), rcode::SERVFAIL | rcode::REFUSED)
}

/// The cache.
pub struct AnswerCache {
    entries: Cache<Key, Arc<Entry>, Octets>,
    ttl_max: Duration,
    negative_ttl_max: Duration,
    stale_max: Duration,
    prefetch_tenths: u32,
    /// What tells the upstreams whose answers these are.
    pub(super) source: [u8; 32],
}

/// An entry within its lifetime.
pub struct Fresh {
    /// The entry.
    pub entry: Arc<Entry>,
    /// True where it ends soon and nobody renews it yet.
    pub is_ending: bool,
}

impl AnswerCache {
    /// An empty cache with the settings' bounds.
    pub fn new(settings: &Settings) -> Self {
        // An estimate of the entries for the first table; it grows within the bound.
        let items = (settings.cache_bytes_max / 1024).clamp(16, 1 << 20);
        Self {
            entries: Cache::with_weighter(items, settings.cache_bytes_max as u64, Octets),
            ttl_max: settings.cache_ttl_max,
            negative_ttl_max: settings.negative_ttl_max,
            stale_max: settings.stale_max,
            prefetch_tenths: settings.prefetch_tenths,
            source: saved::source(settings),
        }
    }

    /// The entry for a question, within its lifetime.
    pub fn fresh(&self, question: &Question) -> Option<Fresh> {
        let entry = self.entries.get(Asked::new(question).key())?;
        let age = entry.stored_at.elapsed();
        let is_ending = age >= entry.renewed_after && !entry.is_renewed.load(Ordering::Relaxed);
        (age < entry.lifetime).then_some(Fresh { entry, is_ending })
    }

    /// The entry for a question past its lifetime, as far as may be (RFC 8767 section 5); failures never.
    pub fn stale(&self, question: &Question) -> Option<Arc<Entry>> {
        let entry = self.entries.get(Asked::new(question).key())?;
        let is_usable = matches!(entry.answer.rcode(), rcode::NOERROR | rcode::NXDOMAIN);
        (is_usable && entry.stored_at.elapsed() < entry.lifetime + self.stale_max).then_some(entry)
    }

    /// Makes an entry of an upstream's answer and keeps it if it has a lifetime.
    pub fn store(&self, question: &Question, answer: Answer) -> Arc<Entry> {
        let entry = self.entry(question, answer);
        self.insert(question, &entry);
        entry
    }

    /// An upstream's answer as an entry that is not kept yet.
    pub fn entry(&self, question: &Question, answer: Answer) -> Arc<Entry> {
        let lifetime = answer.lifetime.unwrap_or_default().min(self.ceiling(question.qtype, &answer));
        let failed = is_failure(&answer);
        // A failure is not asked for again and again.
        let tenths = if failed { 0 } else { self.prefetch_tenths };
        let renewed_after = renewed_after(lifetime, tenths);
        Arc::new(Entry { renewed_after, ..Entry::new(answer, Source::Upstream, lifetime) })
    }

    /// The longest life of an answer.
    fn ceiling(&self, qtype: u16, answer: &Answer) -> Duration {
        let is_negative = answer.rcode() != rcode::NOERROR || !answer.has_records(qtype);
        if is_negative { self.negative_ttl_max } else { self.ttl_max }
    }

    /// Keeps an entry where it may be; true where it is.
    pub fn insert(&self, question: &Question, entry: &Arc<Entry>) -> bool {
        // A truncated answer is no answer; one without records or SOA has no lifetime.
        let is_kept = !entry.lifetime.is_zero() && entry.answer.flags & flag::TC == 0;
        // A failure does not push out an answer that may still serve as a stale one.
        let is_better = is_kept && !(is_failure(&entry.answer) && self.stale(question).is_some());
        if is_better {
            self.entries.insert(Asked::new(question).key().into(), entry.clone());
        }
        is_better
    }

    /// Every entry with its key.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Key, Arc<Entry>)> {
        self.entries.iter()
    }

    /// Keeps an answer of an earlier process; false where it is too old, or something newer is there.
    pub(super) fn put_back(&self, key: &[u8], answer: Answer, lifetime: Duration, stored_at: Instant) -> bool {
        // The type stands before the class and the bits.
        let qtype = key
            .len()
            .checked_sub(TAIL_OCTETS)
            .and_then(|at| Some(u16::from_be_bytes([*key.get(at)?, *key.get(at + 1)?])));
        let Some(qtype) = qtype.filter(|_| !is_failure(&answer)) else { return false };
        let lifetime = lifetime.min(self.ceiling(qtype, &answer));
        let is_usable = stored_at.elapsed() < lifetime.saturating_add(self.stale_max);
        let is_new = is_usable && self.entries.peek(key).is_none();
        if is_new {
            let renewed_after = renewed_after(lifetime, self.prefetch_tenths);
            let entry = Entry { renewed_after, stored_at, ..Entry::new(answer, Source::Upstream, lifetime) };
            self.entries.insert(key.into(), Arc::new(entry));
        }
        is_new
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.entries.clear();
    }

    /// Octets held.
    pub fn octets(&self) -> u64 {
        self.entries.weight()
    }
}
