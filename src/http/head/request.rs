//! Request heads: parsing, and writing the head that goes to the origin.

use super::{
    CONNECTION_OPTIONS_MAX, ConnectionOptions, EMPTY_LINES_MAX, Field, HeadError, HeadLimits, Line, Scanner, Span,
    content_length, is_token, list,
};
use crate::http::body::Framing;
use crate::http::host::{self, HostText};

/// The methods that this hop treats apart; the verdict treats none apart (D-H29).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// CONNECT, refused.
    Connect,
    /// Safe or idempotent, may be sent again (RFC 9110 section 9.2.2).
    Idempotent,
    /// GET.
    #[default]
    Get,
    /// HEAD.
    Head,
    /// OPTIONS, which may ask for `*`.
    Options,
    /// Any other.
    Other,
}

impl Method {
    /// Tells a method by its name, which is case-sensitive.
    pub fn of(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"OPTIONS" => Self::Options,
            b"CONNECT" => Self::Connect,
            b"TRACE" | b"PUT" | b"DELETE" => Self::Idempotent,
            _ => Self::Other,
        }
    }

    /// True where sending the request twice is as good as once.
    pub fn is_idempotent(self) -> bool {
        !matches!(self, Self::Connect | Self::Other)
    }
}

/// The versions that are spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: no chunks, no interim answers, closes unless asked not to.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
}

/// Reads `HTTP/x.y`; a well-formed other version is [`HeadError::Version`].
pub(super) fn version(text: &[u8]) -> Result<Version, HeadError> {
    match text {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(HeadError::Version)
        }
        _ => Err(HeadError::StartLine),
    }
}

/// Whether a head is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More octets are needed.
    Partial,
    /// All of it is there.
    Whole,
}

/// What this hop adds to a head on its way to the origin.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// The client's address, for `X-Forwarded-For`.
    pub client: &'a str,
    /// Our name in `Via`.
    pub via: &'a str,
    /// True for a peer that may say which host it was asked for.
    pub is_listed: bool,
    /// True where TLS ends here.
    pub is_secure: bool,
}

