//! `/v1/top` and `/v1/events`: what is blocked most, verdicts as they happen, and rates (server-sent events).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast};
use tokio::time::{Interval, MissedTickBehavior};

use super::Desk;
use super::answer::{Parameters, Problem, finish, json};
use crate::drain::{DrainWatch, Phase};
use crate::ops::rates::Meter;
use crate::ops::recent::{self, TopRow};
use crate::ops::seen::{Order, SeenRow};
use crate::ops::shadow::{ShadowRow, ShadowStatus};
use crate::ops::status::StatusSource;
use crate::policy::{Action, SinkGuest};

/// Rows of `/v1/top` unless more are asked for.
const ROWS_DEFAULT: usize = 20;
/// Rows of `/v1/top` at most.
const ROWS_MAX: usize = 1000;
/// Readers of the stream at a time; each verdict is rendered once and sent to each of them.
pub const READERS_MAX: usize = 16;
/// How often a reader of rates gets a line.
const RATES_EVERY: Duration = Duration::from_secs(1);
/// Silence after which a comment keeps proxies from closing the stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Serialize)]
struct Top {
    top: Vec<TopRow>,
}

#[derive(Serialize)]
struct Unfiled {
    /// All that are remembered.
    known: usize,
    unfiled: Vec<SeenRow>,
}

#[derive(Serialize)]
struct Shadow {
    enabled: bool,
    /// `None` where nothing judges beside the live data.
    state: Option<ShadowStatus>,
    /// All names that are kept.
    known: usize,
    names: Vec<ShadowRow>,
}

/// The most blocked registrable domains.
pub async fn top(
    State(desk): State<Arc<Desk>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let rows = Parameters::checked(pairs, &["n"])?.count("n", ROWS_DEFAULT, ROWS_MAX)?;
    Ok(json(StatusCode::OK, &Top { top: desk.recent.top(rows) }))
}

/// Unfiled domains that were met: the newest first, or `by=count`, `by=last`.
pub async fn unfiled(
    State(desk): State<Arc<Desk>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let parameters = Parameters::checked(pairs, &["n", "by"])?;
    let rows = parameters.count("n", ROWS_DEFAULT, ROWS_MAX)?;
    let order = match parameters.one("by")?.unwrap_or("first") {
        "count" => Order::Count,
        "first" => Order::First,
        "last" => Order::Last,
        other => return Err(Problem::parameter("by", format!("{other:?}; available: first, last, count"))),
    };
    let seen = &desk.recent.seen;
    Ok(json(StatusCode::OK, &Unfiled { known: seen.len(), unfiled: seen.rows_by(order, rows) }))
}

/// What the shadow would have said otherwise, the names met last first.
pub async fn shadow(
    State(desk): State<Arc<Desk>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let rows = Parameters::checked(pairs, &["n"])?.count("n", ROWS_DEFAULT, ROWS_MAX)?;
    let (state, differences) = (desk.source.health.shadow.status(), &desk.recent.shadow);
    let names = differences.rows_by_last(rows);
    Ok(json(StatusCode::OK, &Shadow { enabled: state.is_some(), state, known: differences.len(), names }))
}

/// What a reader gets.
#[allow(clippy::large_enum_variant, reason = "one a reader, of whom there are few")]
enum Wanted {
    /// Verdicts from now on, one event each.
    Verdicts { events: broadcast::Receiver<recent::Event>, blocks_only: bool },
    /// Rates, a line a second, the first at once.
    Rates { meter: Meter, ticks: Interval, source: StatusSource },
}

/// Verdicts from now on, one event each; `what=all` for allows too, `what=rates` for a line of rates each second.
pub async fn events(
    State(desk): State<Arc<Desk>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let parameters = Parameters::checked(pairs, &["what"])?;
    let what = parameters.one("what")?.unwrap_or("blocks");
    if !["blocks", "all", "rates"].contains(&what) {
        return Err(Problem::parameter("what", format!("{what:?}; available: blocks, all, rates")));
    }
    let place = desk.readers.clone().try_acquire_owned().map_err(|_| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("{READERS_MAX} readers have the stream open already"))
    })?;
    let guest = (what == "all").then(|| desk.sink.invite());
    let wanted = if what == "rates" {
        let mut ticks = tokio::time::interval(RATES_EVERY);
        // A reader that was slow needs no lines of the past.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Wanted::Rates { meter: Meter::default(), ticks, source: desk.source.clone() }
    } else {
        Wanted::Verdicts { events: desk.recent.subscribe(), blocks_only: what == "blocks" }
    };
    let reader = Reader { wanted, end: desk.end.clone(), place, guest };
    Ok(finish(Sse::new(reader.stream()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()))
}

/// One open stream.
struct Reader {
    wanted: Wanted,
    end: DrainWatch,
    #[allow(dead_code, reason = "held for its drop")]
    place: OwnedSemaphorePermit,
    #[allow(dead_code, reason = "held for its drop")]
    guest: Option<SinkGuest>,
}

impl Reader {
    fn stream(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut reader| async move { reader.next().await.map(|event| (Ok(event), reader)) })
    }

    async fn next(&mut self) -> Option<Event> {
        tokio::select! {
            event = self.wanted.next() => event,
            () = self.end.reached(Phase::Draining) => None,
        }
    }
}

impl Wanted {
    /// The next event; nothing is lost when the call is given up.
    async fn next(&mut self) -> Option<Event> {
        let (events, blocks_only) = match self {
            Self::Verdicts { events, blocks_only } => (events, *blocks_only),
            Self::Rates { meter, ticks, source } => {
                ticks.tick().await;
                let line = serde_json::to_string(&meter.read(source));
                return line.ok().map(|line| Event::default().event("rates").data(line));
            }
        };
        loop {
            match events.recv().await {
                Ok(event) if blocks_only && event.action == Action::Allow => {}
                Ok(event) => return Some(Event::default().event("verdict").data(&*event.line)),
                Err(RecvError::Lagged(lost)) => return Some(Event::default().event("lost").data(lost.to_string())),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}
