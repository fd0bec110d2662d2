//! The log: state changes on standard error, as text or JSON; `RUST_LOG` says how much.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::EnvFilter;

use super::load_line::Stderr;
use super::settings::LogFormat;

/// What is logged unless `RUST_LOG` says otherwise: hickory writes a line per query at `info`.
pub const DEFAULT_FILTER: &str =
    "info,hickory_net=warn,hickory_proto=warn,hickory_resolver=warn,hickory_server=warn,h2=warn,rustls=warn";

/// True once the log was started as JSON: then standard error is for programs.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// True where standard error is a log for programs.
pub fn is_json() -> bool {
    IS_JSON.load(Ordering::Relaxed)
}

/// Starts logging. A second call changes nothing, so that commands and tests may each make theirs.
///
/// A `RUST_LOG` that cannot be read is reported on the log itself, which then has the default filter.
pub fn start(format: LogFormat) {
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|text| !text.trim().is_empty());
    let parsed = asked.as_deref().map(|text| EnvFilter::builder().parse(text));
    let (filter, problem) = match parsed {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(DEFAULT_FILTER), Some(error)),
        None => (EnvFilter::new(DEFAULT_FILTER), None),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Stderr);
    IS_JSON.store(format == LogFormat::Json, Ordering::Relaxed);
    let begun = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
    };
    if begun.is_ok()
        && let Some(error) = problem
    {
        tracing::warn!(%error, "RUST_LOG cannot be read, the default filter is used");
    }
}
