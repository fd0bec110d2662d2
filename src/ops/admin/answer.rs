//! The forms answers take: JSON, text, HTML, and errors that name what was wrong and what would be right.

use axum::Json;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Header values of every answer: nothing here may be kept, framed, sniffed, run, or read by another site.
const COMMON: [(HeaderName, &str); 7] = [
    (header::CACHE_CONTROL, "no-store"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

/// An answer in JSON.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response {
    finish((status, Json(body)).into_response())
}

/// An answer in text of this type.
pub fn text(content_type: &'static str, body: String) -> Response {
    finish(([(header::CONTENT_TYPE, content_type)], body).into_response())
}

/// Adds the headers every answer has.
pub fn finish(mut response: Response) -> Response {
    let headers: &mut HeaderMap = response.headers_mut();
    for (name, value) in COMMON {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// A request that cannot be answered.
#[derive(Debug, Serialize)]
pub struct Problem {
    /// The status.
    #[serde(skip)]
    pub status: StatusCode,
    /// What is wrong and what would be right.
    pub error: String,
    /// The query parameter at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// Seconds after which the request may be made again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
}

impl Problem {
    /// A problem with the request as a whole.
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), parameter: None, retry_after_seconds: None }
    }

    /// A problem with one query parameter.
    pub fn parameter(name: &str, error: impl Into<String>) -> Self {
        Self { parameter: Some(name.to_owned()), ..Self::new(StatusCode::BAD_REQUEST, error) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut res = json(self.status, &self);
        if let Some(seconds) = self.retry_after_seconds {
            res.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            res.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"icpgate\""));
        }
        res
    }
}

/// Query parameters in order, each known and as often as it may be.
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Takes the parameters; each name must be among `known`.
    pub fn checked(pairs: Vec<(String, String)>, known: &[&str]) -> Result<Self, Problem> {
        for (name, _) in &pairs {
            if !known.contains(&name.as_str()) {
                let expected = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Problem::parameter(name, format!("unknown parameter; available: {expected}")));
            }
        }
        Ok(Self(pairs))
    }

    /// The values of a repeatable parameter, at most `count_max`.
    pub fn all(&self, name: &str, count_max: usize) -> Result<Vec<&str>, Problem> {
        let res: Vec<&str> = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect();
        if res.len() > count_max {
            return Err(Problem::parameter(name, format!("given {} times; expected at most {count_max}", res.len())));
        }
        Ok(res)
    }

    /// The value of a parameter that may be given once.
    pub fn one(&self, name: &str) -> Result<Option<&str>, Problem> {
        Ok(self.all(name, 1)?.first().copied())
    }

    /// A number up to `max`, or `default`.
    pub fn count(&self, name: &str, default: usize, max: usize) -> Result<usize, Problem> {
        let Some(text) = self.one(name)? else { return Ok(default) };
        text.parse().ok().filter(|&n| n <= max).ok_or_else(|| {
            Problem::parameter(name, format!("{text:?} is out of range; expected a number from 0 to {max}"))
        })
    }

    /// A switch: absent, `0`, `false`; or `1`, `true`, empty.
    pub fn switch(&self, name: &str) -> Result<bool, Problem> {
        match self.one(name)? {
            None | Some("0" | "false") => Ok(false),
            Some("1" | "true" | "") => Ok(true),
            Some(text) => Err(Problem::parameter(name, format!("{text:?} is no switch; expected 1 or 0"))),
        }
    }
}
