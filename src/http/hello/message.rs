//! The hello as a handshake message: strict lengths, one pass, borrowed.
//!
//! Sources: RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2, RFC 6066 section 3, RFC 7301 section 3.1. Values that are
//! not known, GREASE among them (RFC 8701), are skipped; lengths that lie are refused (D-T7, D-T8).

use super::{HelloError, HelloFault, Stop};
use crate::http::host::HostName;
use crate::http::octets::Octets;

/// Octets before the body: type and length.
const HEADER_OCTETS: usize = 4;
/// Handshake type of a ClientHello.
const CLIENT_HELLO: u8 = 1;
/// Extensions in one hello: clients send up to 25, and the search for duplicates takes time by the square.
pub const EXTENSIONS_MAX: usize = 128;
/// Longest session identifier (RFC 5246 section 7.4.1.2).
const SESSION_ID_OCTETS_MAX: usize = 32;

/// TLS 1.3 on the wire.
const TLS_13: u16 = 0x0304;

/// A whole hello; texts and lists are borrowed from the octets it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The name in the open; `None` without the extension (D-T4), where the address reached stands for it.
    pub server_name: Option<ServerName<'a>>,
    /// The client version field; from TLS 1.3 on it says 1.2.
    pub legacy_version: u16,
    /// The client's random; the second hello after a retry repeats it.
    pub random: &'a [u8; 32],
    /// The session identifier: of a session to resume before TLS 1.3, of no meaning since.
    pub session_id: &'a [u8],
    /// The outer Encrypted ClientHello extension is there, real or GREASE.
    pub has_ech: bool,
    /// Early data follow the hello (D-T14).
    pub has_early_data: bool,
    /// A pre-shared key is offered: resumption in TLS 1.3.
    pub has_pre_shared_key: bool,
    /// A session ticket is presented: resumption in TLS 1.2.
    pub has_session_ticket: bool,
    /// Octets of the message, header included.
    pub octets: usize,
    protocols: &'a [u8],
    versions: &'a [u8],
}

/// The host name of the server name extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerName<'a> {
    /// As the client wrote it.
    pub text: &'a str,
    /// What it names; the case and one final dot are folded, an IP literal is an address (D-T5).
    pub host: HostName,
}

impl<'a> Hello<'a> {
    /// The protocols offered (ALPN), in the client's order; none without the extension. Each has an octet at least.
    pub fn protocols(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut list = Octets::new(self.protocols);
        std::iter::from_fn(move || list.part8().map(|protocol| protocol.rest()))
    }

    /// The versions offered, GREASE among them, in the client's order; without the extension the one in the old field.
    pub fn versions(&self) -> impl Iterator<Item = u16> + use<'a> {
        let mut list = Octets::new(self.versions);
        let alone = list.is_empty().then_some(self.legacy_version);
        alone.into_iter().chain(std::iter::from_fn(move || list.u16()))
    }

    /// The highest version offered that is no GREASE value and not above TLS 1.3.
    pub fn version_max(&self) -> Option<u16> {
        self.versions().filter(|version| (0x0300..=TLS_13).contains(version)).max()
    }

    /// True if the hello may resume a session: no certificate will be shown again (D-T13).
    pub fn may_resume(&self) -> bool {
        let by_identifier = !self.session_id.is_empty() && self.version_max() < Some(TLS_13);
        self.has_pre_shared_key || self.has_session_ticket || by_identifier
    }

    /// What the name extension names.
    pub fn host(&self) -> Option<&HostName> {
        self.server_name.as_ref().map(|name| &name.host)
    }
}

/// Reads a hello from the start of handshake octets.
pub(super) fn read(octets: &[u8], octets_max: usize) -> Result<Hello<'_>, Stop> {
    let length = length(octets, octets_max)?.ok_or(Stop::NeedMore)?;
    let message = octets.get(..length).ok_or(Stop::NeedMore)?;
    Ok(read_whole(message)?)
}

/// The octets of the message that begins here, header included; `None` while the header is not whole.
///
/// A message of another type and one over the limit are refused as soon as they can be told.
pub(super) fn length(start: &[u8], octets_max: usize) -> Result<Option<usize>, Stop> {
    if start.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(HelloFault::NotClientHello.at(0).into());
    }
    let Some([_, high, middle, low]) = start.first_chunk::<HEADER_OCTETS>() else { return Ok(None) };
    let length = HEADER_OCTETS + ((usize::from(*high) << 16) | (usize::from(*middle) << 8) | usize::from(*low));
    if length > octets_max { Err(Stop::TooLong) } else { Ok(Some(length)) }
}

/// Reads a message of exactly the length its header says.
fn read_whole(message: &[u8]) -> Result<Hello<'_>, HelloError> {
    let mut body = Octets::new(message);
    let cut = |at| HelloFault::CutShort.at(at);
    body.take(HEADER_OCTETS).ok_or(cut(0))?;
    let version_at = body.at();
    let legacy_version = body.u16().ok_or(cut(version_at))?;
    if legacy_version < 0x0300 {
        return Err(HelloFault::BadVersion.at(version_at));
    }
    let random = body.array().ok_or(cut(body.at()))?;
    let session_id = body.part8().ok_or(cut(body.at()))?;
    if session_id.rest().len() > SESSION_ID_OCTETS_MAX {
        return Err(HelloFault::SessionIdTooLong.at(session_id.at()));
    }
    pairs(body.part16().ok_or(cut(body.at()))?)?;
    filled(body.part8().ok_or(cut(body.at()))?)?;
    let mut res = Hello {
        server_name: None,
        legacy_version,
        random,
        session_id: session_id.rest(),
        has_ech: false,
        has_early_data: false,
        has_pre_shared_key: false,
        has_session_ticket: false,
        octets: message.len(),
        protocols: &[],
        versions: &[],
    };
    // Before RFC 3546 a hello ended here.
    if !body.is_empty() {
        let extensions = body.part16().ok_or(cut(body.at()))?;
        at_end(body)?;
        read_extensions(&mut res, extensions)?;
    }
    Ok(res)
}

