//! One query from octets to octets: decode, find an answer, judge, deliver.
//!
//! What needs no waiting (errors, refusals, cache hits, judging again) is answered in the call; the rest is a future.
//! One view a packet: snapshot, rules and ranges are taken once.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::Semaphore;

use super::answer::Answer;
use super::cache::{AnswerCache, Entry, Source};
use super::counters::{CacheOutcome, Counters};
use super::edns::{ExtendedError, info_code};
use super::gate::{self, Basis, Companions, Judged};
use super::question::{DecodeError, Query, Question, decode};
use super::rewrite;
use super::send::{Delivery, Transport, deliver, refuse};
use super::settings::{Settings, UpstreamDown};
use super::upstream::{UpstreamError, Upstreams};
use super::wire::{Record, Section, Writer, flag, rcode, rtype};
use super::zones::Zones;
use crate::model::Via;
use crate::policy::special::{SpecialUse, special_use};
use crate::policy::{SharedView, Sink, Stance, VerdictRecord, View};

/// Aliases followed from one local zone to the next or out to upstreams; longer chains are somebody's mistake.
const ALIASES_MAX: usize = 8;
/// TTL of a stale answer (RFC 8767 section 4).
const STALE_TTL_SECONDS: u32 = 30;

/// What became of a packet at once.
pub enum Taken {
    /// Answered.
    Answered(Vec<u8>),
    /// No answer is sent.
    Dropped,
    /// Needs an answer source: call [`Gate::resolve`].
    Waiting(Box<Query>),
}

/// The DNS plane without its sockets.
pub struct Gate {
    settings: Settings,
    view: SharedView,
    sink: Sink,
    counters: Arc<Counters>,
    cache: AnswerCache,
    zones: ArcSwap<Zones>,
    upstreams: Upstreams,
    inflight: Semaphore,
}

/// Who asks, over what.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// The address.
    pub addr: IpAddr,
    /// The transport.
    pub transport: Transport,
}

