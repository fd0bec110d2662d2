//! OPT records: reading the clients' options and the upstream's errors, writing ours.
//!
//! Sources: RFC 6891, RFC 8914 (extended errors), RFC 7828 (keepalive), RFC 7830 and RFC 8467 (padding), RFC 5001 (NSID), RFC 7873
//! (cookies).

use super::cookies::{ClientCookie, ServerCookie};
use super::wire::{self, MESSAGE_OCTETS_MAX, Record, Section, WireError, rtype};

/// Option codes.
mod option {
    pub const NSID: u16 = 3;
    pub const COOKIE: u16 = 10;
    pub const KEEPALIVE: u16 = 11;
    pub const PADDING: u16 = 12;
    pub const EDE: u16 = 15;
}

/// Octets of a client's cookie with a server's.
pub const COOKIE_OCTETS: usize = 24;
/// Octets that padded answers are a multiple of (RFC 8467 section 4.1).
pub const PADDING_BLOCK_OCTETS: usize = 468;
/// Extended errors of an upstream that are passed on, and octets of their texts: an answer must stay small.
const EDES_MAX: usize = 4;
/// See [`EDES_MAX`].
const EDE_TEXT_OCTETS_MAX: usize = 256;

/// Extended error codes the gate sends itself (RFC 8914 section 4).
pub mod info_code {
    #![allow(missing_docs)]
    pub const STALE_ANSWER: u16 = 3;
    pub const NOT_READY: u16 = 14;
    pub const BLOCKED: u16 = 15;
    pub const CENSORED: u16 = 16;
    pub const FILTERED: u16 = 17;
    pub const PROHIBITED: u16 = 18;
    pub const STALE_NXDOMAIN: u16 = 19;
    pub const NOT_SUPPORTED: u16 = 21;
    pub const NO_REACHABLE_AUTHORITY: u16 = 22;
    pub const NETWORK_ERROR: u16 = 23;
    pub const INVALID_DATA: u16 = 24;
}

/// One extended error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendedError {
    /// INFO-CODE.
    pub code: u16,
    /// EXTRA-TEXT.
    pub text: String,
}

impl ExtendedError {
    /// An error with text.
    pub fn new(code: u16, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// Codes of an upstream that are passed on by default: what they say of validation (1, 2, 5 to 12, 25, 27) and of reaching servers
/// (3, 13, 19, 22, 23) holds for whoever asks. Those about who asked (18, 20, 21) are about this gate, and those about blocking
/// (4, 15 to 17) would be taken for its own verdict. Sources: RFC 8914 section 4, RFC 9276 section 3.2, the registry of codes.
pub const PASSED: [u16; 17] = [1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 19, 22, 23, 25, 27];
/// Most codes that may be passed on: they and our own fit into the one string of RESINFO (RFC 9606 section 5).
pub const PASSED_MAX: usize = 32;

/// The extended errors in an upstream's OPT.
pub fn extended_errors(message: &[u8]) -> Result<Vec<ExtendedError>, WireError> {
    let mut res = Vec::new();
    for record in wire::records(message)?.iter().filter(|record| record.rtype == rtype::OPT) {
        each_option(record.data(message), |code, value| {
            if code == option::EDE && value.len() >= 2 && res.len() < EDES_MAX {
                let text = String::from_utf8_lossy(&value[2..value.len().min(2 + EDE_TEXT_OCTETS_MAX)]);
                res.push(ExtendedError::new(u16::from_be_bytes([value[0], value[1]]), text));
            }
        });
    }
    Ok(res)
}

/// Visits the options of an OPT's data as far as they can be read.
fn each_option(mut data: &[u8], mut visit: impl FnMut(u16, &[u8])) {
    while let (Ok(code), Ok(length)) = (wire::u16_at(data, 0), wire::u16_at(data, 2)) {
        let Some(value) = data.get(4..4 + usize::from(length)) else { return };
        visit(code, value);
        data = &data[4 + usize::from(length)..];
    }
}

/// A client's COOKIE option.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cookie {
    /// There is none.
    #[default]
    Absent,
    /// It has a length that none has: the query is malformed (RFC 7873 section 5.2.2).
    Malformed,
    /// The client's, with a server's that has the length of ours.
    There(ClientCookie, Option<ServerCookie>),
}

impl Cookie {
    /// Reads the option's data (RFC 7873 section 4).
    fn read(data: &[u8]) -> Self {
        match (data.split_first_chunk(), data.len()) {
            (Some((client, [])), _) => Self::There(*client, None),
            // Of another length it is another server's, and good for nothing here.
            (Some((client, server)), 16..=40) => Self::There(*client, server.try_into().ok()),
            _ => Self::Malformed,
        }
    }
}

/// What the options of a client's OPT ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// The cookie; the first one counts.
    pub cookie: Cookie,
    /// How long an idle connection is kept.
    pub keepalive: bool,
    /// Which server answers.
    pub nsid: bool,
    /// A padded answer.
    pub padding: bool,
    /// Structured errors: an extended error without text, of code 0 or none.
    pub structured: bool,
}

