//! The paths of the admin listener.

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{Query, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use serde::Serialize;

use super::Desk;
use super::answer::{Parameters, Problem, json, text};
use super::{access, console, data, plain, stream, verdict};
use crate::count::plural;
use crate::drain::Phase;
use crate::ops::reloader::Report;
use crate::registry::diff::Diff;
use crate::registry::{Preview, Shrink, Store};

/// Content type of the text exposition.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Every path, for people who asked for another.
const PATHS: &str = "/, /plain, /metrics, /healthz, /readyz, /v1/status, /v1/verdict, /v1/registry, /v1/ranges, /v1/top, /v1/unfiled, /v1/shadow, /v1/events, POST /v1/reload, POST /v1/drain";

/// All routes behind the guard.
pub fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/", get(console::page))
        .route("/plain", get(plain::page))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/v1/status", get(status))
        .route("/v1/verdict", get(verdict::verdict))
        .route("/v1/registry", get(data::registry))
        .route("/v1/ranges", get(data::ranges))
        .route("/v1/top", get(stream::top))
        .route("/v1/unfiled", get(stream::unfiled))
        .route("/v1/shadow", get(stream::shadow))
        .route("/v1/events", get(stream::events))
        .route("/v1/reload", post(reload))
        .route("/v1/drain", post(drain))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::map_response(readable_rejection))
        .layer(from_fn_with_state(desk.clone(), access::guard))
        .with_state(desk)
}

async fn metrics(State(desk): State<Arc<Desk>>) -> Response {
    text(METRICS_TYPE, desk.source.metrics.render())
}

async fn healthz() -> Response {
    text("text/plain; charset=utf-8", "ok\n".to_owned())
}

async fn readyz(State(desk): State<Arc<Desk>>) -> Response {
    let readiness = desk.source.health.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &readiness)
}

async fn status(State(desk): State<Arc<Desk>>) -> Response {
    json(StatusCode::OK, &desk.source.status())
}

/// What a reload did.
#[derive(Serialize)]
struct ReloadReport {
    /// True when every part took.
    ok: bool,
    /// One line a part that was published or found unchanged.
    done: Vec<String>,
    /// One line a part that was refused; its last good state stays.
    refused: Vec<String>,
}

async fn reload(
    State(desk): State<Arc<Desk>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let parameters = Parameters::checked(pairs, &["accept-shrink", "dry-run"])?;
    let (accepts_shrink, is_dry) = (parameters.switch("accept-shrink")?, parameters.switch("dry-run")?);
    let report = match (is_dry, accepts_shrink) {
        (true, true) => return Err(Problem::parameter("dry-run", "goes without accept-shrink".to_owned())),
        (true, false) => preview(desk.source.health.registry.clone()).await,
        (false, true) => desk.reloader.reload(Shrink::Accept).await,
        (false, false) => desk.reloader.reload(Shrink::Refuse).await,
    };
    let ok = report.refused.is_empty();
    let status = if ok { StatusCode::OK } else { StatusCode::CONFLICT };
    Ok(json(status, &ReloadReport { ok, done: report.done, refused: report.refused }))
}

/// What a reload would make of the registry.
async fn preview(store: Arc<Store>) -> Report {
    let looking = tokio::task::spawn_blocking(move || store.preview(SystemTime::now()));
    let mut res = Report::default();
    match looking.await {
        Ok(Ok(Preview { diff, rows, refusal })) => {
            let Diff { added, changed, removed, blocked, released, .. } = diff;
            res.done.push(format!(
                "registry: would have {}, {added} added, {changed} changed, {removed} removed; {} would be blocked, {released} released",
                plural(rows, "row"),
                plural(blocked, "name")
            ));
            res.refused.extend(refusal.map(|error| format!("registry: would be refused: {error}")));
        }
        Ok(Err(error)) => res.refused.push(format!("registry: would be refused: {error}")),
        Err(_) => res.refused.push("registry: the look was cut off by an internal error".to_owned()),
    }
    res
}

#[derive(Serialize)]
struct DrainReport {
    draining: bool,
}

async fn drain(State(desk): State<Arc<Desk>>) -> Response {
    tracing::info!("drain asked for on the admin listener");
    desk.drain.advance(Phase::Draining);
    json(StatusCode::ACCEPTED, &DrainReport { draining: true })
}

async fn not_found(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("no {}; available: {PATHS}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    let expected = if uri.path() == "/v1/reload" || uri.path() == "/v1/drain" { "POST" } else { "GET" };
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} {}; expected {expected}", uri.path()))
}

/// The framework's own refusals (a query that does not decode) say it in text; ours say it in JSON.
async fn readable_rejection(response: Response) -> Response {
    let is_text =
        response.headers().get("content-type").is_some_and(|value| value.as_bytes().starts_with(b"text/plain"));
    if response.status() == StatusCode::BAD_REQUEST && is_text {
        return Problem::new(
            StatusCode::BAD_REQUEST,
            "the query cannot be read; expected name=value pairs joined by &",
        )
        .into_response();
    }
    response
}
