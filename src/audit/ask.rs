//! Asking where hosts lead: at a bounded rate, a bounded number at a time, each until it is answered or was asked often
//! enough.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use thiserror::Error;
use tokio::task::JoinSet;

use super::state::{Observation, Outcome, seconds_of};
use crate::dns::Settings;
use crate::dns::answer::Answer;
use crate::dns::question::Question;
use crate::dns::settings::{UpstreamGroup, UpstreamPolicy, UpstreamServer};
use crate::dns::upstream::{UpstreamError, Upstreams};
use crate::dns::wire::{rcode, rtype};
use crate::model::DomainName;

/// How often a host is asked for that nobody can answer for; with a pause, for servers that limit rates.
const TRIES: u32 = 3;
/// Before a host is asked for again.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest wait for an answer to one question.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// How fast may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Hosts a second, two questions each; a host that is asked for again counts again.
    pub hosts_a_second: u32,
    /// Hosts at a time.
    pub in_flight: usize,
}

/// Why nothing can be asked.
#[derive(Debug, Error)]
pub enum AskError {
    /// The resolvers cannot be used.
    #[error("resolvers: {0}")]
    Resolvers(#[from] UpstreamError),
}

/// Asks resolvers.
#[derive(Clone)]
pub struct Asker {
    upstreams: Arc<Upstreams>,
    turns: Arc<Turns>,
}

impl Asker {
    /// Asks `servers`, the fastest first. Must run inside the runtime.
    pub fn new(servers: Vec<UpstreamServer>, pace: Pace, ca: Option<std::path::PathBuf>) -> Result<Self, AskError> {
        let group =
            UpstreamGroup { suffix: DomainName::root(), servers, policy: UpstreamPolicy::Fastest, hedges: false };
        let mut settings = Settings::new();
        settings.upstreams = vec![group];
        settings.upstream_ca = ca;
        settings.inflight_max = pace.in_flight.saturating_mul(2).max(settings.inflight_max);
        let turns = Arc::new(Turns::new(pace.hosts_a_second));
        Ok(Self { upstreams: Arc::new(Upstreams::new(&settings)?), turns })
    }

    /// Asks for a host's addresses, each time in its turn.
    pub async fn ask(&self, host: &DomainName) -> Observation {
        for tried in 1.. {
            self.turns.wait().await;
            let observation = self.ask_once(host).await;
            if observation.outcome != Outcome::Failed || tried == TRIES {
                return observation;
            }
            tokio::time::sleep(PAUSE).await;
        }
        unreachable!("the last try returns")
    }

    async fn ask_once(&self, host: &DomainName) -> Observation {
        let (v4, v6) = tokio::join!(self.answer(host, rtype::A), self.answer(host, rtype::AAAA));
        let mut res = Observation {
            name: host.to_string(),
            at: seconds_of(SystemTime::now()),
            outcome: Outcome::Failed,
            addresses: Vec::new(),
            is_partial: v4.is_none() || v6.is_none(),
            chain: Vec::new(),
        };
        let answers: Vec<Answer> = v4.into_iter().chain(v6).collect();
        let is_missing = answers.iter().all(|answer| answer.rcode() == rcode::NXDOMAIN);
        let addresses = answers.iter().flat_map(|answer| &answer.addresses);
        res.addresses = addresses.map(|addr: &IpAddr| addr.to_canonical()).collect();
        res.addresses.sort_unstable();
        res.addresses.dedup();
        // Both answers go the same way, but for aliases that have one family only.
        let mut chain: Vec<String> = answers.iter().flat_map(|answer| &answer.chain).map(ToString::to_string).collect();
        let mut seen = std::collections::HashSet::new();
        chain.retain(|target| seen.insert(target.clone()));
        res.chain = chain;
        res.outcome = match (res.addresses.is_empty(), is_missing) {
            (false, _) => Outcome::Found,
            // One family alone does not tell that there is nothing.
            (true, _) if res.is_partial => Outcome::Failed,
            (true, true) => Outcome::NoName,
            (true, false) => Outcome::NoAddress,
        };
        res
    }

    /// An answer that tells something: data, or that there are none.
    async fn answer(&self, host: &DomainName, qtype: u16) -> Option<Answer> {
        let question = Question {
            name: host.clone(),
            qtype,
            qclass: 1,
            recursion_desired: true,
            authentic_data: false,
            checking_disabled: false,
            dnssec_ok: false,
        };
        let message = self.upstreams.ask(&question, Instant::now() + ANSWER_MAX).await.ok()?;
        let answer = Answer::read(message).ok()?;
        matches!(answer.rcode(), rcode::NOERROR | rcode::NXDOMAIN).then_some(answer)
    }
}

/// Asks for every host and gives `each` what was observed, as it comes; ends early when `each` fails.
pub async fn ask_all<E>(
    asker: &Asker,
    pace: Pace,
    hosts: impl IntoIterator<Item = DomainName>,
    mut each: impl FnMut(Observation) -> Result<(), E>,
) -> Result<(), E> {
    let mut asking = JoinSet::new();
    for host in hosts {
        while asking.len() >= pace.in_flight.max(1) {
            if let Some(Ok(observation)) = asking.join_next().await {
                each(observation)?;
            }
        }
        let asker = asker.clone();
        asking.spawn(async move { asker.ask(&host).await });
        while let Some(Ok(observation)) = asking.try_join_next() {
            each(observation)?;
        }
    }
    while let Some(joined) = asking.join_next().await {
        if let Ok(observation) = joined {
            each(observation)?;
        }
    }
    Ok(())
}

/// Evenly spaced turns, for all hosts that are asked for together.
struct Turns {
    between: Duration,
    next: Mutex<Instant>,
}

impl Turns {
    /// What the runtime's timer can tell apart.
    const FINE: Duration = Duration::from_millis(1);

    fn new(a_second: u32) -> Self {
        Self { between: Duration::from_secs(1) / a_second.max(1), next: Mutex::new(Instant::now()) }
    }

    /// Waits for the next turn; one that is closer than the timer is fine is taken at once.
    async fn wait(&self) {
        let now = Instant::now();
        let turn = self.take(now);
        if turn > now + Self::FINE {
            tokio::time::sleep_until(turn.into()).await;
        }
    }

    /// The next turn, which is taken by that. Who was held up does not catch up with a burst.
    fn take(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = (*next).max(now.checked_sub(Self::FINE).unwrap_or(now));
        *next = turn + self.between;
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_evenly_spaced_and_not_caught_up_with() {
        let turns = Turns::new(100);
        let begun = Instant::now() + Duration::from_secs(1);
        let taken: Vec<Duration> = (0..4).map(|_| turns.take(begun) + Turns::FINE - begun).collect();
        assert_eq!(taken, [0, 10, 20, 30].map(Duration::from_millis));
        let later = begun + Duration::from_secs(5);
        let taken: Vec<Duration> = (0..2).map(|_| turns.take(later) + Turns::FINE - later).collect();
        assert_eq!(taken, [0, 10].map(Duration::from_millis));
    }
}
