//! Message heads, read strictly: octets in, spans out, or the kind of error (RFC 9110, RFC 9112).
//!
//! A head is read line by line as its octets arrive, and each octet is looked at in order, so the outcome never depends
//! on how the octets were split over packets. Two readers of one message that disagree are how requests are smuggled;
//! whatever the grammar does not allow is therefore refused, not repaired. What is absent on purpose: I/O, allocation
//! per head (a parser is reused), and any output of octets as they came.

pub mod request;
pub mod response;

use thiserror::Error;

pub use request::{Hop, Method, Progress, RequestHead, RequestParser, Version};
pub use response::{ResponseHead, ResponseParser};

/// Empty lines accepted before a request line (RFC 9112 section 2.2: "at least one").
const EMPTY_LINES_MAX: u8 = 2;
/// Greatest body a `Content-Length` may announce: what every peer's signed 64-bit arithmetic holds.
const CONTENT_LENGTH_MAX: u64 = i64::MAX as u64;
/// Options of all `Connection` lines together; browsers send one or two.
const CONNECTION_OPTIONS_MAX: usize = 32;

/// Why octets are no head. The sender is at fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HeadError {
    /// The authority of an absolute-form target and `Host` are not the same (D-H3).
    #[error("target and Host name different hosts")]
    AuthorityMismatch,
    /// A `Connection` option names a field that frames or routes the message.
    #[error("Connection names a field that is not hop-by-hop")]
    BadConnection,
    /// `Content-Length` is no single number that fits.
    #[error("Content-Length is not one decimal number")]
    BadContentLength,
    /// `Host`, or the target's authority, is no host with an optional port (D-H2, D-H5 to D-H9).
    #[error("Host is not a name or address with an optional port")]
    BadHost,
    /// The target has none of the four forms of RFC 9112 section 3.2, or another form than its method asks for.
    #[error("request target is not a path, an http URL or an asterisk for OPTIONS")]
    BadTarget,
    /// `Transfer-Encoding` is anything but one `chunked` in HTTP/1.1 (D-H13).
    #[error("Transfer-Encoding is not exactly chunked")]
    BadTransferEncoding,
    /// CR without LF.
    #[error("carriage return without line feed")]
    BareCr,
    /// LF without CR.
    #[error("line feed without carriage return")]
    BareLf,
    /// A `CONNECT` request (D-H20).
    #[error("CONNECT is not offered")]
    Connect,
    /// NUL or another control octet.
    #[error("control octet in the head")]
    ControlOctet,
    /// More than one `Host` line (D-H1).
    #[error("more than one Host")]
    DuplicateHost,
    /// A field name that is no token directly followed by a colon (D-H10).
    #[error("field name is not a token followed by a colon")]
    FieldName,
    /// A line that begins with white space (obs-fold, RFC 9112 section 5.2).
    #[error("folded line")]
    Fold,
    /// The preface of HTTP/2 where it is no beginning (D-H16).
    #[error("HTTP/2 begins a connection or is not spoken on it")]
    Http2,
    /// The request came through this gate before (RFC 9110 section 7.6.3).
    #[error("the request came through this gate before")]
    Loop,
    /// A request for a host that the TLS connection was not opened for, and no certificate here covers (D-T17).
    #[error("no certificate of this gate covers the host")]
    Misdirected,
    /// HTTP/1.1 without `Host`, or HTTP/2 without `:authority` and `host` (D-H4, D-H17).
    #[error("request without a host")]
    MissingHost,
    /// The first line is no request line or status line; HTTP/0.9 included.
    #[error("first line is not a request line")]
    StartLine,
    /// The first octet cannot begin a method (D-H26).
    #[error("first octet cannot begin a request")]
    StartOctet,
    /// The first octet of a TLS record (D-H26).
    #[error("TLS on a plain HTTP port")]
    Tls,
    /// More octets than the limit.
    #[error("head is larger than the limit")]
    TooLarge,
    /// More lines than the limit.
    #[error("head has more lines than the limit")]
    TooManyLines,
    /// Both `Content-Length` and `Transfer-Encoding` (D-H13).
    #[error("both Content-Length and Transfer-Encoding")]
    TwoFramings,
    /// A version other than HTTP/1.0 and HTTP/1.1.
    #[error("HTTP version is neither 1.0 nor 1.1")]
    Version,
}

