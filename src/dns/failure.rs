//! Answers that rest on no source: what cannot be decoded, special names, failures with their reason, and stale answers in their
//! place.

use std::sync::Arc;
use std::time::SystemTime;

use super::cache::Entry;
use super::companions::Companions;
use super::counters::CacheOutcome;
use super::edns::{ExtendedError, info_code};
use super::find::{FindError, Freshness};
use super::gate::Judged;
use super::handler::{Client, Gate, Taken};
use super::question::{DecodeError, Query, Question};
use super::rewrite;
use super::send::refuse;
use super::settings::UpstreamDown;
use super::upstream::UpstreamError;
use super::wire::{rcode, rtype};
use crate::policy::View;
use crate::policy::special::SpecialUse;

impl Gate {
    pub(super) fn error(&self, query: &Query, client: Client, code: u16, error: Option<(u16, &str)>) -> Taken {
        let errors: Vec<ExtendedError> = error.map(|(code, text)| ExtendedError::new(code, text)).into_iter().collect();
        self.failure(query, client, code, &errors)
    }

    /// A response without records, with why.
    fn failure(&self, query: &Query, client: Client, code: u16, errors: &[ExtendedError]) -> Taken {
        let finished = rewrite::empty(&query.question, self.own_flags(), code);
        self.answered(&finished, client, &self.delivery(query, client, 0, errors))
    }

    pub(super) fn undecodable(&self, packet: &[u8], client: Client, error: DecodeError) -> Taken {
        self.counters.undecodable(error);
        match refuse(packet, error, self.settings.edns_udp_bytes_max) {
            Some(message) => {
                self.counters.response(&message, u8::from(error == DecodeError::BadVersion));
                if let Some(tap) = &self.tap {
                    let now = self.view.now();
                    tap.response(&message, client, (Some(now), now), None);
                }
                Taken::Answered(message)
            }
            None => {
                self.counters.dropped.increment();
                Taken::Dropped
            }
        }
    }

    pub(super) fn special(&self, query: &Query, client: Client, special: SpecialUse) -> Taken {
        match special {
            SpecialUse::Loopback => {
                let finished = rewrite::loopback(&query.question, self.own_flags());
                self.answered(&finished, client, &self.delivery(query, client, 0, &[]))
            }
            SpecialUse::NoSuchName => self.error(query, client, rcode::NXDOMAIN, None),
        }
    }

    pub(super) fn unreadable(&self, query: &Query, client: Client) -> Taken {
        self.counters.unreadable.increment();
        self.error(query, client, rcode::SERVFAIL, Some((info_code::INVALID_DATA, "the answer could not be read")))
    }

    /// Nothing was found: a stale answer where no upstream answered, or a failure with the reason.
    pub(super) fn without_answer(&self, query: &Query, client: Client, error: FindError) -> Taken {
        let error = match error {
            FindError::Unreadable => return self.unreadable(query, client),
            FindError::Upstream(UpstreamError::NoUpstream) => {
                let reason = (info_code::NOT_SUPPORTED, "no zone and no upstream for this name");
                return self.error(query, client, rcode::REFUSED, Some(reason));
            }
            FindError::Upstream(error) => error,
        };
        let (view, now) = (self.view.load_full(), self.view.now());
        if let Some(refusal) = self.not_ready(&view, query, client) {
            return refusal;
        }
        self.counters.unreachable.increment();
        if self.settings.upstream_down == UpstreamDown::Stale
            && let Some((entry, judged)) = self.stale(&view, now, &query.question)
        {
            self.counters.cache(CacheOutcome::Stale);
            return self.send(&view, now, query, client, &entry, &judged, Freshness::Stale);
        }
        let mut errors = vec![ExtendedError::new(info_code::NO_REACHABLE_AUTHORITY, error.to_string())];
        if error == UpstreamError::Broken {
            errors.push(ExtendedError::new(info_code::NETWORK_ERROR, ""));
        }
        self.failure(query, client, rcode::SERVFAIL, &errors)
    }

    /// A stale answer with its judgement, on companions as old as it is.
    fn stale(&self, view: &View, now: SystemTime, question: &Question) -> Option<(Arc<Entry>, Arc<Judged>)> {
        let entry = self.cache.stale(question)?;
        let is_address = matches!(question.qtype, rtype::A | rtype::AAAA);
        // The other family of an address is judged when it is asked for; where a service leads must be known.
        let unknown = || is_address.then(|| Arc::new(Companions { are_complete: false, ..Companions::none() }));
        let companions = entry.companions.load_full().or_else(unknown);
        let (judged, _) = self.judged(view, now, question, &entry, companions.as_ref()).ok()?;
        Some((entry, judged))
    }
}