impl Gate {
    /// Puts the parts together.
    pub fn new(
        settings: Settings,
        view: SharedView,
        sink: Sink,
        counters: Arc<Counters>,
        zones: Zones,
        upstreams: Upstreams,
    ) -> Self {
        let cache = AnswerCache::new(&settings);
        let inflight = Semaphore::new(settings.inflight_max);
        Self { settings, view, sink, counters, cache, zones: ArcSwap::from_pointee(zones), upstreams, inflight }
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The upstreams, for health.
    pub fn upstreams(&self) -> &Upstreams {
        &self.upstreams
    }

    /// Replaces the local zones.
    pub fn replace_zones(&self, zones: Zones) {
        let is_same_space = self.zones.load().has_same_origins(&zones);
        self.zones.store(Arc::new(zones));
        if !is_same_space {
            // Names that an upstream answered for may be local now.
            self.cache.clear();
        }
    }

    /// How many local zones there are.
    pub fn zone_count(&self) -> usize {
        self.zones.load().len()
    }

    /// Takes a packet; answers what needs no waiting.
    pub fn take(&self, packet: &[u8], client: Client) -> Taken {
        let query = match decode(packet) {
            Ok(query) => query,
            Err(error) => return self.undecodable(packet, error),
        };
        self.counters.query(client.transport, query.question.qtype);
        if !self.settings.allows(client.addr) {
            self.counters.prohibited.increment();
            return self.error(
                &query,
                client,
                rcode::REFUSED,
                Some((info_code::PROHIBITED, "client address is not in allow-from")),
            );
        }
        let view = self.view.load_full();
        let now = self.view.now();
        if view.stance() == Stance::NotReady && gate::leads_to_addresses(query.question.qtype) {
            self.counters.not_ready.increment();
            let faults: Vec<&str> = view.faults.iter().map(|(fault, _)| fault.label()).collect();
            return self.error(&query, client, rcode::SERVFAIL, Some((info_code::NOT_READY, &faults.join(", "))));
        }
        if let Some(special) = special_use(query.question.name.as_ref()) {
            return self.special(&query, client, special);
        }
        if let Some(entry) = self.cache.fresh(&query.question)
            && let Some((judged, outcome)) = self.judged(&view, now, &query.question, &entry)
        {
            self.counters.cache(outcome);
            return self.send(&view, now, &query, client, &entry, &judged, Freshness::Cached);
        }
        Taken::Waiting(Box::new(query))
    }

    /// Answers a query that [`Gate::take`] could not; `None` means no answer is sent.
    pub async fn resolve(&self, query: &Query, client: Client) -> Option<Vec<u8>> {
        let Ok(_permit) = self.inflight.try_acquire() else {
            self.counters.overloaded.increment();
            return taken(self.error(query, client, rcode::SERVFAIL, None));
        };
        self.counters.cache(CacheOutcome::Miss);
        let deadline = Instant::now() + self.settings.resolve_timeout;
        let question = &query.question;
        let found = match self.find(question, deadline).await {
            Ok(entry) => self.with_companions(question, entry, deadline).await,
            Err(error) => Err(error),
        };
        // One view for the judgement, taken after the waiting.
        let view = self.view.load_full();
        let now = self.view.now();
        match found {
            Ok(entry) => {
                let judged = self.judged(&view, now, question, &entry).map(|(judged, _)| judged);
                match judged {
                    Some(judged) => taken(self.send(&view, now, query, client, &entry, &judged, Freshness::New)),
                    None => taken(self.unreadable(query, client)),
                }
            }
            Err(FindError::Unreadable) => taken(self.unreadable(query, client)),
            Err(FindError::Upstream(error)) => taken(self.without_upstream(&view, now, query, client, error)),
        }
    }

    //--- Finding -----------------------------------------------------------------------------------------------------

    /// An answer from cache, zones or upstreams.
    async fn find(&self, question: &Question, deadline: Instant) -> Result<Arc<Entry>, FindError> {
        if let Some(entry) = self.cache.fresh(question) {
            return Ok(entry);
        }
        let zones = self.zones.load_full();
        if zones.holds(question.name.as_ref()) {
            return self.find_local(&zones, question, deadline).await;
        }
        let message = self.upstreams.ask(question, deadline).await.map_err(FindError::Upstream)?;
        let answer = Answer::read(message).map_err(|_| FindError::Unreadable)?;
        let entry = self.cache.store(question, answer);
        self.counters.cache_octets.set(self.cache.octets());
        Ok(entry)
    }

    /// A local answer, its aliases followed into other zones and out to upstreams.
    async fn find_local(&self, zones: &Zones, question: &Question, deadline: Instant) -> Result<Arc<Entry>, FindError> {
        let message = zones.ask(question).await.ok_or(FindError::Unreadable)?;
        let mut answer = Answer::read(message).map_err(|_| FindError::Unreadable)?;
        for _ in 0..ALIASES_MAX {
            let Some(target) = open_alias(question, &answer) else { break };
            let next = question.about(target.clone(), question.qtype);
            let more = if zones.holds(target.as_ref()) {
                zones.ask(&next).await
            } else if question.recursion_desired {
                self.upstreams.ask(&next, deadline).await.ok()
            } else {
                None
            };
            let Some(more) = more.and_then(|message| Answer::read(message).ok()) else { break };
            answer = join(question, &answer, &more).ok_or(FindError::Unreadable)?;
        }
        // Whoever is served a zone here may ask for other names too (RFC 1035 section 4.1.1).
        answer.flags |= self.own_flags();
        Ok(Arc::new(Entry::new(answer, Source::Local, std::time::Duration::ZERO)))
    }

    /// Looks up what else the judgement of `entry` needs, once.
    async fn with_companions(
        &self,
        question: &Question,
        entry: Arc<Entry>,
        deadline: Instant,
    ) -> Result<Arc<Entry>, FindError> {
        if entry.companions.get().is_some() {
            return Ok(entry);
        }
        let view = self.view.load_full();
        let needed = gate::companions_needed(&self.settings, &view, self.view.now(), question, &entry.answer);
        let mut companions = Companions::default();
        let mut all_found = true;
        for next in &needed {
            match self.find(next, deadline).await {
                Ok(found) => {
                    companions.addresses.extend(&found.answer.addresses);
                    companions.chain.extend(found.answer.chain.iter().cloned());
                }
                Err(_) => all_found = false,
            }
        }
        let asked_for_addresses = matches!(question.qtype, rtype::A | rtype::AAAA);
        if !all_found && !asked_for_addresses {
            // A service record leads where its addresses lead: unknown is not harmless.
            return Err(FindError::Upstream(UpstreamError::Unreachable));
        }
        if !all_found {
            // The addresses in the answer are all the client gets, and they are judged; the other family is judged when
            // it is asked for. Not remembered, so that the next query looks again.
            let alone = Entry::new(entry.answer.clone(), entry.source, entry.lifetime);
            let _ = alone.companions.set(companions);
            return Ok(Arc::new(alone));
        }
        let _ = entry.companions.set(companions);
        Ok(entry)
    }

    //--- Judging -----------------------------------------------------------------------------------------------------

    /// The entry's judgement under `view`, made anew where the old one rests on something else. `None`: companions are
    /// missing, or the answer cannot be written.
    fn judged(
        &self,
        view: &View,
        now: SystemTime,
        question: &Question,
        entry: &Entry,
    ) -> Option<(Arc<Judged>, CacheOutcome)> {
        let basis = Basis::of(view, now);
        if let Some(judged) = entry.judged.load_full()
            && judged.basis.is(&basis)
        {
            return Some((judged, CacheOutcome::Hit));
        }
        let none = Companions::default();
        let companions = match entry.companions.get() {
            Some(companions) => companions,
            // Judged before without need of any, or never: under these rules some may be needed.
            None if gate::companions_needed(&self.settings, view, now, question, &entry.answer).is_empty() => &none,
            None => return None,
        };
        let judged = gate::conclude(&self.settings, view, now, question, &entry.answer, companions).ok()?;
        let judged = Arc::new(judged);
        entry.judged.store(Some(judged.clone()));
        Some((judged, CacheOutcome::Rejudged))
    }

    //--- Answering ---------------------------------------------------------------------------------------------------

    #[allow(clippy::too_many_arguments)]
    fn send(
        &self,
        view: &Arc<View>,
        now: SystemTime,
        query: &Query,
        client: Client,
        entry: &Entry,
        judged: &Judged,
        freshness: Freshness,
    ) -> Taken {
        if let Some(verdict) = judged.verdict {
            self.counters.verdict(&verdict);
            if self.sink.wants(verdict.action) {
                self.sink.send(VerdictRecord {
                    at: now,
                    via: Via::Dns,
                    client: client.addr,
                    name: Some(query.question.name.clone()),
                    verdict,
                    enforced: judged.enforced,
                    view: view.clone(),
                });
            }
        }
        let Some(finished) = &judged.finished else {
            self.counters.dropped.increment();
            return Taken::Dropped;
        };
        let mut errors = judged.errors.clone();
        let mut finished = std::borrow::Cow::Borrowed(finished);
        let age_seconds = match freshness {
            Freshness::New => 0,
            Freshness::Cached => {
                self.clear_aa(&mut finished, entry);
                entry.age_seconds()
            }
            Freshness::Stale => {
                errors.push(ExtendedError::new(info_code::STALE_ANSWER, "no upstream answered"));
                self.clear_aa(&mut finished, entry);
                let owned = finished.to_mut();
                for &at in &owned.ttl_offsets {
                    let at = usize::from(at);
                    owned.octets[at..at + 4].copy_from_slice(&STALE_TTL_SECONDS.to_be_bytes());
                }
                0
            }
        };
        self.answered(deliver(&finished, &self.delivery(query, client, age_seconds, &errors)))
    }

    /// An answer out of the cache is nobody's authoritative one.
    fn clear_aa(&self, finished: &mut std::borrow::Cow<'_, rewrite::Finished>, entry: &Entry) {
        let has_aa = finished.octets[2] & (flag::AA >> 8) as u8 != 0;
        if has_aa && entry.source == Source::Upstream {
            finished.to_mut().octets[2] &= !((flag::AA >> 8) as u8);
        }
    }

    fn delivery<'a>(
        &self,
        query: &'a Query,
        client: Client,
        age_seconds: u32,
        errors: &'a [ExtendedError],
    ) -> Delivery<'a> {
        let udp_octets_max = self.settings.edns_udp_bytes_max;
        Delivery { query, transport: client.transport, udp_octets_max, age_seconds, errors }
    }

    fn answered(&self, message: Vec<u8>) -> Taken {
        self.counters.response(&message);
        Taken::Answered(message)
    }

    /// Flags of answers that rest on no other answer.
    fn own_flags(&self) -> u16 {
        if self.settings.upstreams.is_empty() { 0 } else { flag::RA }
    }

    fn error(&self, query: &Query, client: Client, code: u16, error: Option<(u16, &str)>) -> Taken {
        let errors: Vec<ExtendedError> = error.map(|(code, text)| ExtendedError::new(code, text)).into_iter().collect();
        let finished = rewrite::empty(&query.question, self.own_flags(), code);
        self.answered(deliver(&finished, &self.delivery(query, client, 0, &errors)))
    }

    fn undecodable(&self, packet: &[u8], error: DecodeError) -> Taken {
        self.counters.undecodable(error);
        match refuse(packet, error, self.settings.edns_udp_bytes_max) {
            Some(message) => self.answered(message),
            None => {
                self.counters.dropped.increment();
                Taken::Dropped
            }
        }
    }

    fn special(&self, query: &Query, client: Client, special: SpecialUse) -> Taken {
        match special {
            SpecialUse::Loopback => {
                let finished = rewrite::loopback(&query.question, self.own_flags());
                self.answered(deliver(&finished, &self.delivery(query, client, 0, &[])))
            }
            SpecialUse::NoSuchName => self.error(query, client, rcode::NXDOMAIN, None),
        }
    }

    fn unreadable(&self, query: &Query, client: Client) -> Taken {
        self.counters.unreadable.increment();
        self.error(query, client, rcode::SERVFAIL, Some((info_code::INVALID_DATA, "the answer could not be read")))
    }

    /// No upstream answered: a stale answer, or SERVFAIL with the reason.
    fn without_upstream(
        &self,
        view: &Arc<View>,
        now: SystemTime,
        query: &Query,
        client: Client,
        error: UpstreamError,
    ) -> Taken {
        if error == UpstreamError::NoUpstream {
            return self.error(
                query,
                client,
                rcode::REFUSED,
                Some((info_code::NOT_SUPPORTED, "no zone and no upstream for this name")),
            );
        }
        self.counters.unreachable.increment();
        if self.settings.upstream_down == UpstreamDown::Stale {
            let stale = self.cache.stale(&query.question);
            let judged = stale.as_ref().and_then(|entry| self.judged(view, now, &query.question, entry));
            if let (Some(entry), Some((judged, _))) = (stale, judged) {
                self.counters.cache(CacheOutcome::Stale);
                return self.send(view, now, query, client, &entry, &judged, Freshness::Stale);
            }
        }
        self.error(query, client, rcode::SERVFAIL, Some((info_code::NO_REACHABLE_AUTHORITY, &error.to_string())))
    }
}