impl HeadError {
    /// Every kind with its metric label, in order.
    pub const ALL: [(Self, &'static str); 24] = [
        (Self::AuthorityMismatch, "authority_mismatch"),
        (Self::BadConnection, "bad_connection"),
        (Self::BadContentLength, "bad_content_length"),
        (Self::BadHost, "bad_host"),
        (Self::BadTarget, "bad_target"),
        (Self::BadTransferEncoding, "bad_transfer_encoding"),
        (Self::BareCr, "bare_cr"),
        (Self::BareLf, "bare_lf"),
        (Self::Connect, "connect"),
        (Self::ControlOctet, "control_octet"),
        (Self::DuplicateHost, "duplicate_host"),
        (Self::FieldName, "field_name"),
        (Self::Fold, "fold"),
        (Self::Http2, "http2"),
        (Self::Loop, "loop"),
        (Self::Misdirected, "misdirected"),
        (Self::MissingHost, "missing_host"),
        (Self::StartLine, "start_line"),
        (Self::StartOctet, "start_octet"),
        (Self::Tls, "tls"),
        (Self::TooLarge, "too_large"),
        (Self::TooManyLines, "too_many_lines"),
        (Self::TwoFramings, "two_framings"),
        (Self::Version, "version"),
    ];

    /// The status a client gets.
    pub fn status(self) -> u16 {
        match self {
            Self::Connect => 405,
            Self::Loop => 508,
            Self::Misdirected => 421,
            Self::Http2 | Self::Version => 505,
            Self::TooLarge | Self::TooManyLines => 431,
            _ => 400,
        }
    }

    /// True where an answer in HTTP/1 would be noise to the peer.
    pub fn is_silent(self) -> bool {
        self == Self::Tls
    }
}

/// What a parser holds heads to.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Longest head in octets.
    pub octets_max: usize,
    /// Most field lines.
    pub lines_max: usize,
}

//--- Span ------------------------------------------------------------------------------------------------------------

/// A part of the octets a head was read from; meaningless with other octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// From `start` up to and without `end`; a head is far below 4 GiB.
    fn new(start: usize, end: usize) -> Self {
        let fits = |at: usize| u32::try_from(at).expect("a head is limited far below 4 GiB");
        Self { start: fits(start), end: fits(end) }
    }

    /// The octets.
    pub fn of(self, octets: &[u8]) -> &[u8] {
        &octets[self.start as usize..self.end as usize]
    }

    /// How many octets.
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// True without any.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

//--- Line ------------------------------------------------------------------------------------------------------------

/// Fields that the relay or the page look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Formats the client takes.
    Accept,
    /// Languages the client takes.
    AcceptLanguage,
    /// Other ways to the origin (RFC 7838).
    AltSvc,
    /// Options of this connection.
    Connection,
    /// Body length.
    ContentLength,
    /// Kind of body.
    ContentType,
    /// `100-continue`.
    Expect,
    /// The host that a proxy before us was asked for, so it says: `Forwarded`, `X-Forwarded-Host` and their kin (D-H24).
    ForwardedHost,
    /// The host asked for.
    Host,
    /// A field that ends at this hop: by RFC 9110 section 7.6.1, or named by `Connection`.
    HopByHop,
    /// Any other field.
    Other,
    /// Framing of this hop.
    TransferEncoding,
    /// A name that some servers take for a framing or host field, spelled with underscores.
    Twin,
    /// Another protocol to go on with.
    Upgrade,
    /// Gateways on the way.
    Via,
    /// Addresses of clients before us.
    XForwardedFor,
    /// How the client came, so a proxy before us says: `http` or `https`.
    XForwardedProto,
}

impl Field {
    /// Tells a field by its name. Cost: one compare for most names.
    pub(super) fn of(name: &[u8]) -> Self {
        let (known, field) = match name.len() {
            4 => (&b"host"[..], Self::Host),
            3 => (&b"via"[..], Self::Via),
            // `TE` and `Trailer` speak of trailers, which are not forwarded.
            2 => (&b"te"[..], Self::HopByHop),
            6 if name[0] | 0x20 == b'a' => (&b"accept"[..], Self::Accept),
            6 => (&b"expect"[..], Self::Expect),
            7 if name[0] | 0x20 == b'u' => (&b"upgrade"[..], Self::Upgrade),
            7 if name[0] | 0x20 == b'a' => (&b"alt-svc"[..], Self::AltSvc),
            7 => (&b"trailer"[..], Self::HopByHop),
            10 if name[0] | 0x20 == b'c' => (&b"connection"[..], Self::Connection),
            10 => (&b"keep-alive"[..], Self::HopByHop),
            12 => (&b"content-type"[..], Self::ContentType),
            // RFC 7540 section 3.2.1; it goes with `Upgrade: h2c`, which is stripped.
            14 if name[0] | 0x20 == b'h' => (&b"http2-settings"[..], Self::HopByHop),
            14 => (&b"content-length"[..], Self::ContentLength),
            15 if name[0] | 0x20 == b'a' => (&b"accept-language"[..], Self::AcceptLanguage),
            15 => (&b"x-forwarded-for"[..], Self::XForwardedFor),
            16 => (&b"proxy-connection"[..], Self::HopByHop),
            17 if name[0] | 0x20 == b'x' => (&b"x-forwarded-proto"[..], Self::XForwardedProto),
            17 => (&b"transfer-encoding"[..], Self::TransferEncoding),
            _ => return Self::rare(name),
        };
        if name.eq_ignore_ascii_case(known) { field } else { Self::rare(name) }
    }