impl Hop<'_> {
    /// Writes the fields by which this hop speaks for itself, and the end of the head.
    ///
    /// `received` is the version the request came by.
    pub fn write<'v>(&self, forwarded_for: impl Iterator<Item = &'v [u8]>, received: &str, out: &mut Vec<u8>) {
        if self.is_secure {
            out.extend_from_slice(b"X-Forwarded-Proto: https\r\n");
        }
        out.extend_from_slice(b"X-Forwarded-For: ");
        for value in forwarded_for.filter(|value| !value.is_empty()) {
            out.extend_from_slice(value);
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(self.client.as_bytes());
        // "An HTTP-to-HTTP gateway MUST send an appropriate Via header field in each inbound request" (RFC 9110 section
        // 7.6.3).
        for part in ["\r\nVia: ", received, " ", self.via, "\r\n\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
}

/// A request head; spans are into the octets it was parsed from.
#[derive(Debug, Default)]
pub struct RequestHead {
    /// The method, classified.
    pub method: Method,
    /// The method as written.
    pub method_text: Span,
    /// The target in origin form, or `*`; empty for an absolute form without a path.
    pub target: Span,
    /// The version.
    pub version: Version,
    /// The host with its port as written, from `Host` or, in HTTP/1.0 without it, from the target; `None`: neither.
    pub host: Option<Span>,
    /// The host inside it, without the port, already checked for form.
    pub host_text: HostText,
    /// The body that follows.
    pub framing: Framing,
    /// What `Connection` says.
    pub connection: ConnectionOptions,
    /// How many octets the head takes, empty lines before it included.
    pub octets: usize,
    lines: Vec<Line>,
    authority: Option<Span>,
}

impl RequestHead {
    /// The field lines.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The values of one field, in order.
    pub fn values<'a>(&'a self, octets: &'a [u8], field: Field) -> impl Iterator<Item = &'a [u8]> {
        self.lines.iter().filter(move |line| line.field == field).map(move |line| line.value.of(octets))
    }

    /// True when the client wants the connection to stay (RFC 9112 section 9.3).
    pub fn keeps_alive(&self) -> bool {
        match self.version {
            Version::Http11 => !self.connection.close,
            Version::Http10 => self.connection.keep_alive && !self.connection.close,
        }
    }

    /// The protocols the client may go on with that we pass on: never HTTP/2 or TLS, which would hide hosts (D-H15).
    pub fn upgrades<'a>(&'a self, octets: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let may = self.connection.upgrade && self.version == Version::Http11;
        self.values(octets, Field::Upgrade)
            .filter(move |_| may)
            .flat_map(list)
            .filter(|protocol| may_upgrade_to(protocol))
    }

    /// The target in origin form.
    pub fn path<'a>(&self, octets: &'a [u8]) -> &'a [u8] {
        let target = self.target.of(octets);
        match (target.is_empty(), self.method) {
            // RFC 9112 section 3.2.4: the last proxy turns an OPTIONS without a path into the asterisk form.
            (true, Method::Options) => b"*",
            (true, _) => b"/",
            _ => target,
        }
    }

    /// Writes the head for the origin: our own request line, `Host` and framing, then every end-to-end field.
    ///
    /// `host` goes out as `Host`; `hop` is appended to `X-Forwarded-For` and `Via`. Cost: copies, no allocation once `out` has grown.
    pub fn write(&self, octets: &[u8], host: &[u8], hop: &Hop<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(self.method_text.of(octets));
        out.push(b' ');
        let path = self.path(octets);
        if path.first() == Some(&b'?') {
            out.push(b'/');
        }
        out.extend_from_slice(path);
        out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
        out.extend_from_slice(host);
        out.extend_from_slice(b"\r\n");
        for line in &self.lines {
            // RFC 9110 section 10.1.1: an expectation in HTTP/1.0 is ignored.
            let is_ignored = line.field == Field::Expect && self.version == Version::Http10;
            let passes = line.field.goes_on(hop) && !is_ignored;
            if passes {
                write_line(line.name.of(octets), line.value.of(octets), out);
            }
        }
        self.framing.write(out);
        let mut has_upgrade = false;
        for protocol in self.upgrades(octets) {
            out.extend_from_slice(if has_upgrade { b", " } else { b"Connection: upgrade\r\nUpgrade: " });
            out.extend_from_slice(protocol);
            has_upgrade = true;
        }
        if has_upgrade {
            out.extend_from_slice(b"\r\n");
        }
        let received = if self.version == Version::Http11 { "1.1" } else { "1.0" };
        hop.write(self.values(octets, Field::XForwardedFor), received, out);
    }

    //--- Parsing -----------------------------------------------------------------------------------------------------

    fn clear(&mut self) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        *self = Self { lines, ..Self::default() };
    }

    /// Reads the request line at `start..end` (RFC 9112 section 3): exactly two single spaces.
    fn read_request_line(&mut self, octets: &[u8], start: usize, end: usize) -> Result<(), HeadError> {
        let line = &octets[start..end];
        if line == b"PRI * HTTP/2.0" {
            return Err(HeadError::Http2);
        }
        let method_length = line.iter().position(|&octet| !is_token(octet)).ok_or(HeadError::StartLine)?;
        let rest = line[method_length..].strip_prefix(b" ").ok_or(HeadError::StartLine)?;
        let target_length = rest.iter().position(|&octet| octet == b' ').ok_or(HeadError::StartLine)?;
        self.version = version(&rest[target_length + 1..])?;
        if target_length == 0 {
            return Err(HeadError::StartLine);
        }
        self.method = Method::of(&line[..method_length]);
        self.method_text = Span::new(start, start + method_length);
        let target_start = start + method_length + 1;
        self.read_target(octets, target_start, target_start + target_length)
    }

    /// Reads the target (RFC 9112 section 3.2); of an absolute form the authority is kept apart.
    fn read_target(&mut self, octets: &[u8], start: usize, end: usize) -> Result<(), HeadError> {
        let target = &octets[start..end];
        if !target.iter().all(u8::is_ascii_graphic) {
            return Err(HeadError::BadTarget);
        }
        // A fragment is the client's own (RFC 9110 section 4.2.5); what is sent of it goes no further.
        let end = start + target.iter().position(|&octet| octet == b'#').unwrap_or(target.len());
        self.target = Span::new(start, end);
        match target[0] {
            // Refused when the head is whole; its target has a form of its own.
            _ if self.method == Method::Connect => Ok(()),
            b'/' => Ok(()),
            b'*' if target.len() == 1 && self.method == Method::Options => Ok(()),
            _ => {
                let scheme = absolute_scheme_length(target).ok_or(HeadError::BadTarget)?;
                let rest = &octets[start + scheme..end];
                let length = rest.iter().position(|octet| matches!(octet, b'/' | b'?')).unwrap_or(rest.len());
                self.authority = Some(Span::new(start + scheme, start + scheme + length));
                self.target = Span::new(start + scheme + length, end);
                Ok(())
            }
        }
    }

    /// Checks what only the whole head tells.
    fn finish(&mut self, octets: &[u8]) -> Result<(), HeadError> {
        self.host = self.read_host(octets)?;
        if self.method == Method::Connect {
            return Err(HeadError::Connect);
        }
        if let Some(host) = self.host {
            self.host_text = host::split(host.of(octets)).map_err(|_| HeadError::BadHost)?;
        }
        self.framing = self.read_framing(octets)?;
        self.connection = ConnectionOptions::read(octets, &mut self.lines)?;
        if self.values(octets, Field::Upgrade).flat_map(list).count() > CONNECTION_OPTIONS_MAX {
            return Err(HeadError::BadConnection);
        }
        Ok(())
    }

    /// RFC 9112 section 3.2: exactly one `Host` in HTTP/1.1, at most one in HTTP/1.0; the same as in the target.
    fn read_host(&self, octets: &[u8]) -> Result<Option<Span>, HeadError> {
        let mut hosts = self.lines.iter().filter(|line| line.field == Field::Host).map(|line| line.value);
        let host = hosts.next();
        if hosts.next().is_some() {
            return Err(HeadError::DuplicateHost);
        }
        if host.is_none() && self.version == Version::Http11 {
            return Err(HeadError::MissingHost);
        }
        let Some(authority) = self.authority else { return Ok(host) };
        if host.is_some_and(|host| !host.of(octets).eq_ignore_ascii_case(authority.of(octets))) {
            return Err(HeadError::AuthorityMismatch);
        }
        Ok(Some(authority))
    }

    /// RFC 9112 section 6.3, with every doubt refused.
    fn read_framing(&self, octets: &[u8]) -> Result<Framing, HeadError> {
        let mut lengths = self.values(octets, Field::ContentLength);
        let mut codings = self.values(octets, Field::TransferEncoding);
        match (lengths.next(), codings.next()) {
            (None, None) => Ok(Framing::None),
            (Some(_), Some(_)) => Err(HeadError::TwoFramings),
            (Some(value), None) if lengths.next().is_none() => content_length(value).map(Framing::Length),
            (Some(_), None) => Err(HeadError::BadContentLength),
            (None, Some(value)) => {
                let is_chunked = value.eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
                if is_chunked && self.version == Version::Http11 {
                    Ok(Framing::Chunked)
                } else {
                    Err(HeadError::BadTransferEncoding)
                }
            }
        }
    }
}

