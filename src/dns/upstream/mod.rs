//! Questions to other servers: groups by suffix, choice, health, coalescing; the exchanges themselves are in `exchange`.
//!
//! What an upstream says comes back octet for octet: DO, CD, rcodes, CNAMEs and extended errors stay as they were.

mod exchange;
mod hedge;
mod server;
mod sockets;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::timeout_at;

use self::hedge::{Budget, late_after};
use self::server::Server;
use super::Settings;
use super::edns::rcode_high;
use super::question::Question;
use super::settings::{UpstreamGroup, UpstreamPolicy};
use super::wire::{self, HEADER_OCTETS, flag, rcode};
use crate::count::{Counter, Labels, Observe, Sample};
use crate::credentials::client_config;
use crate::model::DomainName;

/// Why no upstream answer came.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum UpstreamError {
    /// The settings cannot be used.
    #[error("{0}")]
    BadSettings(String),
    /// No server could be talked to: refused connections, broken handshakes, answers that are none.
    #[error("every exchange with an upstream broke off")]
    Broken,
    /// No group covers the name.
    #[error("no upstream is configured for this name")]
    NoUpstream,
    /// Too many questions wait already.
    #[error("too many questions wait for upstreams")]
    Overloaded,
    /// No server answered in time.
    #[error("no upstream answered in time")]
    Unreachable,
}

type Outcome = Result<Bytes, UpstreamError>;

/// All upstream groups.
pub struct Upstreams {
    inner: Arc<Inner>,
}

struct Inner {
    groups: Vec<Group>,
    /// Questions being asked now: whoever asks the same waits for the same answer.
    asking: DashMap<Question, watch::Receiver<Option<Outcome>>>,
    asking_max: usize,
    coalesced: Counter,
}

struct Group {
    suffix: DomainName,
    policy: UpstreamPolicy,
    servers: Vec<Arc<Server>>,
    /// None where no second server is asked beside a first.
    hedges: Option<Budget>,
    turn: std::sync::atomic::AtomicUsize,
}

/// How one server does.
#[derive(Clone, Debug)]
pub struct ServerHealth {
    /// As configured.
    pub server: String,
    /// False while it is left out after failures.
    pub is_up: bool,
}

impl Upstreams {
    /// Prepares the groups of `settings`; connects to nothing. Must run inside the runtime.
    pub fn new(settings: &Settings) -> Result<Self, UpstreamError> {
        let tls = client_config(settings.upstream_ca.as_deref()).map_err(UpstreamError::BadSettings)?;
        let groups = settings.upstreams.iter().map(|group| Group::new(group, settings, &tls)).collect();
        let asking_max = settings.inflight_max;
        let inner = Inner { groups, asking: DashMap::new(), asking_max, coalesced: Counter::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Asks for `question` and returns the upstream's message, checked to be an answer to it, ID 0.
    ///
    /// One exchange serves all who ask the same at the same time; it runs on when one of them gives up.
    pub async fn ask(&self, question: &Question, deadline: Instant) -> Outcome {
        let group = self.inner.group_of(question).ok_or(UpstreamError::NoUpstream)?;
        let mut waiting = match self.inner.asking.entry(question.clone()) {
            Entry::Occupied(entry) => {
                self.inner.coalesced.increment();
                entry.get().clone()
            }
            Entry::Vacant(entry) => {
                let (sender, receiver) = watch::channel(None);
                entry.insert(receiver.clone());
                // The count is read after the shard's lock is gone: see below.
                let (inner, question) = (self.inner.clone(), question.clone());
                tokio::spawn(async move {
                    let asking = Asking { inner: &inner, question: &question };
                    let outcome = if inner.asking.len() > inner.asking_max {
                        Err(UpstreamError::Overloaded)
                    } else {
                        inner.groups[group].ask(&question, deadline).await
                    };
                    drop(asking);
                    sender.send_replace(Some(outcome));
                });
                receiver
            }
        };
        let answered = waiting.wait_for(Option::is_some);
        match timeout_at(deadline.into(), answered).await {
            Ok(Ok(outcome)) => outcome.clone().unwrap_or(Err(UpstreamError::Unreachable)),
            Ok(Err(_)) | Err(_) => Err(UpstreamError::Unreachable),
        }
    }

    /// How every server does, in configured order.
    pub fn health(&self) -> Vec<ServerHealth> {
        let servers = self.inner.groups.iter().flat_map(|group| &group.servers);
        servers.map(|server| ServerHealth { server: server.label().to_owned(), is_up: server.is_up() }).collect()
    }
}

/// A question's place among those being asked, given up whatever becomes of the exchange.
struct Asking<'a> {
    inner: &'a Inner,
    question: &'a Question,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.inner.asking.remove(self.question);
    }
}

impl Observe for Upstreams {
    fn observe(&self, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {
        show("upstream_coalesced_total", &[], Sample::Count(self.inner.coalesced.value()));
        for server in self.inner.groups.iter().flat_map(|group| &group.servers) {
            server.observe(show);
        }
    }
}

impl Inner {
    /// The group with the longest suffix that holds the name.
    fn group_of(&self, question: &Question) -> Option<usize> {
        let holds = |group: &Group| question.name.as_ref().is_at_or_below(group.suffix.as_ref());
        let covering = self.groups.iter().enumerate().filter(|(_, group)| holds(group));
        covering.max_by_key(|(_, group)| group.suffix.wire().len()).map(|(i, _)| i)
    }
}

impl Group {
    fn new(group: &UpstreamGroup, settings: &Settings, tls: &exchange::TlsSettings) -> Self {
        let server = |server: &super::settings::UpstreamServer| Arc::new(Server::new(server, settings, tls));
        Self {
            suffix: group.suffix.clone(),
            policy: group.policy,
            servers: group.servers.iter().map(server).collect(),
            hedges: group.hedges.then(Budget::new),
            turn: std::sync::atomic::AtomicUsize::new(0),
        }
    }