    /// True for a field of a request that goes on to the origin as it came; framing, `Host` and what this hop speaks for
    /// itself are written anew.
    pub(super) fn goes_on(self, hop: &Hop<'_>) -> bool {
        match self {
            Self::Accept | Self::AcceptLanguage | Self::AltSvc | Self::ContentType | Self::Expect => true,
            Self::Other | Self::Via => true,
            // Only a proxy we know may say which host it was asked for.
            Self::ForwardedHost => hop.is_listed,
            // Who ends TLS knows how the client came.
            Self::XForwardedProto => !hop.is_secure,
            Self::Connection | Self::ContentLength | Self::HopByHop | Self::Host => false,
            Self::TransferEncoding | Self::Twin | Self::Upgrade | Self::XForwardedFor => false,
        }
    }

    /// Tells fields that must not pass as they are among those nobody here reads. Cost: one look at the first octet and a
    /// search for an underscore.
    fn rare(name: &[u8]) -> Self {
        const FORWARDED_HOST: [&[u8]; 6] =
            [b"forwarded", b"x-forwarded-host", b"x-host", b"x-original-host", b"x-original-url", b"x-rewrite-url"];
        const TWINS: [&[u8]; 7] = [
            b"connection",
            b"content-length",
            b"host",
            b"transfer-encoding",
            b"upgrade",
            b"x-forwarded-for",
            b"x-forwarded-proto",
        ];
        let is = |known: &&[u8]| {
            known.len() == name.len()
                && known.iter().zip(name).all(|(a, b)| *a == b.to_ascii_lowercase() || (*a == b'-' && *b == b'_'))
        };
        let may_forward = matches!(name[0] | 0x20, b'f' | b'x');
        if may_forward && FORWARDED_HOST.iter().any(is) {
            return Self::ForwardedHost;
        }
        if name.contains(&b'_') && TWINS.iter().any(is) { Self::Twin } else { Self::Other }
    }
}

/// One field line.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Which field.
    pub field: Field,
    /// Its name as written.
    pub name: Span,
    /// Its value without surrounding white space.
    pub value: Span,
}

impl Line {
    /// Reads the line at `start..end`, whose octets the scanner has passed.
    fn read(octets: &[u8], start: usize, end: usize) -> Result<Self, HeadError> {
        let line = &octets[start..end];
        if matches!(line[0], b' ' | b'\t') {
            return Err(HeadError::Fold);
        }
        let length = line.iter().position(|&octet| !is_token(octet)).ok_or(HeadError::FieldName)?;
        if length == 0 || line[length] != b':' {
            return Err(HeadError::FieldName);
        }
        let is_space = |octet: &u8| matches!(octet, b' ' | b'\t');
        let rest = &line[length + 1..];
        let lead = rest.iter().take_while(|octet| is_space(octet)).count();
        let trail = rest[lead..].iter().rev().take_while(|octet| is_space(octet)).count();
        Ok(Self {
            field: Field::of(&line[..length]),
            name: Span::new(start, start + length),
            value: Span::new(start + length + 1 + lead, end - trail),
        })
    }
}

//--- Connection options ----------------------------------------------------------------------------------------------

/// What the `Connection` lines of a head say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// `close`.
    pub close: bool,
    /// `keep-alive`.
    pub keep_alive: bool,
    /// `upgrade`.
    pub upgrade: bool,
}

impl ConnectionOptions {
    /// Reads all `Connection` lines and marks the fields they name as hop-by-hop.
    fn read(octets: &[u8], lines: &mut [Line]) -> Result<Self, HeadError> {
        let mut res = Self::default();
        let mut seen = 0;
        for i in 0..lines.len() {
            if lines[i].field != Field::Connection {
                continue;
            }
            for option in list(lines[i].value.of(octets)) {
                seen += 1;
                if seen > CONNECTION_OPTIONS_MAX {
                    return Err(HeadError::BadConnection);
                }
                match option {
                    o if o.eq_ignore_ascii_case(b"close") => res.close = true,
                    o if o.eq_ignore_ascii_case(b"keep-alive") => res.keep_alive = true,
                    o if o.eq_ignore_ascii_case(b"upgrade") => res.upgrade = true,
                    o => mark_hop_by_hop(octets, lines, o)?,
                }
            }
        }
        Ok(res)
    }
}

