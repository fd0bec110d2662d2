//! One query from octets to octets: decode, find an answer, judge, deliver.
//!
//! What needs no waiting (errors, refusals, cache hits, judging again) is answered in the call; the rest is a future.
//! One view a packet: snapshot, rules and ranges are taken once.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use super::cache::{AnswerCache, Entry, Fresh, Source};
use super::companions::Companions;
use super::cookies::{Cookies, Secret};
use super::counters::{CacheOutcome, Counters};
use super::discovery;
use super::dnstap::Tap;
use super::dnstap::message::{Policy, PolicyAction};
use super::edns::{ExtendedError, info_code};
use super::find::Freshness;
use super::gate::{self, Basis, Judged};
use super::question::{Query, Question, decode, is_query};
use super::rate::{Admission, Limiter};
use super::refresh::Refresher;
use super::rewrite;
use super::secure::Servers;
use super::send::{self, Delivery, Transport, deliver};
use super::settings::Settings;
use super::upstream::Upstreams;
use super::wire::{flag, rcode};
use super::zones::Zones;
use crate::clients::Clients;
use crate::model::Via;
use crate::policy::special::special_use;
use crate::policy::{Action, SharedView, Sink, Stance, VerdictRecord, View};

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
    pub(super) settings: Settings,
    pub(super) view: SharedView,
    sink: Sink,
    pub(super) counters: Arc<Counters>,
    pub(super) cache: AnswerCache,
    pub(super) zones: ArcSwap<Zones>,
    pub(super) upstreams: Upstreams,
    pub(super) inflight: Semaphore,
    askers: Arc<Clients>,
    pub(super) cookies: ArcSwap<Cookies>,
    pub(super) limiter: Option<Limiter>,
    pub(super) refresher: Refresher,
    servers: ArcSwap<Servers>,
    pub(super) tap: Option<Tap>,
}

/// Who asks, over what.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// The address.
    pub addr: IpAddr,
    /// The port.
    pub port: u16,
    /// The address it reached, where that is known.
    pub reached: Option<SocketAddr>,
    /// The transport.
    pub transport: Transport,
}

