//! Answers of our own: their heads, and the short ones whole.

use std::time::SystemTime;

use time::OffsetDateTime;

use super::body::push_decimal;
use super::head::response::{Persistence, decimal3};

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
    /// Further field lines, each with its CRLF.
    pub lines: &'a [u8],
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
        push_date(self.now, out);
        out.extend_from_slice(b"\r\nContent-Type: ");
        out.extend_from_slice(self.content_type.as_bytes());
        out.extend_from_slice(b"\r\nContent-Length: ");
        push_decimal(self.content_length as u64, out);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.lines);
        out.extend_from_slice(match self.persistence {
            Persistence::Close | Persistence::Upgrade => b"Connection: close\r\n\r\n",
            Persistence::KeepHttp10 => b"Connection: keep-alive\r\n\r\n",
            Persistence::KeepHttp11 => b"\r\n",
        });
    }
}

/// Writes an IMF-fixdate (RFC 9110 section 5.6.7).
fn push_date(now: SystemTime, out: &mut Vec<u8>) {
    const DAYS: [&[u8]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];
    const MONTHS: [&[u8]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    let now = OffsetDateTime::from(now);
    let two = |n: u8| [b'0' + n / 10 % 10, b'0' + n % 10];
    out.extend_from_slice(DAYS[usize::from(now.weekday().number_days_from_monday())]);
    out.extend_from_slice(b", ");
    out.extend(two(now.day()));
    out.push(b' ');
    out.extend_from_slice(MONTHS[usize::from(u8::from(now.month())) - 1]);
    out.push(b' ');
    push_decimal(u64::try_from(now.year()).unwrap_or_default(), out);
    for (before, n) in [(b' ', now.hour()), (b':', now.minute()), (b':', now.second())] {
        out.push(before);
        out.extend(two(n));
    }
    out.extend_from_slice(b" GMT");
}

/// A short answer in plain text: why in one line, for whoever reads it in a terminal or a log.
#[derive(Clone, Copy, Debug)]
pub struct Short<'a> {
    /// Status.
    pub status: u16,
    /// Time of day, for `Date`.
    pub now: SystemTime,
    /// Why, in one line.
    pub why: &'a str,
    /// What becomes of the connection.
    pub persistence: Persistence,
    /// True where only the head is sent: the answer to HEAD.
    pub head_only: bool,
}

impl Short<'_> {
    /// Writes the answer.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(128);
        body.extend(decimal3(self.status));
        for part in [" ", phrase(self.status), "\n", self.why, "\n"] {
            body.extend_from_slice(part.as_bytes());
        }
        let lines: &[u8] = match self.status {
            // RFC 9110 section 10.2.1: what the target allows; CONNECT is not among it.
            405 => b"Cache-Control: no-store\r\nAllow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n",
            502..=504 => b"Cache-Control: no-store\r\nRetry-After: 5\r\n",
            _ => b"Cache-Control: no-store\r\n",
        };
        ReplyHead {
            status: self.status,
            now: self.now,
            content_type: "text/plain; charset=utf-8",
            content_length: body.len(),
            lines,
            persistence: self.persistence,
        }
        .write(out);
        if !self.head_only {
            out.extend_from_slice(&body);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_have_the_fixed_form() {
        let mut out = Vec::new();
        push_date(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777), &mut out);
        assert_eq!(out, b"Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