/// RFC 9110 section 7.6.1: "A sender MUST NOT send a connection option corresponding to a field that is intended for all
/// recipients"; one that frames or routes the message is an attempt to change it behind us.
fn mark_hop_by_hop(octets: &[u8], lines: &mut [Line], option: &[u8]) -> Result<(), HeadError> {
    if matches!(Field::of(option), Field::Host | Field::ContentLength | Field::TransferEncoding) {
        return Err(HeadError::BadConnection);
    }
    for line in lines {
        if line.field != Field::Connection && line.name.of(octets).eq_ignore_ascii_case(option) {
            line.field = Field::HopByHop;
        }
    }
    Ok(())
}

/// The members of a comma-separated list, white space around them removed, empty ones left out.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&octet| octet == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

//--- Scanner ---------------------------------------------------------------------------------------------------------

/// Finds the lines of a head, each octet once, however they arrive.
#[derive(Clone, Copy, Debug, Default)]
struct Scanner {
    at: usize,
    line_start: usize,
}

impl Scanner {
    /// The next whole line without its CRLF; `None` until more octets are there.
    fn line(&mut self, octets: &[u8], octets_max: usize) -> Result<Option<(usize, usize)>, HeadError> {
        let seen = &octets[..octets.len().min(octets_max)];
        let unseen = seen.get(self.at..).unwrap_or_default();
        self.at += unseen.iter().position(|&octet| !is_text(octet)).unwrap_or(unseen.len());
        match (seen.get(self.at), seen.get(self.at + 1)) {
            (None, _) | (Some(b'\r'), None) if octets.len() >= octets_max => Err(HeadError::TooLarge),
            (None, _) | (Some(b'\r'), None) => Ok(None),
            (Some(b'\r'), Some(b'\n')) => {
                let line = (self.line_start, self.at);
                self.at += 2;
                self.line_start = self.at;
                Ok(Some(line))
            }
            (Some(b'\r'), Some(_)) => Err(HeadError::BareCr),
            (Some(b'\n'), _) => Err(HeadError::BareLf),
            (Some(_), _) => Err(HeadError::ControlOctet),
        }
    }
}

//--- Octets ----------------------------------------------------------------------------------------------------------

/// RFC 9110 section 5.6.2: `tchar`.
const TOKEN: u8 = 1;
/// What a line may hold: HTAB, SP, VCHAR and obs-text (RFC 9110 section 5.5).
const TEXT: u8 = 2;

const CLASSES: [u8; 256] = {
    let mut res = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        let is_text = octet == 0x09 || (octet >= 0x20 && octet != 0x7f);
        let is_token = matches!(octet as u8, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'!' | b'#' | b'$' | b'%' | b'&'
            | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
        res[octet] = ((is_text as u8) * TEXT) | ((is_token as u8) * TOKEN);
        octet += 1;
    }
    res
};

/// True for the octets of methods and field names.
pub fn is_token(octet: u8) -> bool {
    CLASSES[usize::from(octet)] & TOKEN != 0
}

fn is_text(octet: u8) -> bool {
    CLASSES[usize::from(octet)] & TEXT != 0
}

/// Reads a `Content-Length` value: digits only, no sign, no list (RFC 9110 section 8.6).
pub(super) fn content_length(value: &[u8]) -> Result<u64, HeadError> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::BadContentLength);
    }
    let length = value.iter().try_fold(0u64, |sum, &digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
    length.filter(|&length| length <= CONTENT_LENGTH_MAX).ok_or(HeadError::BadContentLength)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_one_label() {
        for (i, (error, label)) in HeadError::ALL.iter().enumerate() {
            assert!(HeadError::ALL[..i].iter().all(|(other, text)| other != error && text != label), "{label}");
        }
    }

    #[test]
    fn fields_are_told_in_any_case() {
        for (name, field) in [
            ("hOsT", Field::Host),
            ("HTTP2-Settings", Field::HopByHop),
            ("Proxy-Connection", Field::HopByHop),
            ("te", Field::HopByHop),
            ("X-Forwarded-For", Field::XForwardedFor),
            ("X-Forwarded-Fox", Field::Other),
            ("Hosts", Field::Other),
            ("content_length", Field::Twin),
            ("Via", Field::Via),
            ("x-forwarded-HOST", Field::ForwardedHost),
            ("x_y", Field::Other),
        ] {
            assert_eq!(Field::of(name.as_bytes()), field, "{name}");
        }
    }

    #[test]
    fn content_lengths_are_plain_numbers() {
        for (text, expected) in [("0", Some(0)), ("003", Some(3)), ("9223372036854775807", Some(CONTENT_LENGTH_MAX))] {
            assert_eq!(content_length(text.as_bytes()).ok(), expected, "{text}");
        }
        for text in ["", "+1", "-1", "0x1", "1 1", "1,1", "9223372036854775808", "99999999999999999999", "1.0"] {
            assert_eq!(content_length(text.as_bytes()), Err(HeadError::BadContentLength), "{text}");
        }
    }
}
