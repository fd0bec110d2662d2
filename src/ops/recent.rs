//! Recent verdicts for the admin listener: the most blocked domains, and a stream of verdicts as they happen.
//!
//! Fed by the journal task, never by a plane. Both parts are bounded: the table by a cap with a sweep, the stream by its
//! channel, whose slow readers lose the oldest and are told how many.

use std::sync::Arc;

use dashmap::DashMap;
use serde::Serialize;
use tokio::sync::broadcast;

use super::journal::{Line, rfc3339};
use super::seen::Seen;
use super::shadow::Differences;
use crate::model::DomainName;
use crate::policy::{Action, Reason, VerdictRecord};

/// Domains counted at a time; a sweep halves all counts and forgets those that reach zero.
pub const DOMAINS_MAX: usize = 10_000;
/// Verdicts a slow reader of the stream may be behind.
const EVENTS_MAX: usize = 1024;

/// One row of `/v1/top`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopRow {
    /// The registrable domain.
    pub domain: String,
    /// Blocks counted; a lower bound once rare domains were swept.
    pub blocks: u64,
    /// The latest reason.
    pub reason: &'static str,
    /// The latest block.
    pub last: String,
}

/// Blocks of one domain.
struct Blocked {
    count: u64,
    reason: Reason,
    last: std::time::SystemTime,
}

/// See the module's text.
pub struct Recent {
    /// Unfiled domains that were met.
    pub seen: Arc<Seen>,
    /// What the shadow would have said otherwise.
    pub shadow: Arc<Differences>,
    blocked: DashMap<DomainName, Blocked>,
    events: broadcast::Sender<Event>,
}

/// A verdict on the stream.
#[derive(Clone, Debug)]
pub struct Event {
    /// What was decided, for readers that want blocks only.
    pub action: Action,
    /// The journal line.
    pub line: Arc<str>,
}

impl Recent {
    /// Nothing of late; domains are remembered in `seen`.
    pub fn new(seen: Arc<Seen>) -> Self {
        let (shadow, events) = (Arc::default(), broadcast::channel(EVENTS_MAX).0);
        Self { seen, shadow, blocked: DashMap::new(), events }
    }

    /// Takes verdicts in.
    pub fn take(&self, batch: &[VerdictRecord]) {
        self.seen.take(batch);
        self.shadow.take(batch);
        for record in batch {
            self.count(record);
        }
        if self.events.receiver_count() > 0 {
            for record in batch {
                let line = Line::new(record).json().into();
                // The last reader may have gone meanwhile.
                let _ = self.events.send(Event { action: record.verdict.action, line });
            }
        }
    }

    /// A reader of verdicts from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// The `rows_max` most blocked domains, most first.
    pub fn top(&self, rows_max: usize) -> Vec<TopRow> {
        let mut rows: Vec<(DomainName, u64, Reason, std::time::SystemTime)> =
            self.blocked.iter().map(|entry| (entry.key().clone(), entry.count, entry.reason, entry.last)).collect();
        rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        rows.truncate(rows_max);
        let row = |(domain, blocks, reason, last): (DomainName, u64, Reason, std::time::SystemTime)| TopRow {
            domain: domain.to_string(),
            blocks,
            reason: reason.label(),
            last: rfc3339(last),
        };
        rows.into_iter().map(row).collect()
    }

    fn count(&self, record: &VerdictRecord) {
        let Some(name) = record.name.as_ref().filter(|_| record.verdict.action == Action::Block) else { return };
        let domain = record.verdict.registrable(name.as_ref()).unwrap_or(name.as_ref());
        let (reason, last) = (record.verdict.reason, record.at);
        if let Some(mut there) = self.blocked.get_mut(domain.wire()) {
            *there = Blocked { count: there.count + 1, reason, last };
            return;
        }
        if self.blocked.len() >= DOMAINS_MAX {
            self.sweep();
        }
        self.blocked.insert(domain.to_name(), Blocked { count: 1, reason, last });
    }

    /// Makes room: those seen once go, and with them whatever halving brings to zero.
    fn sweep(&self) {
        while self.blocked.len() >= DOMAINS_MAX {
            self.blocked.retain(|_, blocked| {
                blocked.count /= 2;
                blocked.count > 0
            });
        }
    }
}
