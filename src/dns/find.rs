//! Answers for the gate: from local zones with their aliases followed, from the cache, from upstreams.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::answer::Answer;
use super::cache::{Entry, Source};
use super::handler::Gate;
use super::question::Question;
use super::saved::RestoreError;
use super::upstream::UpstreamError;
use super::wire::{Record, Section, Writer, flag, question_octets, rcode, rtype};
use super::zones::Zones;
use crate::model::DomainName;

/// Aliases followed from one local zone to the next or out to upstreams; longer chains are somebody's mistake.
const ALIASES_MAX: usize = 8;

/// Why no answer was found.
pub enum FindError {
    /// What came cannot be read.
    Unreadable,
    /// None came.
    Upstream(UpstreamError),
}

/// Where an answer was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// In the cache.
    Cached,
    /// It came just now.
    New,
    /// In the cache, past its lifetime.
    Stale,
}

impl Gate {
    /// An answer from zones, cache or upstreams. A local zone comes first: what is in the cache may be older than it.
    pub(super) async fn find(
        &self,
        question: &Question,
        deadline: Instant,
    ) -> Result<(Arc<Entry>, Freshness), FindError> {
        let zones = self.zones.load_full();
        if zones.holds(question.name.as_ref()) {
            let entry = self.find_local(&zones, question, deadline).await?;
            return Ok((entry, Freshness::New));
        }
        if let Some(fresh) = self.cache.fresh(question) {
            return Ok((fresh.entry, Freshness::Cached));
        }
        let answer = self.ask_upstream(question, deadline).await?;
        Ok((self.keep(question, answer), Freshness::New))
    }

    /// An upstream's answer as an entry, in the cache where it may be.
    pub(super) fn keep(&self, question: &Question, answer: Answer) -> Arc<Entry> {
        let entry = self.cache.store(question, answer);
        self.counters.cache_octets.set(self.cache.octets());
        entry
    }

    /// Writes the answer cache, see [`AnswerCache::save`](super::cache::AnswerCache::save).
    pub fn save_cache(&self, out: impl Write, now: SystemTime) -> io::Result<usize> {
        self.cache.save(out, now)
    }

    /// Takes a saved answer cache in, see [`AnswerCache::restore`](super::cache::AnswerCache::restore).
    pub fn restore_cache(&self, octets: &[u8], now: SystemTime) -> Result<usize, RestoreError> {
        let restored = self.cache.restore(octets, now);
        self.counters.cache_octets.set(self.cache.octets());
        restored
    }

    /// Forgets every answer.
    pub fn forget(&self) {
        self.cache.clear();
    }

    /// True where names outside the zones are asked for elsewhere.
    pub(super) fn is_resolver(&self) -> bool {
        !self.settings.upstreams.is_empty()
    }

    /// Flags of answers that rest on no other answer.
    pub(super) fn own_flags(&self) -> u16 {
        if self.is_resolver() { flag::RA } else { 0 }
    }

    pub(super) async fn ask_upstream(&self, question: &Question, deadline: Instant) -> Result<Answer, FindError> {
        let message = self.upstreams.ask(question, deadline).await.map_err(FindError::Upstream)?;
        Answer::read(message).map_err(|_| FindError::Unreadable)
    }

    /// A local answer, its aliases followed into other zones and, where the client asks for it, out to upstreams.
    async fn find_local(&self, zones: &Zones, question: &Question, deadline: Instant) -> Result<Arc<Entry>, FindError> {
        let message = zones.ask(question).await.ok_or(FindError::Unreadable)?;
        let mut answer = Answer::read(message).map_err(|_| FindError::Unreadable)?;
        for _ in 0..ALIASES_MAX {
            let Some(target) = open_alias(question, &answer) else { break };
            let next = question.about(target.clone(), question.qtype);
            let is_local = zones.holds(target.as_ref());
            if !is_local && (!question.recursion_desired || self.settings.upstreams.is_empty()) {
                answer.open_alias = Some(target);
                break;
            }
            let more = if is_local {
                let message = zones.ask(&next).await.ok_or(FindError::Unreadable)?;
                Answer::read(message).map_err(|_| FindError::Unreadable)?
            } else {
                self.ask_upstream(&next, deadline).await?
            };
            let goes_on = is_local && !more.chain.is_empty();
            answer = join(question, &answer, &more).ok_or(FindError::Unreadable)?;
            if !goes_on {
                break;
            }
        }
        // Whoever is served a zone here may ask for other names too (RFC 1035 section 4.1.1).
        answer.flags |= self.own_flags();
        Ok(Arc::new(Entry::new(answer, Source::Local, Duration::ZERO)))
    }
}

/// The target of an alias whose records are not in the answer.
fn open_alias(question: &Question, answer: &Answer) -> Option<DomainName> {
    let is_final = |record: &Record| record.section == Section::Answer && record.rtype == question.qtype;
    let may_alias = !matches!(question.qtype, rtype::CNAME | rtype::ANY | rtype::DNAME);
    let is_open = may_alias && answer.rcode() == rcode::NOERROR && !answer.records.iter().any(is_final);
    answer.chain.last().filter(|_| is_open).cloned()
}

/// An alias's answer with the answer of its target behind it.
fn join(question: &Question, alias: &Answer, target: &Answer) -> Option<Answer> {
    let octets = question_octets(question.name.as_ref(), question.qtype, question.qclass);
    let flags = (alias.flags & !flag::RCODE & !flag::AD) | (target.flags & flag::RCODE);
    let mut writer = Writer::new(0, flags, &octets);
    let in_answer = |record: &&Record| record.section == Section::Answer;
    for record in alias.records.iter().filter(in_answer) {
        writer.copy(&alias.message, record).ok()?;
    }
    for record in target.records.iter().filter(|record| record.section != Section::Additional) {
        writer.copy(&target.message, record).ok()?;
    }
    let joined = Answer::read(Bytes::from(writer.finish())).ok()?;
    Some(Answer { rcode_high: target.rcode_high, errors: target.errors.clone(), ..joined })
}
