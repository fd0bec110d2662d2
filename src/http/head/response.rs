//! Response heads of the origin: parsing, and writing the head that goes to the client.

use super::request::{Progress, Version, version, write_line};
use super::{ConnectionOptions, Field, HeadError, HeadLimits, Line, Scanner, Span, content_length, is_text, list};
use crate::http::body::Framing;

/// A response head; spans are into the octets it was parsed from.
#[derive(Debug, Default)]
pub struct ResponseHead {
    /// The version.
    pub version: Version,
    /// The status, 100 to 599.
    pub status: u16,
    /// The reason phrase; may be empty.
    pub reason: Span,
    /// The body as the head announces it; whether one follows depends on the request as well.
    pub framing: Framing,
    /// What `Connection` says.
    pub connection: ConnectionOptions,
    /// How many octets the head takes.
    pub octets: usize,
    lines: Vec<Line>,
}

/// How the response goes on to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// The connection ends after it.
    Close,
    /// It stays; HTTP/1.0 has to be told.
    KeepHttp10,
    /// It stays.
    KeepHttp11,
    /// It is another protocol from here on.
    Upgrade,
}

impl ResponseHead {
    /// True for 1xx but 101: another head follows.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// The framing of the body that follows the answer to a request (RFC 9112 section 6.3).
    pub fn body(&self, to_head: bool) -> Framing {
        if to_head || self.status < 200 || matches!(self.status, 204 | 304) { Framing::None } else { self.framing }
    }

    /// True when the origin will take another request on this connection after the body.
    pub fn keeps_alive(&self) -> bool {
        match self.version {
            Version::Http11 => !self.connection.close,
            Version::Http10 => self.connection.keep_alive && !self.connection.close,
        }
    }

    /// The values of one field, in order.
    pub fn values<'a>(&'a self, octets: &'a [u8], field: Field) -> impl Iterator<Item = &'a [u8]> {
        self.lines.iter().filter(move |line| line.field == field).map(move |line| line.value.of(octets))
    }

    /// Writes the head for the client: our own status line, framing and `Connection`, and every end-to-end field.
    ///
    /// `framing` is that of the body as it will be sent; for a response without a body, what its head announced.
    pub fn write(
        &self,
        octets: &[u8],
        framing: Framing,
        persistence: Persistence,
        hides_http3: bool,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend(decimal3(self.status));
        out.push(b' ');
        out.extend_from_slice(self.reason.of(octets));
        out.extend_from_slice(b"\r\n");
        let with_upgrade = persistence == Persistence::Upgrade;
        for line in &self.lines {
            if passes(line, octets, hides_http3) || (with_upgrade && line.field == Field::Upgrade) {
                write_line(line.name.of(octets), line.value.of(octets), out);
            }
        }
        framing.write(out);
        out.extend_from_slice(match persistence {
            Persistence::Close => b"Connection: close\r\n\r\n",
            Persistence::KeepHttp10 => b"Connection: keep-alive\r\n\r\n",
            Persistence::KeepHttp11 => b"\r\n",
            Persistence::Upgrade => b"Connection: upgrade\r\n\r\n",
        });
    }

