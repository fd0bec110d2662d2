//! Who may ask: the token or a client's certificate where they are set; and nobody that a browser was made to speak for.
//!
//! In order: the host must be one of ours where a browser asks or neither is set (DNS rebinding), a browser must ask for
//! a page of ours (other sites' pages may lead to `/`, and no further), and where a token is set it must be right, unless a
//! certificate that counts was shown (`tls`). Wrong ones are counted by client. There is no answer to a CORS preflight.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Desk;
use super::answer::{Problem, finish};

/// Paths open to all: probes carry no token, and the answers tell nothing of clients.
const OPEN_PATHS: [&str; 2] = ["/healthz", "/readyz"];
/// The console's page: it says nothing of the gate and asks for the token itself.
const CONSOLE_PATH: &str = "/";

/// Where a connection comes from; a request carries it as an extension.
#[derive(Clone, Copy, Debug)]
pub enum Client {
    /// This address, with a certificate that the roots of `admin.tls.client-ca` vouch for: nothing more is asked.
    Certified(IpAddr),
    /// The Unix socket, which only our user and root may open: nothing more is asked.
    Local,
    /// This address.
    Remote(IpAddr),
}

/// Lets a request through, or answers why not; counts the response.
pub async fn guard(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    let response = match check(&desk, &request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    desk.counters.response(response.status().as_u16());
    finish(response)
}

fn check(desk: &Desk, request: &Request) -> Result<(), Problem> {
    let (path, headers) = (request.uri().path(), request.headers());
    let client = request.extensions().get::<Client>();
    if OPEN_PATHS.contains(&path) || matches!(client, Some(Client::Local)) {
        return Ok(());
    }
    let is_console = path == CONSOLE_PATH;
    let asked = Asked::read(headers);
    // Without either, an address others reach would be none: who comes is on this machine.
    let is_open = desk.token.is_none() && !desk.asks_for_certificates;
    if (is_open || asked.is_browser() || is_console) && !is_own_host(asked.host, &desk.names) {
        let message =
            format!("host {:?} is not served; expected an IP address, localhost, or a name of admin.names", asked.host);
        return Err(Problem::new(StatusCode::FORBIDDEN, message));
    }
    asked.check(request.method(), is_console)?;
    match &desk.token {
        _ if is_console || matches!(client, Some(Client::Certified(_))) => Ok(()),
        Some(token) => check_token(desk, token, request),
        None if desk.asks_for_certificates => {
            let message = "expected a client certificate that admin.tls.client-ca vouches for";
            Err(Problem::new(StatusCode::UNAUTHORIZED, message))
        }
        None => Ok(()),
    }
}

fn check_token(desk: &Desk, token: &str, request: &Request) -> Result<(), Problem> {
    let refusal = |message| Err(Problem::new(StatusCode::UNAUTHORIZED, message));
    let given = request.headers().get(header::AUTHORIZATION);
    let Some(given) = given.and_then(|value| value.to_str().ok()).and_then(bearer).filter(|given| !given.is_empty())
    else {
        return refusal("expected \"authorization: Bearer\" with the token of admin.token-file");
    };
    let is_right = || same_secret(given.as_bytes(), token.as_bytes());
    // The listener tells where every connection comes from.
    let client = match request.extensions().get::<Client>() {
        Some(Client::Certified(addr) | Client::Remote(addr)) => *addr,
        Some(Client::Local) | None => IpAddr::from([0, 0, 0, 0]),
    };
    match desk.attempts.attempt(client, Instant::now(), is_right) {
        Ok(true) => Ok(()),
        Ok(false) => refusal("not the token of admin.token-file"),
        Err(wait) => {
            let seconds = wait.as_secs() + 1;
            let message = format!("too many wrong tokens from this client; expected a pause of {seconds} s");
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, message);
            Err(Problem { retry_after_seconds: Some(seconds), ..problem })
        }
    }
}

/// The token of a bearer header; the scheme's case does not matter (RFC 9110 section 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Compares in a time that depends on the lengths only.
fn same_secret(a: &[u8], b: &[u8]) -> bool {
    verify_slices_are_equal(a, b).is_ok()
}

//--- Browsers --------------------------------------------------------------------------------------------------------

