//! Answers that clients go on asking for, asked for anew before they end: nobody waits for the upstream then, and an upstream
//! that fails meanwhile leaves the answer that is there.
//!
//! A hit in the last tenth of a lifetime is what makes an answer one to renew, as no count has to be kept for that: answers
//! from the cache write nothing that cores share. Renewing comes after clients: it takes no place while half of them are
//! taken, and a question that finds no room is simply asked when its answer ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

use super::cache::Entry;
use super::handler::{Gate, NotJudged};
use super::question::Question;
use crate::drain::{DrainWatch, Phase};

/// Shortest lifetime worth it: a tenth of a shorter one is less than upstreams take.
const LIFETIME_MIN: Duration = Duration::from_secs(10);
/// Questions that wait; with more the upstreams are behind anyway.
const WAITING_MAX: usize = 1024;
/// Questions asked at a time.
const AT_A_TIME_MAX: usize = 64;

/// The age from which a hit renews an answer of this lifetime; `tenths` of it are its end, none where nothing is renewed.
pub fn renewed_after(lifetime: Duration, tenths: u32) -> Duration {
    if tenths == 0 || lifetime < LIFETIME_MIN {
        return Duration::MAX;
    }
    lifetime * 10_u32.saturating_sub(tenths) / 10
}

/// Questions to ask anew.
pub struct Refresher {
    due: mpsc::Sender<Question>,
    /// Until somebody runs it.
    questions: Mutex<Option<mpsc::Receiver<Question>>>,
}

impl Refresher {
    /// None yet.
    pub fn new() -> Self {
        let (due, questions) = mpsc::channel(WAITING_MAX);
        Self { due, questions: Mutex::new(Some(questions)) }
    }

    /// Puts a question in line, once for an entry; never waits.
    pub fn renew(&self, question: &Question, entry: &Entry) {
        if entry.is_first_to_renew() {
            let _ = self.due.try_send(question.clone());
        }
    }
}

impl Gate {
    /// Renews what is due until the drain begins; a second call ends at once.
    pub(super) async fn refresh(self: Arc<Self>, mut drain: DrainWatch) {
        let taken = self.refresher.questions.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut questions) = taken else { return };
        let places = Arc::new(Semaphore::new(AT_A_TIME_MAX));
        loop {
            let question = tokio::select! {
                Some(question) = questions.recv() => question,
                () = drain.reached(Phase::Draining) => return,
            };
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let gate = self.clone();
            tokio::spawn(async move {
                gate.renew(&question).await;
                drop(place);
            });
        }
    }

    /// A place for work that no client waits for; none while clients have half of them.
    fn place_beside_clients(&self) -> Option<SemaphorePermit<'_>> {
        let has_room = self.inflight.available_permits() > self.settings.inflight_max / 2;
        has_room.then(|| self.inflight.try_acquire().ok()).flatten()
    }

    /// Asks anew, keeps the answer and judges it, so that the next query finds it finished.
    async fn renew(&self, question: &Question) {
        let Some(_permit) = self.place_beside_clients() else { return };
        let deadline = Instant::now() + self.settings.resolve_timeout;
        let Ok(answer) = self.ask_upstream(question, deadline).await else {
            self.counters.renewals_failed.increment();
            return;
        };
        // The old one serves until the new one is whole.
        let entry = self.cache.entry(question, answer);
        let is_whole = self.is_judged(question, &entry, deadline).await;
        if is_whole && self.cache.insert(question, &entry) {
            self.counters.cache_octets.set(self.cache.octets());
            self.counters.renewals.increment();
        } else {
            self.counters.renewals_failed.increment();
        }
    }

    /// Judges an entry with whatever that needs; false where it cannot be had.
    async fn is_judged(&self, question: &Question, entry: &Entry, deadline: Instant) -> bool {
        let mut companions = None;
        loop {
            let (view, now) = (self.view.load_full(), self.view.now());
            match self.judged(&view, now, question, entry, companions.as_ref()) {
                Ok(_) => return true,
                Err(NotJudged::Companions) if companions.is_none() => {}
                Err(_) => return false,
            }
            match self.companions(question, &entry.answer, deadline).await {
                Ok(found) => companions = Some(found),
                Err(_) => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_tenth_of_a_long_enough_life_renews() {
        let seconds = Duration::from_secs;
        assert_eq!(renewed_after(seconds(60), 1), seconds(54));
        assert_eq!(renewed_after(seconds(60), 10), Duration::ZERO);
        assert_eq!(renewed_after(seconds(60), 0), Duration::MAX);
        assert_eq!(renewed_after(seconds(9), 1), Duration::MAX);
    }
}
