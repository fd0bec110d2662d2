//! OPT records and extended errors: reading the upstream's, writing ours. Sources: RFC 6891, RFC 8914.

use super::wire::{self, Record, Section, WireError, rtype};

/// Option code of an extended error.
const EDE: u16 = 15;
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
    pub const NOT_SUPPORTED: u16 = 21;
    pub const NO_REACHABLE_AUTHORITY: u16 = 22;
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

/// The extended errors in an upstream's OPT.
pub fn extended_errors(message: &[u8]) -> Result<Vec<ExtendedError>, WireError> {
    let mut res = Vec::new();
    for record in wire::records(message)?.iter().filter(|record| record.rtype == rtype::OPT) {
        let mut rest = record.data(message);
        while let (Ok(code), Ok(length)) = (wire::u16_at(rest, 0), wire::u16_at(rest, 2)) {
            let Some(value) = rest.get(4..4 + usize::from(length)) else { break };
            if code == EDE && value.len() >= 2 && res.len() < EDES_MAX {
                let text = String::from_utf8_lossy(&value[2..value.len().min(2 + EDE_TEXT_OCTETS_MAX)]);
                res.push(ExtendedError::new(u16::from_be_bytes([value[0], value[1]]), text));
            }
            rest = &rest[4 + usize::from(length)..];
        }
    }
    Ok(res)
}

/// The upper eight bits of the response code, which the OPT holds (RFC 6891 section 6.1.3).
pub fn rcode_high(records: &[Record]) -> u8 {
    let opt = records.iter().find(|record| record.rtype == rtype::OPT && record.section == Section::Additional);
    opt.map_or(0, |opt| opt.ttl.to_be_bytes()[0])
}

/// Appends an OPT to a finished message and counts it. `rcode_high` are the upper eight bits of the response code.
pub fn append_opt(message: &mut Vec<u8>, udp_octets: u16, dnssec_ok: bool, rcode_high: u8, errors: &[ExtendedError]) {
    let mut options = Vec::new();
    for error in errors {
        let text = error.text.as_bytes();
        let length = u16::try_from(text.len() + 2).unwrap_or(2);
        let text = if usize::from(length) == text.len() + 2 { text } else { &[] };
        options.extend_from_slice(&EDE.to_be_bytes());
        options.extend_from_slice(&length.to_be_bytes());
        options.extend_from_slice(&error.code.to_be_bytes());
        options.extend_from_slice(text);
    }
    message.push(0);
    message.extend_from_slice(&rtype::OPT.to_be_bytes());
    message.extend_from_slice(&udp_octets.to_be_bytes());
    message.extend_from_slice(&[rcode_high, 0, if dnssec_ok { 0x80 } else { 0 }, 0]);
    message.extend_from_slice(&u16::try_from(options.len()).unwrap_or(0).to_be_bytes());
    message.extend_from_slice(&options);
    if let Ok(count) = wire::u16_at(message, 10) {
        message[10..12].copy_from_slice(&count.saturating_add(1).to_be_bytes());
    }
}
