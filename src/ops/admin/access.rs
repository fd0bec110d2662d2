//! Who may ask: the token where one is set; without one, nobody that a browser was made to speak for.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Desk;
use super::answer::Problem;

/// Paths open to all: probes carry no token, and the answers tell nothing of clients.
const OPEN_PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// Lets a request through, or answers why not; counts the response.
pub async fn guard(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    let is_open = OPEN_PATHS.contains(&request.uri().path());
    let allowed = if is_open { Ok(()) } else { check(&desk, request.method(), request.headers()) };
    let response = match allowed {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    desk.counters.response(response.status().as_u16());
    response
}

fn check(desk: &Desk, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(token) = &desk.token else { return check_browser(method, headers) };
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
    if given.is_some_and(|given| same_secret(given.as_bytes(), token.as_bytes())) {
        return Ok(());
    }
    let message = "expected \"authorization: Bearer\" with the token of admin.token-file";
    Err(Problem::new(StatusCode::UNAUTHORIZED, message))
}

/// The token of a bearer header; the scheme's case does not matter (RFC 9110 section 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Compares in a time that depends on the lengths only.
fn same_secret(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |sum, (x, y)| std::hint::black_box(sum | (x ^ y)));
    a.len() == b.len() && differences == 0
}

/// Without a token a loopback address is the protection, and a browser on this host is the way around it.
fn check_browser(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let value = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = value(header::HOST).unwrap_or("");
    // A name of someone else's that resolves to 127.0.0.1 (DNS rebinding) arrives with that name.
    if !is_local_host(host) {
        let message = format!("host {host:?} is not served without a token; expected an IP address or localhost");
        return Err(Problem::new(StatusCode::FORBIDDEN, message));
    }
    let is_foreign = value(header::ORIGIN).is_some_and(|origin| origin.strip_prefix("http://") != Some(host));
    if method != Method::GET && method != Method::HEAD && is_foreign {
        return Err(Problem::new(StatusCode::FORBIDDEN, "changes cannot be asked for by a page of another site"));
    }
    Ok(())
}

/// True for an address or `localhost`, with or without a port; and for no host at all (HTTP/1.0 scripts).
fn is_local_host(host: &str) -> bool {
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) && (!name.contains(':') || name.ends_with(']')) => name,
        _ => host,
    };
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.is_empty() || name.eq_ignore_ascii_case("localhost") || inner.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_local() {
        for host in ["127.0.0.1:9153", "127.0.0.1", "[::1]:9153", "[::1]", "localhost:1", "LOCALHOST", ""] {
            assert!(is_local_host(host), "{host}");
        }
        for host in ["evil.example", "evil.example:9153", "127.0.0.1.evil.example", "localhost.evil.example:80", ":"] {
            assert!(!is_local_host(host), "{host}");
        }
    }

    #[test]
    fn secrets_are_compared_whole() {
        assert!(same_secret(b"abc", b"abc"));
        assert!(!same_secret(b"abc", b"abd"));
        assert!(!same_secret(b"ab", b"abc"));
        assert!(!same_secret(b"", b"abc"));
        assert_eq!(bearer("bearer  x"), Some("x"));
        assert_eq!(bearer("Basic x"), None);
    }
}