    /// The end-to-end fields, names and values; without the length of the body.
    pub fn end_to_end<'a>(&'a self, octets: &'a [u8], hides_http3: bool) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let lines = self.lines.iter().filter(move |line| passes(line, octets, hides_http3));
        lines.map(move |line| (line.name.of(octets), line.value.of(octets)))
    }

    fn clear(&mut self) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        *self = Self { lines, ..Self::default() };
    }

    /// Reads `HTTP/1.1 200 OK` (RFC 9112 section 4); the space before an empty reason may be missing.
    fn read_status_line(&mut self, octets: &[u8], start: usize, end: usize) -> Result<(), HeadError> {
        let line = &octets[start..end];
        let (first, rest) = line.split_at_checked(8).ok_or(HeadError::StartLine)?;
        self.version = version(first)?;
        let [b' ', a @ b'1'..=b'5', b, c, rest @ ..] = rest else { return Err(HeadError::StartLine) };
        if !b.is_ascii_digit() || !c.is_ascii_digit() || !rest.iter().all(|&octet| is_text(octet)) {
            return Err(HeadError::StartLine);
        }
        let digit = |octet: u8| u16::from(octet - b'0');
        self.status = 100 * digit(*a) + 10 * digit(*b) + digit(*c);
        self.reason = match rest {
            [] => Span::new(end, end),
            [b' ', ..] => Span::new(end - rest.len() + 1, end),
            _ => return Err(HeadError::StartLine),
        };
        Ok(())
    }

    /// RFC 9112 section 6.3. Lengths that say the same are one; anything else of two minds is refused.
    fn read_framing(&self, octets: &[u8]) -> Result<Framing, HeadError> {
        let mut lengths = self.values(octets, Field::ContentLength).flat_map(super::list);
        let mut codings = self.values(octets, Field::TransferEncoding);
        match (lengths.next(), codings.next()) {
            (None, None) => Ok(Framing::UntilClose),
            (Some(_), Some(_)) => Err(HeadError::TwoFramings),
            (Some(value), None) => {
                let length = content_length(value)?;
                let is_one = lengths.all(|other| content_length(other) == Ok(length));
                if is_one { Ok(Framing::Length(length)) } else { Err(HeadError::BadContentLength) }
            }
            (None, Some(value)) if value.eq_ignore_ascii_case(b"chunked") && codings.next().is_none() => {
                Ok(Framing::Chunked)
            }
            (None, Some(_)) => Err(HeadError::BadTransferEncoding),
        }
    }

    /// Checks what only the whole head tells.
    fn finish(&mut self, octets: &[u8]) -> Result<(), HeadError> {
        self.framing = self.read_framing(octets)?;
        self.connection = ConnectionOptions::read(octets, &mut self.lines)?;
        Ok(())
    }
}

/// True for a field that goes on to the client.
fn passes(line: &Line, octets: &[u8], hides_http3: bool) -> bool {
    match line.field {
        Field::Connection | Field::ContentLength | Field::HopByHop | Field::TransferEncoding | Field::Upgrade => false,
        Field::AltSvc => !hides_http3 || !offers_http3(line.value.of(octets)),
        _ => true,
    }
}

/// True for an `Alt-Svc` that names HTTP/3, a draft of it included (RFC 7838 section 3).
fn offers_http3(value: &[u8]) -> bool {
    list(value).any(|member| member.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"h3")))
}

/// The three digits of a status.
pub fn decimal3(status: u16) -> [u8; 3] {
    let digit = |n: u16| b'0' + u8::try_from(n % 10).expect("a digit");
    [digit(status / 100), digit(status / 10), digit(status)]
}

//--- ResponseParser --------------------------------------------------------------------------------------------------

/// Reads response heads one after the other; keeps its storage between them.
#[derive(Debug)]
pub struct ResponseParser {
    limits: HeadLimits,
    scanner: Scanner,
    has_status_line: bool,
    head: ResponseHead,
}

impl ResponseParser {
    /// A parser that holds heads to `limits`.
    pub fn new(limits: HeadLimits) -> Self {
        let head = ResponseHead { lines: Vec::with_capacity(32), ..ResponseHead::default() };
        Self { limits, scanner: Scanner::default(), has_status_line: false, head }
    }

    /// Makes ready for the next head.
    pub fn reset(&mut self) {
        self.scanner = Scanner::default();
        self.has_status_line = false;
        self.head.clear();
    }

    /// The head, once [`ResponseParser::advance`] said it is whole.
    pub fn head(&self) -> &ResponseHead {
        &self.head
    }

    /// Goes on with `octets`: all octets of the head so far, the same start as before with more behind.
    pub fn advance(&mut self, octets: &[u8]) -> Result<Progress, HeadError> {
        loop {
            let Some((start, end)) = self.scanner.line(octets, self.limits.octets_max)? else {
                return Ok(Progress::Partial);
            };
            if !self.has_status_line {
                self.has_status_line = true;
                self.head.read_status_line(octets, start, end)?;
            } else if start == end {
                self.head.octets = self.scanner.at;
                self.head.finish(octets)?;
                return Ok(Progress::Whole);
            } else if self.head.lines.len() == self.limits.lines_max {
                return Err(HeadError::TooManyLines);
            } else {
                let line = Line::read(octets, start, end)?;
                self.head.lines.push(line);
            }
        }
    }
}