/// Takes what verdicts need from the extensions.
fn read_extensions<'a>(hello: &mut Hello<'a>, mut list: Octets<'a>) -> Result<(), HelloError> {
    const SERVER_NAME: u16 = 0;
    const PROTOCOLS: u16 = 16;
    const SESSION_TICKET: u16 = 35;
    const PRE_SHARED_KEY: u16 = 41;
    const EARLY_DATA: u16 = 42;
    const VERSIONS: u16 = 43;
    const ENCRYPTED_HELLO: u16 = 0xfe0d;
    // RFC 9849 section 5: the first octet tells the outer hello's extension from the inner's.
    const OUTER: u8 = 0;

    let mut seen = Seen::default();
    while !list.is_empty() {
        let at = list.at();
        let cut = HelloFault::CutShort.at(at);
        let kind = list.u16().ok_or(cut)?;
        let body = list.part16().ok_or(cut)?;
        seen.insert(kind).map_err(|fault| fault.at(at))?;
        match kind {
            SERVER_NAME => hello.server_name = Some(server_name(body)?),
            PROTOCOLS => hello.protocols = protocols(body)?,
            SESSION_TICKET => hello.has_session_ticket = !body.is_empty(),
            PRE_SHARED_KEY => hello.has_pre_shared_key = true,
            EARLY_DATA => hello.has_early_data = true,
            VERSIONS => hello.versions = versions(body)?,
            ENCRYPTED_HELLO => hello.has_ech = body.rest().first() == Some(&OUTER),
            _ => {}
        }
    }
    Ok(())
}

/// The one host name of the extension (D-T6).
fn server_name(mut body: Octets<'_>) -> Result<ServerName<'_>, HelloError> {
    const HOST_NAME: u8 = 0;
    let cut = |at| HelloFault::CutShort.at(at);
    let mut list = body.part16().ok_or(cut(body.at()))?;
    at_end(body)?;
    let at = list.at();
    match list.u8() {
        None => return Err(HelloFault::Empty.at(at)),
        Some(HOST_NAME) => {}
        Some(_) => return Err(HelloFault::MoreNames.at(at)),
    }
    let name = list.part16().ok_or(cut(list.at()))?;
    if !list.is_empty() {
        return Err(HelloFault::MoreNames.at(list.at()));
    }
    filled(name)?;
    read_host(name.rest()).ok_or(HelloFault::BadName.at(name.at()))
}

/// Reads the octets of a host name: letters, digits, hyphen, underscore and dots, and colons for IPv6 literals.
///
/// RFC 6066 section 3: A-labels, no trailing dot, no address. One dot is folded as browsers' URLs may carry it, and an
/// address is told apart so that the rule for addresses decides; NUL, UTF-8, ports, brackets and `*` are refused (D-T5).
fn read_host(octets: &[u8]) -> Option<ServerName<'_>> {
    let is_known = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b':');
    if !octets.iter().all(is_known) {
        return None;
    }
    let text = std::str::from_utf8(octets).ok()?;
    HostName::read(text).ok().map(|host| ServerName { text, host })
}

/// The checked list of protocol names.
fn protocols(mut body: Octets<'_>) -> Result<&[u8], HelloError> {
    let list = filled(body.part16().ok_or(HelloFault::CutShort.at(body.at()))?)?;
    at_end(body)?;
    let mut names = list;
    while !names.is_empty() {
        filled(names.part8().ok_or(HelloFault::CutShort.at(names.at()))?)?;
    }
    Ok(list.rest())
}

/// The checked list of versions.
fn versions(mut body: Octets<'_>) -> Result<&[u8], HelloError> {
    let list = pairs(body.part8().ok_or(HelloFault::CutShort.at(body.at()))?)?;
    at_end(body)?;
    Ok(list.rest())
}

/// A list of two-octet values, one at least.
fn pairs(list: Octets<'_>) -> Result<Octets<'_>, HelloError> {
    if !list.rest().len().is_multiple_of(2) {
        return Err(HelloFault::OddLength.at(list.at()));
    }
    filled(list)
}

/// Something with an octet at least.
fn filled(part: Octets<'_>) -> Result<Octets<'_>, HelloError> {
    if part.is_empty() { Err(HelloFault::Empty.at(part.at())) } else { Ok(part) }
}

/// Nothing may follow.
fn at_end(part: Octets<'_>) -> Result<(), HelloError> {
    if part.is_empty() { Ok(()) } else { Err(HelloFault::TrailingOctets.at(part.at())) }
}

/// The extension types met so far.
#[derive(Debug)]
struct Seen {
    /// One bit for each type below 64: almost all that are assigned.
    low: u64,
    high: [u16; EXTENSIONS_MAX],
    high_count: usize,
}

impl Default for Seen {
    fn default() -> Self {
        Self { low: 0, high: [0; EXTENSIONS_MAX], high_count: 0 }
    }
}

impl Seen {
    fn insert(&mut self, kind: u16) -> Result<(), HelloFault> {
        if kind < 64 {
            let bit = 1 << kind;
            let is_new = self.low & bit == 0;
            self.low |= bit;
            return if is_new { Ok(()) } else { Err(HelloFault::DuplicateExtension) };
        }
        if self.high[..self.high_count].contains(&kind) {
            return Err(HelloFault::DuplicateExtension);
        }
        let place = self.high.get_mut(self.high_count).ok_or(HelloFault::TooManyExtensions)?;
        *place = kind;
        self.high_count += 1;
        Ok(())
    }
}