impl Asks {
    /// Reads an OPT's data; what cannot be read asks for nothing.
    pub fn read(data: &[u8]) -> Self {
        let mut res = Self::default();
        each_option(data, |code, value| match code {
            option::COOKIE if res.cookie == Cookie::Absent => res.cookie = Cookie::read(value),
            option::KEEPALIVE => res.keepalive = true,
            option::NSID => res.nsid = true,
            option::PADDING => res.padding = true,
            option::EDE => res.structured |= matches!(value, [] | [0, 0]),
            _ => {}
        });
        res
    }
}

/// The upper eight bits of the response code, which the OPT holds (RFC 6891 section 6.1.3).
pub fn rcode_high(records: &[Record]) -> u8 {
    let opt = records.iter().find(|record| record.rtype == rtype::OPT && record.section == Section::Additional);
    opt.map_or(0, |opt| opt.ttl.to_be_bytes()[0])
}

/// What an OPT of ours says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opt<'a> {
    /// The greatest datagram we take.
    pub udp_octets: u16,
    /// DO, as the client has it.
    pub dnssec_ok: bool,
    /// The upper eight bits of the response code.
    pub rcode_high: u8,
    /// Extended errors.
    pub errors: &'a [ExtendedError],
    /// How long an idle connection is kept, in tenths of a second.
    pub keepalive: Option<u16>,
    /// The client's cookie with ours.
    pub cookie: Option<[u8; COOKIE_OCTETS]>,
    /// Who answers.
    pub nsid: Option<&'a [u8]>,
    /// True for a message that is padded to a multiple of [`PADDING_BLOCK_OCTETS`], as far as there is room.
    pub is_padded: bool,
}

/// Appends an OPT to a finished message and counts it.
pub fn append_opt(message: &mut Vec<u8>, opt: &Opt<'_>) {
    message.push(0);
    message.extend_from_slice(&rtype::OPT.to_be_bytes());
    message.extend_from_slice(&opt.udp_octets.to_be_bytes());
    message.extend_from_slice(&[opt.rcode_high, 0, if opt.dnssec_ok { 0x80 } else { 0 }, 0]);
    let length_at = message.len();
    message.extend_from_slice(&[0, 0]);
    for error in opt.errors {
        append_option(message, option::EDE, &[&error.code.to_be_bytes(), error.text.as_bytes()]);
    }
    if let Some(cookie) = &opt.cookie {
        append_option(message, option::COOKIE, &[cookie]);
    }
    if let Some(nsid) = opt.nsid {
        append_option(message, option::NSID, &[nsid]);
    }
    if let Some(tenths) = opt.keepalive {
        append_option(message, option::KEEPALIVE, &[&tenths.to_be_bytes()]);
    }
    if opt.is_padded {
        // The last option, for its own head counts as well.
        let bare = message.len() + 4;
        let padded = bare.next_multiple_of(PADDING_BLOCK_OCTETS).min(MESSAGE_OCTETS_MAX);
        if let Some(count) = padded.checked_sub(bare) {
            append_option(message, option::PADDING, &[&vec![0; count]]);
        }
    }
    let length = u16::try_from(message.len() - length_at - 2).unwrap_or(0);
    message[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
    if let Ok(count) = wire::u16_at(message, 10) {
        message[10..12].copy_from_slice(&count.saturating_add(1).to_be_bytes());
    }
}

/// Appends one option; one that is too long for its length is left out.
fn append_option(message: &mut Vec<u8>, code: u16, parts: &[&[u8]]) {
    let Ok(length) = u16::try_from(parts.iter().map(|part| part.len()).sum::<usize>()) else { return };
    message.extend_from_slice(&code.to_be_bytes());
    message.extend_from_slice(&length.to_be_bytes());
    for part in parts {
        message.extend_from_slice(part);
    }
}
