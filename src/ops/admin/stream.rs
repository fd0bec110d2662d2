//! `/v1/top` and `/v1/events`: what is blocked most, and verdicts as they happen (server-sent events).

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

use super::Desk;
use super::answer::{Parameters, Problem, finish, json};
use crate::drain::{DrainWatch, Phase};
use crate::ops::recent::{self, TopRow};
use crate::policy::{Action, SinkGuest};

/// Rows of `/v1/top` unless more are asked for.
const ROWS_DEFAULT: usize = 20;
/// Rows of `/v1/top` at most.
const ROWS_MAX: usize = 1000;
/// Readers of the stream at a time; each verdict is rendered once and sent to each of them.
pub const READERS_MAX: usize = 16;
/// Silence after which a comment keeps proxies from closing the stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Serialize)]
struct Top {
    top: Vec<TopRow>,
}

/// The most blocked registrable domains.
pub async fn top(
    State(desk): State<Arc<Desk>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let rows = Parameters::checked(pairs, &["n"])?.count("n", ROWS_DEFAULT, ROWS_MAX)?;
    Ok(json(StatusCode::OK, &Top { top: desk.recent.top(rows) }))
}

/// Verdicts from now on, one event each; `what=all` for allows too.
pub async fn events(
    State(desk): State<Arc<Desk>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let parameters = Parameters::checked(pairs, &["what"])?;
    let blocks_only = match parameters.one("what")? {
        None | Some("blocks") => true,
        Some("all") => false,
        Some(text) => return Err(Problem::parameter("what", format!("{text:?}; available: blocks, all"))),
    };
    let place = desk.readers.clone().try_acquire_owned().map_err(|_| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("{READERS_MAX} readers have the stream open already"))
    })?;
    let guest = (!blocks_only).then(|| desk.sink.invite());
    let reader = Reader { events: desk.recent.subscribe(), end: desk.end.clone(), blocks_only, place, guest };
    Ok(finish(Sse::new(reader.stream()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()))
}

/// One open stream.
struct Reader {
    events: broadcast::Receiver<recent::Event>,
    end: DrainWatch,
    blocks_only: bool,
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
        loop {
            let received = tokio::select! {
                received = self.events.recv() => received,
                () = self.end.reached(Phase::Draining) => return None,
            };
            match received {
                Ok(event) if self.blocks_only && event.action == Action::Allow => {}
                Ok(event) => return Some(Event::default().event("verdict").data(&*event.line)),
                Err(RecvError::Lagged(lost)) => return Some(Event::default().event("lost").data(lost.to_string())),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}