impl Client {
    /// A client at `from` that reached `reached`; all addresses but one (`0.0.0.0`, `::`) tell nothing.
    pub fn new(from: SocketAddr, reached: Option<SocketAddr>, transport: Transport) -> Self {
        let reached = reached.filter(|reached| !reached.ip().is_unspecified());
        Self { addr: from.ip(), port: from.port(), reached, transport }
    }
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
        servers: Servers,
    ) -> Self {
        let cache = AnswerCache::new(&settings);
        let inflight = Semaphore::new(settings.inflight_max);
        let askers = Clients::new(settings.inflight_per_client_max);
        let cookies = ArcSwap::from_pointee(Cookies::new(&settings.cookie_secrets));
        let limiter = Limiter::new(&settings.rate_limit);
        let (zones, servers) = (ArcSwap::from_pointee(zones), ArcSwap::from_pointee(servers));
        let (refresher, tap) = (Refresher::new(), None);
        Self {
            settings,
            view,
            sink,
            counters,
            cache,
            zones,
            upstreams,
            inflight,
            askers,
            cookies,
            limiter,
            refresher,
            servers,
            tap,
        }
    }

    /// The same, with copies of queries and responses for `tap`.
    pub fn tapped(self, tap: Option<Tap>) -> Self {
        Self { tap, ..self }
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
            self.forget();
        }
    }

    /// What ends the TLS of the encrypted transports.
    pub fn servers(&self) -> Arc<Servers> {
        self.servers.load_full()
    }

    /// Replaces it: handshakes from now on.
    pub fn replace_servers(&self, servers: Servers) {
        self.servers.store(Arc::new(servers));
    }

    /// Makes cookies by other secrets from now on; those that clients have stay good for their hour.
    pub fn replace_cookie_secrets(&self, secrets: &[Secret]) {
        let now = self.view.now();
        self.cookies.rcu(|before| before.replaced(secrets, now));
    }

    /// How many local zones there are.
    pub fn zone_count(&self) -> usize {
        self.zones.load().len()
    }

    /// Takes a packet; answers what needs no waiting.
    pub fn take(&self, packet: &[u8], client: Client) -> Taken {
        let arrived = self.tap.as_ref().map(|tap| {
            let now = self.view.now();
            if is_query(packet) {
                tap.query(packet, client, now);
            }
            now
        });
        let query = match decode(packet) {
            Ok(query) => Query { arrived, ..query },
            Err(error) => return self.undecodable(packet, client, error),
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
        // Nothing waits in here, so the view is borrowed, and shared only with a record.
        let view = self.view.load();
        let now = self.view.now();
        if let Some(refusal) = self.not_ready(&view, &query, client) {
            return refusal;
        }
        if let Some(special) = special_use(query.question.name.as_ref()) {
            return self.special(&query, client, special);
        }
        let is_local = self.zones.load().holds(query.question.name.as_ref());
        if !is_local && self.is_resolver() && discovery::is_about_us(query.question.name.as_ref()) {
            let finished = discovery::answer(&query.question, &self.settings, &self.servers.load(), self.own_flags());
            return self.answered(&finished, client, &self.delivery(&query, client, 0, &[]));
        }
        if !is_local
            && let Some(Fresh { entry, is_ending }) = self.cache.fresh(&query.question)
            && let Ok((judged, outcome)) = self.judged(&view, now, &query.question, &entry, None)
        {
            self.counters.cache(outcome);
            if is_ending {
                self.refresher.renew(&query.question, &entry);
            }
            return self.send(&view, now, &query, client, &entry, &judged, Freshness::Cached);
        }
        Taken::Waiting(Box::new(query))
    }

    /// Answers a query that [`Gate::take`] could not; `None` means no answer is sent.
    ///
    /// Who gives the future up has dropped the query, and it is counted so.
    pub async fn resolve(&self, query: &Query, client: Client) -> Option<Vec<u8>> {
        let mut unfinished = Unfinished(Some(&self.counters));
        let res = self.resolve_whole(query, client).await;
        unfinished.0 = None;
        res
    }

    async fn resolve_whole(&self, query: &Query, client: Client) -> Option<Vec<u8>> {
        let Ok(_permit) = self.inflight.try_acquire() else { return self.overloaded(query, client) };
        // While there is room one client may have all of it; then its share is bounded.
        let place = self.askers.enter(client.addr);
        if place.is_none() && self.inflight.available_permits() < self.settings.inflight_max / 2 {
            return self.overloaded(query, client);
        }
        self.counters.cache(CacheOutcome::Miss);
        let deadline = Instant::now() + self.settings.resolve_timeout;
        let found = self.find(&query.question, deadline).await;
        match found {
            Ok((entry, freshness)) => taken(self.conclude(query, client, &entry, freshness, deadline).await),
            Err(error) => taken(self.without_answer(query, client, error)),
        }
    }

    /// The answer to a query that cannot be taken on.
    pub fn overloaded(&self, query: &Query, client: Client) -> Option<Vec<u8>> {
        self.counters.overloaded.increment();
        taken(self.error(query, client, rcode::SERVFAIL, None))
    }

    /// Judges what was found, with whatever else the judgement needs, and answers.
    async fn conclude(
        &self,
        query: &Query,
        client: Client,
        entry: &Entry,
        freshness: Freshness,
        deadline: Instant,
    ) -> Taken {
        let question = &query.question;
        let mut companions = None;
        loop {
            // One view for the judgement, taken after the waiting.
            let (view, now) = (self.view.load_full(), self.view.now());
            if let Some(refusal) = self.not_ready(&view, query, client) {
                return refusal;
            }
            match self.judged(&view, now, question, entry, companions.as_ref()) {
                Ok((judged, _)) => return self.send(&view, now, query, client, entry, &judged, freshness),
                Err(NotJudged::Companions) if companions.is_none() => {}
                Err(_) => return self.unreadable(query, client),
            }
            match self.companions(question, &entry.answer, deadline).await {
                Ok(found) => companions = Some(found),
                Err(error) => return self.without_answer(query, client, error),
            }
        }
    }

    /// The refusal of what needs a verdict while the gate is not ready.
    pub(super) fn not_ready(&self, view: &View, query: &Query, client: Client) -> Option<Taken> {
        if view.stance() != Stance::NotReady || !gate::leads_to_addresses(query.question.qtype) {
            return None;
        }
        self.counters.not_ready.increment();
        let faults: Vec<&str> = view.faults.iter().map(|(fault, _)| fault.label()).collect();
        Some(self.error(query, client, rcode::SERVFAIL, Some((info_code::NOT_READY, &faults.join(", ")))))
    }

    //--- Judging -----------------------------------------------------------------------------------------------------

    /// The entry's judgement under `view`, made anew where the old one rests on something else, with the companions just
    /// looked up or those it has.
    pub(super) fn judged(
        &self,
        view: &View,
        now: SystemTime,
        question: &Question,
        entry: &Entry,
        looked_up: Option<&Arc<Companions>>,
    ) -> Result<(Arc<Judged>, CacheOutcome), NotJudged> {
        if let Some(judged) = entry.judged.load_full()
            && looked_up.is_none()
            && judged.holds_on(&Basis::of(view, now))
        {
            return Ok((judged, CacheOutcome::Hit));
        }
        let mut companions = None;
        if gate::companions_needed(&self.settings, view, now, question, &entry.answer) {
            let kept = || entry.companions.load_full().filter(|companions| companions.are_fresh());
            companions = Some(looked_up.cloned().or_else(kept).ok_or(NotJudged::Companions)?);
        }
        let known = companions.as_deref();
        let judged = gate::conclude(&self.settings, view, now, question, &entry.answer, known);
        let judged = Arc::new(judged.map_err(|_| NotJudged::Unreadable)?);
        // What rests on half of what it should is not kept: the next query looks again.
        if known.is_none_or(|companions| companions.are_complete) {
            entry.judged.store(Some(judged.clone()));
            if companions.is_some() {
                entry.companions.store(companions);
            }
        }
        Ok((judged, CacheOutcome::Rejudged))
    }

    //--- Answering ---------------------------------------------------------------------------------------------------

    #[allow(clippy::too_many_arguments)]
    pub(super) fn send(
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
            let (shadow, is_news) = judged.beside(view);
            if self.sink.wants(verdict.action) || (is_news && self.sink.is_open()) {
                self.sink.send(VerdictRecord {
                    at: now,
                    via: Via::Dns,
                    client: client.addr,
                    name: Some(query.question.name.clone()),
                    received: None,
                    verdict,
                    enforced: judged.enforced,
                    shadow,
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
                let is_nxdomain = entry.answer.rcode() == rcode::NXDOMAIN;
                let code = if is_nxdomain { info_code::STALE_NXDOMAIN } else { info_code::STALE_ANSWER };
                // An upstream's word on how old its answer is, is said once and as ours.
                errors.retain(|error| !matches!(error.code, info_code::STALE_ANSWER | info_code::STALE_NXDOMAIN));
                errors.push(ExtendedError::new(code, "no upstream answered"));
                self.clear_aa(&mut finished, entry);
                let owned = finished.to_mut();
                for &at in &owned.ttl_offsets {
                    let at = usize::from(at);
                    owned.octets[at..at + 4].copy_from_slice(&STALE_TTL_SECONDS.to_be_bytes());
                }
                0
            }
        };
        self.structure(&mut errors, query, client, &finished, judged);
        self.answered_by(&finished, client, &self.delivery(query, client, age_seconds, &errors), Some(judged))
    }

    /// An answer out of the cache is nobody's authoritative one.
    fn clear_aa(&self, finished: &mut std::borrow::Cow<'_, rewrite::Finished>, entry: &Entry) {
        let has_aa = finished.octets[2] & (flag::AA >> 8) as u8 != 0;
        if has_aa && entry.source == Source::Upstream {
            finished.to_mut().octets[2] &= !((flag::AA >> 8) as u8);
        }
    }

    pub(super) fn delivery<'a>(
        &'a self,
        query: &'a Query,
        client: Client,
        age_seconds: u32,
        errors: &'a [ExtendedError],
    ) -> Delivery<'a> {
        Delivery {
            query,
            transport: client.transport,
            udp_octets_max: self.settings.edns_udp_bytes_max,
            age_seconds,
            errors,
            keepalive: self.settings.keepalive_tenths(),
            cookie: self.cookie(query, client),
            nsid: self.settings.nsid.as_bytes(),
        }
    }

    pub(super) fn answered(&self, finished: &rewrite::Finished, client: Client, delivery: &Delivery<'_>) -> Taken {
        self.answered_by(finished, client, delivery, None)
    }

    /// The answer that a judgement led to, or none.
    fn answered_by(
        &self,
        finished: &rewrite::Finished,
        client: Client,
        delivery: &Delivery<'_>,
        judged: Option<&Judged>,
    ) -> Taken {
        match self.admit(finished, client, delivery.query) {
            Admission::Pass => {}
            Admission::Drop => {
                self.counters.limited_dropped.increment();
                return Taken::Dropped;
            }
            Admission::Slip => {
                self.counters.limited_slipped.increment();
                let message = send::slip(delivery.query, delivery, self.own_flags());
                self.counters.response(&message, 0);
                self.tap_response(&message, client, delivery.query, None);
                return Taken::Answered(message);
            }
        }
        let message = deliver(finished, delivery);
        self.tap_response(&message, client, delivery.query, judged);
        let rcode_high = if delivery.query.edns.is_some() { finished.rcode_high } else { 0 };
        self.counters.response(&message, rcode_high);
        Taken::Answered(message)
    }

    /// Shows a response to whoever collects them, with the verdict where it blocks.
    fn tap_response(&self, message: &[u8], client: Client, query: &Query, judged: Option<&Judged>) {
        let Some(tap) = &self.tap else { return };
        let times = (query.arrived, self.view.now());
        let name = query.question.name.as_ref();
        let blocking =
            judged.and_then(|judged| Some((judged.verdict.filter(|verdict| verdict.action == Action::Block)?, judged)));
        let Some((verdict, judged)) = blocking else { return tap.response(message, client, times, None) };
        let policy = Policy {
            rule: verdict.rule.id(),
            action: PolicyAction::of(message, judged.enforced),
            value: verdict.registrable(name).unwrap_or(name).wire(),
            text: &gate::explain(&verdict, name),
        };
        tap.response(message, client, times, Some(&policy));
    }
}

/// A query in work; one that is given up counts as dropped.
struct Unfinished<'a>(Option<&'a Counters>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(counters) = self.0 {
            counters.dropped.increment();
        }
    }
}

/// Why an entry has no judgement.
pub(super) enum NotJudged {
    /// It needs companions that are not there.
    Companions,
    /// The answer cannot be written.
    Unreadable,
}

fn taken(taken: Taken) -> Option<Vec<u8>> {
    match taken {
        Taken::Answered(message) => Some(message),
        Taken::Dropped | Taken::Waiting(_) => None,
    }
}
