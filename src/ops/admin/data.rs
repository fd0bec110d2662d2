//! `/v1/registry` and `/v1/ranges`: the data in use, their files, their findings, and why a reload was refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::Desk;
use super::answer::{Parameters, Problem, json};
use crate::ops::journal::rfc3339;
use crate::registry::{FileSummary, Issue, Reloads};

/// Findings shown unless more are asked for.
const ISSUES_DEFAULT: usize = 100;
/// Findings shown at most.
const ISSUES_MAX: usize = 10_000;
/// Files shown at most.
const FILES_MAX: usize = 1000;

/// One file.
#[derive(Serialize)]
struct FileReport {
    path: String,
    octets: u64,
    rows: usize,
    bad_rows: usize,
}

impl FileReport {
    fn new(file: &FileSummary) -> Self {
        let path = file.path.display().to_string();
        Self { path, octets: file.octets, rows: file.rows, bad_rows: file.bad_rows }
    }
}

/// One data set.
#[derive(Serialize)]
struct DataReport {
    generation: u64,
    digest: Option<String>,
    loaded_at: Option<String>,
    rows: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    by_status: Option<BTreeMap<&'static str, usize>>,
    files: Vec<FileReport>,
    issues_total: usize,
    issues: Vec<Issue>,
    /// Why the last reload was refused; empty when all is well.
    health: Vec<String>,
    /// The last reload, whatever it came to.
    last_reload: Option<LookedReport>,
    /// The last reload that published.
    last_change: Option<ChangedReport>,
}

/// One reload.
#[derive(Serialize)]
struct LookedReport {
    at: String,
    outcome: &'static str,
}

/// What a reload changed.
#[derive(Serialize)]
struct ChangedReport {
    at: String,
    elapsed_ms: u64,
    generation: u64,
    /// How much of each kind differs.
    counts: BTreeMap<&'static str, usize>,
    /// The first differences: `+` new, `-` gone, `~` otherwise.
    lines: Vec<String>,
}

impl DataReport {
    fn new(generation: u64, health: Vec<String>, reloads: Reloads) -> Self {
        Self {
            generation,
            digest: None,
            loaded_at: None,
            rows: 0,
            by_status: None,
            files: Vec::new(),
            issues_total: 0,
            issues: Vec::new(),
            health,
            last_reload: reloads.looked.map(|looked| LookedReport { at: rfc3339(looked.at), outcome: looked.outcome }),
            last_change: reloads.changed.map(|changed| ChangedReport {
                at: rfc3339(changed.at),
                elapsed_ms: u64::try_from(changed.elapsed.as_millis()).unwrap_or(u64::MAX),
                generation: changed.generation,
                counts: changed.counts.into_iter().collect(),
                lines: changed.lines,
            }),
        }
    }

    fn fill(&mut self, digest: u64, loaded_at: SystemTime, files: &[FileSummary], issues: &[Issue], issues_max: usize) {
        self.digest = Some(format!("{digest:016x}"));
        self.loaded_at = Some(rfc3339(loaded_at));
        self.rows = files.iter().map(|file| file.rows).sum();
        self.files = files.iter().take(FILES_MAX).map(FileReport::new).collect();
        self.issues_total = issues.len();
        self.issues = issues.iter().take(issues_max).cloned().collect();
    }
}

fn issues_max(pairs: Vec<(String, String)>) -> Result<usize, Problem> {
    Parameters::checked(pairs, &["issues"])?.count("issues", ISSUES_DEFAULT, ISSUES_MAX)
}

/// The registry in use.
pub async fn registry(
    State(desk): State<Arc<Desk>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let issues_max = issues_max(pairs)?;
    let health = &desk.source.health;
    let mut res =
        DataReport::new(health.view.load().registry.generation(), health.registry.health(), health.registry.reloads());
    if let Some(loaded) = health.registry.loaded() {
        res.fill(loaded.digest, loaded.loaded_at, &loaded.files, &loaded.issues, issues_max);
        res.rows = loaded.snapshot.len();
        let by_status = loaded.snapshot.rows_by_status();
        res.by_status = Some(by_status.iter().map(|&(status, count)| (status.label(), count)).collect());
    }
    Ok(json(StatusCode::OK, &res))
}

/// The ranges in use; `rows` counts rows of files.
pub async fn ranges(
    State(desk): State<Arc<Desk>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let issues_max = issues_max(pairs)?;
    let health = &desk.source.health;
    let mut res =
        DataReport::new(health.view.load().ranges.generation(), health.ranges.health(), health.ranges.reloads());
    if let Some(loaded) = health.ranges.loaded() {
        res.fill(loaded.digest, loaded.loaded_at, &loaded.files, &loaded.issues, issues_max);
    }
    Ok(json(StatusCode::OK, &res))
}