/// The length of `http://` or `https://` before an authority, in any case; other schemes are not ours.
fn absolute_scheme_length(target: &[u8]) -> Option<usize> {
    let starts = |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    [&b"http://"[..], b"https://"].into_iter().find(|scheme| starts(scheme)).map(<[u8]>::len)
}

/// Protocols whose octets name hosts we would not see.
pub fn may_upgrade_to(protocol: &[u8]) -> bool {
    let starts = |with: &[u8]| protocol.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    let is_clean = protocol.iter().all(|&octet| is_token(octet) || octet == b'/');
    is_clean && !starts(b"h2") && !starts(b"h3") && !starts(b"http/") && !starts(b"tls/")
}

/// Writes one field line.
pub(in crate::http) fn write_line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

//--- RequestParser ---------------------------------------------------------------------------------------------------

/// Reads request heads one after the other; keeps its storage between them.
#[derive(Debug)]
pub struct RequestParser {
    limits: HeadLimits,
    scanner: Scanner,
    empty_lines: u8,
    has_request_line: bool,
    head: RequestHead,
}

impl RequestParser {
    /// A parser that holds heads to `limits`.
    pub fn new(limits: HeadLimits) -> Self {
        let head = RequestHead { lines: Vec::with_capacity(32), ..RequestHead::default() };
        Self { limits, scanner: Scanner::default(), empty_lines: 0, has_request_line: false, head }
    }

    /// Makes ready for the next head.
    pub fn reset(&mut self) {
        self.scanner = Scanner::default();
        self.empty_lines = 0;
        self.has_request_line = false;
        self.head.clear();
    }

    /// The head, once [`RequestParser::advance`] said it is whole.
    pub fn head(&self) -> &RequestHead {
        &self.head
    }

    /// Goes on with `octets`: all octets of the head so far, the same start as before with more behind.
    ///
    /// Errors are final for the connection. Cost: each octet once.
    pub fn advance(&mut self, octets: &[u8]) -> Result<Progress, HeadError> {
        loop {
            if !self.has_request_line {
                self.check_start(octets)?;
            }
            let Some((start, end)) = self.scanner.line(octets, self.limits.octets_max)? else {
                return Ok(Progress::Partial);
            };
            if !self.has_request_line {
                self.take_first(octets, start, end)?;
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

    fn take_first(&mut self, octets: &[u8], start: usize, end: usize) -> Result<(), HeadError> {
        if start == end && self.empty_lines < EMPTY_LINES_MAX {
            self.empty_lines += 1;
            return Ok(());
        }
        self.has_request_line = true;
        self.head.read_request_line(octets, start, end)
    }

    /// Looks at the first octet of a line that should be a request line, so that another protocol does not wait for one.
    fn check_start(&self, octets: &[u8]) -> Result<(), HeadError> {
        match octets.get(self.scanner.line_start) {
            // The record type of a TLS handshake (RFC 8446 section 5.1).
            Some(0x16) => Err(HeadError::Tls),
            Some(&octet) if octet != b'\r' && octet != b'\n' && !is_token(octet) => Err(HeadError::StartOctet),
            _ => Ok(()),
        }
    }
}
