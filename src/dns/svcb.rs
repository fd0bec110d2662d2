//! SVCB and HTTPS record data: priority, target, hints, `ech`. Source: RFC 9460 section 2.2, section 14.3.2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::wire::{self, Record, WireError};
use crate::model::DomainName;

/// Keys of parameters (RFC 9460 section 14.3.2; `dohpath` RFC 9461 section 5).
pub(super) const KEY_ALPN: u16 = 1;
pub(super) const KEY_PORT: u16 = 3;
pub(super) const KEY_IPV4HINT: u16 = 4;
const KEY_ECH: u16 = 5;
pub(super) const KEY_IPV6HINT: u16 = 6;
pub(super) const KEY_DOHPATH: u16 = 7;

/// What a record leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The target; `None` means the owner itself.
    pub target: Option<DomainName>,
    /// Addresses in hints.
    pub hints: Vec<IpAddr>,
    /// True when the record carries `ech`.
    pub has_ech: bool,
    /// True in AliasMode: the client goes on to ask the target for the same type (RFC 9460 section 3).
    pub is_alias: bool,
}

/// Reads a record. Unknown keys are skipped; a malformed list is an error, and the record must not be passed on.
pub fn read(message: &[u8], record: &Record) -> Result<Service, WireError> {
    let priority = wire::u16_at(record.data(message), 0)?;
    let (target, after) = wire::read_name(message, record.data_at + 2)?;
    if after > record.data_end {
        return Err(WireError::Truncated);
    }
    // "TargetName … MUST NOT be compressed" (RFC 9460 section 2.2): a pointer could mean another name to the client.
    if after - (record.data_at + 2) != target.wire().len() {
        return Err(WireError::BadName);
    }
    let target = (!target.as_ref().is_root()).then_some(target);
    // AliasMode has no parameters of its own (RFC 9460 section 2.4.2): what is there is ignored by clients, not by us.
    let mut res = Service { target, hints: Vec::new(), has_ech: false, is_alias: priority == 0 };
    each_param(&message[after..record.data_end], |key, value| match key {
        KEY_IPV4HINT => {
            res.hints.extend(value.chunks_exact(4).map(|o| IpAddr::V4(Ipv4Addr::new(o[0], o[1], o[2], o[3]))));
        }
        KEY_IPV6HINT => {
            let parts = value.chunks_exact(16).filter_map(|octets| <[u8; 16]>::try_from(octets).ok());
            res.hints.extend(parts.map(|octets| IpAddr::V6(Ipv6Addr::from(octets))));
        }
        KEY_ECH => res.has_ech = true,
        _ => {}
    })?;
    Ok(res)
}

/// The record's data without `ech` (interception D-D8), target uncompressed as RFC 9460 section 2.2 asks.
pub fn without_ech(message: &[u8], record: &Record) -> Result<Vec<u8>, WireError> {
    let (target, after) = wire::read_name_cased(message, record.data_at + 2)?;
    let mut res = message[record.data_at..record.data_at + 2].to_vec();
    res.extend_from_slice(&target);
    let params = message.get(after..record.data_end).ok_or(WireError::Truncated)?;
    each_param(params, |key, value| {
        if key != KEY_ECH {
            res.extend_from_slice(&key.to_be_bytes());
            res.extend_from_slice(&u16::try_from(value.len()).unwrap_or(0).to_be_bytes());
            res.extend_from_slice(value);
        }
    })?;
    Ok(res)
}

fn each_param(mut params: &[u8], mut visit: impl FnMut(u16, &[u8])) -> Result<(), WireError> {
    while !params.is_empty() {
        let (key, length) = (wire::u16_at(params, 0)?, usize::from(wire::u16_at(params, 2)?));
        let value = params.get(4..4 + length).ok_or(WireError::Truncated)?;
        visit(key, value);
        params = &params[4 + length..];
    }
    Ok(())
}
