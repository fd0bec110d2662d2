//! The paths of the admin listener.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use serde::Serialize;

use super::Desk;
use super::answer::{Parameters, Problem, json, text};
use super::{access, data, page, stream, verdict};
use crate::drain::Phase;
use crate::registry::Shrink;

/// Content type of the text exposition.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Every path, for people who asked for another.
const PATHS: &str = "/, /metrics, /healthz, /readyz, /v1/status, /v1/verdict, /v1/registry, /v1/ranges, /v1/top, /v1/events, POST /v1/reload, POST /v1/drain";

/// All routes behind the guard.
pub fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/v1/status", get(status))
        .route("/v1/verdict", get(verdict::verdict))
        .route("/v1/registry", get(data::registry))
        .route("/v1/ranges", get(data::ranges))
        .route("/v1/top", get(stream::top))
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
    let accepts_shrink = Parameters::checked(pairs, &["accept-shrink"])?.switch("accept-shrink")?;
    let shrink = if accepts_shrink { Shrink::Accept } else { Shrink::Refuse };
    let report = desk.reloader.reload(shrink).await;
    let ok = report.refused.is_empty();
    let status = if ok { StatusCode::OK } else { StatusCode::CONFLICT };
    Ok(json(status, &ReloadReport { ok, done: report.done, refused: report.refused }))
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