/// What a request says of who makes it.
struct Asked<'a> {
    host: &'a str,
    origin: Option<&'a str>,
    /// `Sec-Fetch-Site`: whose page asks. Browsers set it, and no page can.
    site: Option<&'a str>,
    /// `Sec-Fetch-Mode`: what for.
    mode: Option<&'a str>,
}

impl<'a> Asked<'a> {
    fn read(headers: &'a HeaderMap) -> Self {
        let value = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        Self {
            host: value("host").unwrap_or(""),
            origin: value("origin"),
            site: value("sec-fetch-site"),
            mode: value("sec-fetch-mode"),
        }
    }

    fn is_browser(&self) -> bool {
        self.origin.is_some() || self.site.is_some()
    }

    /// Turns away what a page of another site asks for; following a link to the console is all it may.
    fn check(&self, method: &Method, is_console: bool) -> Result<(), Problem> {
        let reads = method == Method::GET || method == Method::HEAD;
        let is_own_origin = self.origin.is_none_or(|origin| {
            let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            host.is_some_and(|host| host.eq_ignore_ascii_case(self.host))
        });
        let is_own_site = match self.site {
            None | Some("same-origin") => true,
            // An address that somebody typed; what changes anything is never asked for so.
            Some("none") => reads,
            Some(_) => reads && is_console && self.mode == Some("navigate"),
        };
        if is_own_origin && is_own_site {
            return Ok(());
        }
        let message = if reads {
            "a page of another site may not read here"
        } else {
            "changes cannot be asked for by a page of another site"
        };
        Err(Problem::new(StatusCode::FORBIDDEN, message))
    }
}

/// True for an address, `localhost` or one of `names`, with or without a port; and for no host at all (HTTP/1.0 scripts).
///
/// A name of someone else's that resolves to our address (DNS rebinding) arrives with that name.
fn is_own_host(host: &str, names: &[String]) -> bool {
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) && (!name.contains(':') || name.ends_with(']')) => name,
        _ => host,
    };
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let is_known = |known: &String| known.eq_ignore_ascii_case(name);
    name.is_empty()
        || name.eq_ignore_ascii_case("localhost")
        || inner.parse::<IpAddr>().is_ok()
        || names.iter().any(is_known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_localhost_and_configured_names_are_ours() {
        let names = ["gate.example".to_owned()];
        for host in [
            "gate.example:9153",
            "GATE.example",
            "127.0.0.1:9153",
            "127.0.0.1",
            "[::1]:9153",
            "[::1]",
            "localhost:1",
            "LOCALHOST",
            "",
        ] {
            assert!(is_own_host(host, &names), "{host}");
        }
        for host in [
            "evil.example",
            "a.gate.example",
            "evil.example:9153",
            "127.0.0.1.evil.example",
            "localhost.evil.example:80",
            ":",
        ] {
            assert!(!is_own_host(host, &names), "{host}");
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

    #[test]
    fn pages_of_other_sites_may_lead_to_the_console_only() {
        let check = |headers: &[(&'static str, &'static str)], method: Method, is_console: bool| {
            let mut map = HeaderMap::new();
            map.insert("host", "127.0.0.1:9153".parse().expect("a value"));
            for (name, value) in headers {
                map.insert(*name, value.parse().expect("a value"));
            }
            Asked::read(&map).check(&method, is_console).is_ok()
        };
        assert!(check(&[], Method::POST, false), "a script");
        assert!(check(&[("origin", "http://127.0.0.1:9153"), ("sec-fetch-site", "same-origin")], Method::POST, false));
        assert!(check(&[("origin", "https://127.0.0.1:9153")], Method::POST, false), "behind a proxy with TLS");
        assert!(check(&[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")], Method::GET, false));
        assert!(!check(&[("sec-fetch-site", "none")], Method::POST, false));
        assert!(check(&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], Method::GET, true));
        assert!(!check(&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], Method::GET, false));
        assert!(!check(&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")], Method::GET, true));
        assert!(!check(&[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "cors")], Method::GET, false));
        assert!(!check(&[("origin", "null")], Method::GET, false));
        assert!(!check(&[("origin", "http://127.0.0.1:3000")], Method::GET, false), "another port of this host");
    }
}
