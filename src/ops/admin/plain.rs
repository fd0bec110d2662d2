//! `GET /plain`: the state of the gate on one page, in Chinese and English, for browsers without scripts.

use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::http::header::{self, HeaderValue};
use axum::response::Response;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, context};

use super::Desk;
use super::answer::text;
use super::console::source_hash;
use crate::ops::recent::TopRow;
use crate::ops::status::Status;

/// The page's template; its name's ending turns on HTML escaping.
const TEMPLATE: &str = include_str!("plain.html");
/// Most blocked domains shown.
const TOP_ROWS: usize = 10;

/// Its policy: its own style and nothing else.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let style = TEMPLATE.split("<style>").nth(1).and_then(|rest| rest.split("</style>").next()).unwrap_or("");
    let policy = format!(
        "default-src 'none'; style-src {}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        source_hash(style)
    );
    HeaderValue::from_str(&policy).expect("the policy is visible ASCII")
});

/// The page.
pub async fn page(State(desk): State<Arc<Desk>>) -> Response {
    let mut res = text("text/html; charset=utf-8", render(&desk.source.status(), &desk.recent.top(TOP_ROWS)));
    res.headers_mut().insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    res
}

fn render(status: &Status, top: &[TopRow]) -> String {
    let mut environment = Environment::new();
    let rendered = environment.add_template("plain.html", TEMPLATE).and_then(|()| {
        let template = environment.get_template("plain.html")?;
        let (uptime, status, top) =
            (uptime(status.uptime_seconds), Value::from(Serde(status)), Value::from(Serde(top)));
        template.render(context! { status, top, uptime })
    });
    rendered.unwrap_or_else(|error| {
        tracing::error!(%error, "the status page cannot be rendered");
        "the status page cannot be rendered; see the log, or /v1/status\n".to_owned()
    })
}

/// A duration as people write it: `3 d 4 h`, `5 min 2 s`.
fn uptime(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!(uptime(5), "5 s");
        assert_eq!(uptime(302), "5 min 2 s");
        assert_eq!(uptime(3 * 3600 + 60), "3 h 1 min");
        assert_eq!(uptime(2 * 86_400 + 3600), "2 d 1 h");
    }
}