    /// Asks server after server, and once a second one beside one that is late. A failure code is kept in case nobody does
    /// better.
    async fn ask(&self, question: &Question, deadline: Instant) -> Outcome {
        let order = self.order();
        let (mut failure, mut is_broken, mut is_silent) = (None, false, false);
        let mut asked = 0;
        if let Some(budget) = &self.hedges {
            budget.earn();
        }
        while let Some(server) = order.get(asked) {
            if Instant::now() >= deadline {
                break;
            }
            let second = order.get(1).filter(|second| asked == 0 && second.is_up());
            let said = match (&self.hedges, second) {
                (Some(budget), Some(second)) => {
                    let (said, count) = beside(server, second, budget, question, deadline).await;
                    asked += count;
                    said
                }
                _ => {
                    asked += 1;
                    say(server, question, deadline).await
                }
            };
            match said {
                Said::Answer(message) => return Ok(message),
                Said::Failure(message) => drop(failure.get_or_insert(message)),
                Said::Nothing => is_silent = true,
                Said::Broken => is_broken = true,
            }
        }
        let reason = if is_broken && !is_silent { UpstreamError::Broken } else { UpstreamError::Unreachable };
        failure.ok_or(reason)
    }

    /// Servers in the order to try: those that are up first, by the group's policy.
    fn order(&self) -> Vec<&Arc<Server>> {
        /// Every so many questions the fastest server is not the first: the others' times stay known.
        const PROBE_EVERY: usize = 32;
        let turn = self.turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut res: Vec<&Arc<Server>> = self.servers.iter().collect();
        match self.policy {
            UpstreamPolicy::Ordered => {}
            UpstreamPolicy::RoundRobin => {
                let by = turn % res.len().max(1);
                res.rotate_left(by);
            }
            UpstreamPolicy::Fastest => {
                res.sort_by_key(|server| server.expected_micros());
                if turn % PROBE_EVERY == PROBE_EVERY - 1 && res.len() > 1 {
                    let by = 1 + (turn / PROBE_EVERY) % (res.len() - 1);
                    res.rotate_left(by);
                }
            }
        }
        res.sort_by_key(|server| !server.is_up());
        res
    }
}

/// What a server said to a question.
enum Said {
    /// An answer.
    Answer(Bytes),
    /// A code that another server may not have.
    Failure(Bytes),
    /// Nothing in time.
    Nothing,
    /// Nothing that answers it, or the exchange broke off.
    Broken,
}

impl Said {
    /// The one that says more; of two that say as much, this one.
    fn or(self, other: Self) -> Self {
        let rank = |said: &Self| match said {
            Self::Answer(_) => 3,
            Self::Failure(_) => 2,
            Self::Nothing => 1,
            Self::Broken => 0,
        };
        if rank(&self) >= rank(&other) { self } else { other }
    }
}

async fn say(server: &Server, question: &Question, deadline: Instant) -> Said {
    match server.exchange(question, deadline).await {
        Ok(message) if !answers(&message, question) => Said::Broken,
        Ok(message) if is_failure(&message) => Said::Failure(message),
        Ok(message) => Said::Answer(message),
        Err(error) if error.is_silence() => Said::Nothing,
        Err(_) => Said::Broken,
    }
}

/// Asks the first server, and the second one too if that is late; how many were asked.
async fn beside(
    first: &Server,
    second: &Server,
    budget: &Budget,
    question: &Question,
    deadline: Instant,
) -> (Said, usize) {
    let begun = Instant::now();
    let mut one = std::pin::pin!(say(first, question, deadline));
    tokio::select! {
        said = &mut one => return (said, 1),
        () = tokio::time::sleep(late_after(first.expected())) => {}
    }
    if !budget.spend() {
        return (one.await, 1);
    }
    let mut other = std::pin::pin!(say(second, question, deadline));
    let said = tokio::select! {
        said = &mut one => match said {
            Said::Answer(_) => said,
            _ => said.or(other.await),
        },
        said = &mut other => match said {
            Said::Answer(_) => {
                first.overtaken(begun.elapsed());
                second.overtook();
                said
            }
            _ => one.await.or(said),
        },
    };
    (said, 2)
}

/// True for codes that another server may well not have: SERVFAIL, REFUSED, and what the OPT extends, such as BADCOOKIE.
fn is_failure(message: &[u8]) -> bool {
    let code = wire::u16_at(message, 2).unwrap_or(rcode::SERVFAIL) & flag::RCODE;
    let is_extended = || wire::records(message).is_ok_and(|records| rcode_high(&records) != 0);
    matches!(code, rcode::SERVFAIL | rcode::REFUSED) || is_extended()
}

/// True when `message` is a response to exactly this question.
fn answers(message: &[u8], question: &Question) -> bool {
    let is_response = message.get(2).is_some_and(|octet| octet & 0x80 != 0);
    let same = || {
        let (name, after) = wire::read_name(message, HEADER_OCTETS).ok()?;
        let same_type = wire::u16_at(message, after).ok()? == question.qtype;
        let same_class = wire::u16_at(message, after + 2).ok()? == question.qclass;
        Some(name == question.name && same_type && same_class)
    };
    is_response && wire::counts(message).is_ok_and(|counts| counts[0] == 1) && same() == Some(true)
}
