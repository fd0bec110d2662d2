//! The request of a stream: held to what HTTP/1 is held to, and written for an origin that speaks HTTP/1.1.
//!
//! The library has refused pseudo-fields out of place or twice, fields of a connection, upper case and control octets
//! (RFC 9113 sections 8.2 and 8.3); here is what else would let two readers disagree on host, target or body.

use http::header::{COOKIE, HeaderMap, HeaderName};
use http::request::Parts;

use crate::http::body::Framing;
use crate::http::head::request::write_line;
use crate::http::head::{Field, HeadError, HeadLimits, Hop, Method, content_length};
use crate::http::host::{self, HostName};

/// What a field takes beside name and value when written.
const LINE_OVERHEAD: usize = 4;

/// A request that was understood.
#[derive(Debug)]
pub struct StreamHead<'a> {
    /// The message.
    pub parts: &'a Parts,
    /// The method, classified.
    pub method: Method,
    /// The target.
    pub path: &'a str,
    /// The host with its port as written.
    pub host_text: &'a str,
    /// The same without the port.
    pub shown: &'a str,
    /// What it names.
    pub host: HostName,
    /// The body that follows.
    pub framing: Framing,
}

impl<'a> StreamHead<'a> {
    /// Reads a message; `is_whole` when no body follows.
    pub fn read(parts: &'a Parts, is_whole: bool, limits: HeadLimits, via: &str) -> Result<Self, HeadError> {
        check_size(parts, limits)?;
        let method = Method::of(parts.method.as_str().as_bytes());
        if method == Method::Connect {
            return Err(HeadError::Connect);
        }
        let path = read_path(parts, method)?;
        let host_text = read_host(parts)?;
        let shown = host::split(host_text.as_bytes()).map_err(|_| HeadError::BadHost)?.of(host_text.as_bytes());
        let host = HostName::read(shown).map_err(|_| HeadError::BadHost)?;
        let framing = read_framing(parts, is_whole)?;
        let res = Self { parts, method, path, host_text, shown, host, framing };
        let via = via.as_bytes();
        if res.values(Field::Via).any(|value| value.windows(via.len()).any(|part| part == via)) {
            return Err(HeadError::Loop);
        }
        Ok(res)
    }

    /// The values of one field, in order.
    pub fn values(&self, field: Field) -> impl Iterator<Item = &'a [u8]> {
        let headers = &self.parts.headers;
        headers.iter().filter(move |(name, _)| field_of(name) == field).map(|(_, value)| value.as_bytes())
    }

    /// Writes the head for the origin, as [`RequestHead::write`](crate::http::head::RequestHead::write) does.
    pub fn write(&self, hop: &Hop<'_>, out: &mut Vec<u8>) {
        for part in [self.parts.method.as_str(), " ", self.path, " HTTP/1.1\r\nHost: ", self.host_text, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        let headers = &self.parts.headers;
        for (name, value) in headers.iter().filter(|(name, _)| *name != COOKIE && field_of(name).goes_on(hop)) {
            write_line(name.as_str().as_bytes(), value.as_bytes().trim_ascii(), out);
        }
        write_cookies(headers, out);
        self.framing.write(out);
        hop.write(self.values(Field::XForwardedFor), "2.0", out);
    }
}

fn field_of(name: &HeaderName) -> Field {
    Field::of(name.as_str().as_bytes())
}

/// The limits of HTTP/1 on what would be its octets and lines.
fn check_size(parts: &Parts, limits: HeadLimits) -> Result<(), HeadError> {
    if parts.headers.len() > limits.lines_max {
        return Err(HeadError::TooManyLines);
    }
    let uri = &parts.uri;
    let target = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let host = uri.authority().map_or(0, |authority| authority.as_str().len());
    let line = |(name, value): (&HeaderName, &http::HeaderValue)| name.as_str().len() + value.len() + LINE_OVERHEAD;
    let fields: usize = parts.headers.iter().map(line).sum();
    let octets = parts.method.as_str().len() + target + host + fields;
    if octets > limits.octets_max { Err(HeadError::TooLarge) } else { Ok(()) }
}

/// `:path`: a path, or `*` of OPTIONS (RFC 9113 section 8.3.1), and nothing that HTTP/1 would not carry.
fn read_path(parts: &Parts, method: Method) -> Result<&str, HeadError> {
    if !parts.uri.scheme_str().is_none_or(|scheme| matches!(scheme, "http" | "https")) {
        return Err(HeadError::BadTarget);
    }
    let path = parts.uri.path_and_query().ok_or(HeadError::BadTarget)?.as_str();
    let is_path = path.starts_with('/') || (path == "*" && method == Method::Options);
    if is_path && path.bytes().all(|octet| octet.is_ascii_graphic()) { Ok(path) } else { Err(HeadError::BadTarget) }
}

/// RFC 9113 section 8.3.1: `:authority`, or `host` where a message of HTTP/1 was translated; where both are, they must
/// agree (D-H17).
fn read_host(parts: &Parts) -> Result<&str, HeadError> {
    let mut hosts = parts.headers.iter().filter(|(name, _)| field_of(name) == Field::Host).map(|(_, value)| value);
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(HeadError::DuplicateHost),
        (Some(host), None) => Some(host.to_str().map_err(|_| HeadError::BadHost)?),
        (None, None) => None,
    };
    let authority = parts.uri.authority().map(|authority| authority.as_str());
    match (authority, host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => Err(HeadError::AuthorityMismatch),
        (Some(only), _) | (None, Some(only)) => Ok(only),
        (None, None) => Err(HeadError::MissingHost),
    }
}

/// The end of the stream ends the body; a length that is given must be one (RFC 9113 section 8.1.1).
fn read_framing(parts: &Parts, is_whole: bool) -> Result<Framing, HeadError> {
    let headers = || parts.headers.iter().map(|(name, value)| (field_of(name), value));
    // The library refuses them; one that got through would frame the message anew.
    if headers().any(|(field, _)| matches!(field, Field::TransferEncoding | Field::Upgrade | Field::Connection)) {
        return Err(HeadError::BadConnection);
    }
    let mut lengths = headers().filter(|(field, _)| *field == Field::ContentLength);
    let length = match (lengths.next(), lengths.next()) {
        (_, Some(_)) => return Err(HeadError::BadContentLength),
        (Some((_, value)), None) => Some(content_length(value.as_bytes())?),
        (None, None) => None,
    };
    // RFC 9110 section 8.6: a request whose method has a meaning for a body says that there is none.
    let has_meaning = matches!(parts.method.as_str(), "POST" | "PUT" | "PATCH");
    match (length, is_whole) {
        (Some(length @ 1..), true) => {
            tracing::debug!(length, "a stream ends before its body");
            Err(HeadError::BadContentLength)
        }
        (Some(length), _) => Ok(Framing::Length(length)),
        (None, true) if has_meaning => Ok(Framing::Length(0)),
        (None, true) => Ok(Framing::None),
        (None, false) => Ok(Framing::Chunked),
    }
}

/// RFC 9113 section 8.2.3: the pieces of a cookie are one again before they leave HTTP/2.
fn write_cookies(headers: &HeaderMap, out: &mut Vec<u8>) {
    let mut pieces = headers.get_all(COOKIE).iter().map(|value| value.as_bytes().trim_ascii());
    let Some(first) = pieces.next() else { return };
    out.extend_from_slice(b"cookie: ");
    out.extend_from_slice(first);
    for piece in pieces {
        out.extend_from_slice(b"; ");
        out.extend_from_slice(piece);
    }
    out.extend_from_slice(b"\r\n");
}
