//! Answers of our own: their heads, and the short ones whole.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::body::push_decimal;
use super::dates::imf_fixdate;
use super::head::request::write_line;
use super::head::response::{Persistence, decimal3};
use super::page::{Fill, Rendered};

/// A field of an answer: its name and its value.
pub type AnswerField = (&'static str, Cow<'static, str>);

/// The standard phrase of a status we send.
pub fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        302 => "Found",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        508 => "Loop Detected",
        451 => "Unavailable For Legal Reasons",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

/// The head of an answer of ours.
#[derive(Clone, Copy, Debug)]
pub struct ReplyHead<'a> {
    /// Status.
    pub status: u16,
    /// Time of day, for `Date`.
    pub now: SystemTime,
    /// Media type of the body.
    pub content_type: &'a str,
    /// Length of the body.
    pub content_length: usize,
    /// Further fields.
    pub fields: &'a [AnswerField],
    /// What becomes of the connection.
    pub persistence: Persistence,
}

impl ReplyHead<'_> {
    /// Writes the head.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend(decimal3(self.status));
        out.push(b' ');
        out.extend_from_slice(phrase(self.status).as_bytes());
        out.extend_from_slice(b"\r\nDate: ");
        out.extend_from_slice(&imf_fixdate(self.now));
        out.extend_from_slice(b"\r\nContent-Type: ");
        out.extend_from_slice(self.content_type.as_bytes());
        out.extend_from_slice(b"\r\nContent-Length: ");
        push_decimal(self.content_length as u64, out);
        out.extend_from_slice(b"\r\n");
        for (name, value) in self.fields {
            write_line(name.as_bytes(), value.as_bytes(), out);
        }
        out.extend_from_slice(match self.persistence {
            Persistence::Close | Persistence::Upgrade => b"Connection: close\r\n\r\n",
            Persistence::KeepHttp10 => b"Connection: keep-alive\r\n\r\n",
            Persistence::KeepHttp11 => b"\r\n",
        });
    }
}

//--- Answer ----------------------------------------------------------------------------------------------------------

/// A whole answer of ours, before it takes the form of one version of HTTP.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Time of day, for `Date`.
    pub now: SystemTime,
    /// Media type of the body.
    pub content_type: &'static str,
    /// Further fields.
    pub fields: Vec<AnswerField>,
    /// The body.
    pub body: Body,
}

/// The body of an answer of ours.
#[derive(Clone, Debug)]
pub enum Body {
    /// None.
    Empty,
    /// A page with what fills its slots.
    Page(Arc<Rendered>, Fill),
    /// A few words.
    Text(Vec<u8>),
}

impl Body {
    /// How many octets.
    pub fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Page(page, fill) => page.len(fill),
            Self::Text(text) => text.len(),
        }
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes it.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Empty => {}
            Self::Page(page, fill) => page.write(fill, out),
            Self::Text(text) => out.extend_from_slice(text),
        }
    }
}

impl Answer {
    /// A short answer in plain text: why in one line, for whoever reads it in a terminal or a log.
    pub fn short(status: u16, now: SystemTime, why: &str) -> Self {
        let mut body = Vec::with_capacity(128);
        body.extend(decimal3(status));
        for part in [" ", phrase(status), "\n", why, "\n"] {
            body.extend_from_slice(part.as_bytes());
        }
        let mut fields = vec![("Cache-Control", Cow::Borrowed("no-store"))];
        match status {
            // RFC 9110 section 10.2.1: what the target allows; CONNECT is not among it.
            405 => fields.push(("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS".into())),
            502..=504 => fields.push(("Retry-After", "5".into())),
            _ => {}
        }
        Self { status, now, content_type: "text/plain; charset=utf-8", fields, body: Body::Text(body) }
    }

    /// Writes it as HTTP/1, without its body where the request was HEAD.
    pub fn write(&self, persistence: Persistence, head_only: bool, out: &mut Vec<u8>) {
        ReplyHead {
            status: self.status,
            now: self.now,
            content_type: self.content_type,
            content_length: self.body.len(),
            fields: &self.fields,
            persistence,
        }
        .write(out);
        if !head_only {
            self.body.write(out);
        }
    }

    /// Its head for HTTP/2, with the length of the body.
    pub fn head(&self) -> Response<()> {
        let mut res = self.bare_head(self.status, self.content_type);
        res.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        res
    }

    /// The refusal of a gRPC call: a head alone that says PERMISSION_DENIED (gRPC over HTTP/2, "Trailers-Only").
    pub fn grpc_refusal(&self) -> Response<()> {
        let mut res = self.bare_head(200, "application/grpc");
        let why = self.fields.iter().find(|(name, _)| *name == "X-ICP-Gate").map_or("", |(_, value)| value);
        let message = format!("blocked by the filing gate: {why}").replace('%', "%25");
        res.headers_mut().insert("grpc-status", HeaderValue::from_static("7"));
        if let Ok(message) = HeaderValue::try_from(message) {
            res.headers_mut().insert("grpc-message", message);
        }
        res
    }

    fn bare_head(&self, status: u16, content_type: &'static str) -> Response<()> {
        let mut res = Response::new(());
        *res.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = res.headers_mut();
        if let Ok(date) = HeaderValue::from_bytes(&imf_fixdate(self.now)) {
            headers.insert(header::DATE, date);
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        for (name, value) in &self.fields {
            // Names are ours; a value that cannot be sent is left out, as it would be in HTTP/1 by its own checks.
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(*name), HeaderValue::from_str(value)) {
                headers.append(name, value);
            }
        }
        res
    }
}