/// How old an answer is when it is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Freshness {
    Cached,
    New,
    Stale,
}

/// Why no answer was found.
enum FindError {
    Unreadable,
    Upstream(UpstreamError),
}

fn taken(taken: Taken) -> Option<Vec<u8>> {
    match taken {
        Taken::Answered(message) => Some(message),
        Taken::Dropped | Taken::Waiting(_) => None,
    }
}

/// The target of an alias whose records are not in the answer.
fn open_alias(question: &Question, answer: &Answer) -> Option<crate::model::DomainName> {
    let is_final = |record: &Record| record.section == Section::Answer && record.rtype == question.qtype;
    let may_alias = !matches!(question.qtype, rtype::CNAME | rtype::ANY | rtype::DNAME);
    let is_open = may_alias && answer.rcode() == rcode::NOERROR && !answer.records.iter().any(is_final);
    answer.chain.last().filter(|_| is_open).cloned()
}

/// An alias's answer with the answer of its target behind it.
fn join(question: &Question, alias: &Answer, target: &Answer) -> Option<Answer> {
    let octets = super::wire::question_octets(question.name.as_ref(), question.qtype, question.qclass);
    let flags = (alias.flags & !flag::RCODE & !flag::AD) | target.rcode();
    let mut writer = Writer::new(0, flags, &octets);
    let in_answer = |record: &&Record| record.section == Section::Answer;
    for record in alias.records.iter().filter(in_answer) {
        writer.copy(&alias.message, record).ok()?;
    }
    for record in target.records.iter().filter(|record| record.section != Section::Additional) {
        writer.copy(&target.message, record).ok()?;
    }
    Answer::read(Bytes::from(writer.finish())).ok()
}
