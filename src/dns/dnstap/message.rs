//! The messages of dnstap as protocol buffers, by hand: a dozen fields that never change do not need a code generator.
//!
//! Source: dnstap.proto of the dnstap project (CC0), proto2; the encoding of protocol buffers.

use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::dns::handler::Client;
use crate::dns::send::Transport;
use crate::dns::wire::{self, flag, rcode};

/// What frames hold, as both ends of a stream name it.
pub const CONTENT_TYPE: &[u8] = b"protobuf:dnstap.Dnstap";
/// The type of policy in `Policy.type`.
const POLICY_TYPE: &str = "ICP";

/// `Message.Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `CLIENT_QUERY`.
    ClientQuery = 5,
    /// `CLIENT_RESPONSE`.
    ClientResponse = 6,
}

/// `Policy.Action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyAction {
    /// The answer is NXDOMAIN.
    Nxdomain = 1,
    /// The answer has no records.
    Nodata = 2,
    /// The answer is as it would be without the policy (observe mode).
    Pass = 3,
    /// The answer holds what the policy says.
    LocalData = 6,
}

impl PolicyAction {
    /// What a response does to a name that is blocked; `None` for codes the protocol has no word for.
    pub fn of(response: &[u8], is_enforced: bool) -> Option<Self> {
        if !is_enforced {
            return Some(Self::Pass);
        }
        let code = wire::u16_at(response, 2).ok()? & flag::RCODE;
        match (code, wire::counts(response).ok()?[1]) {
            (rcode::NXDOMAIN, _) => Some(Self::Nxdomain),
            (rcode::NOERROR, 0) => Some(Self::Nodata),
            (rcode::NOERROR, _) => Some(Self::LocalData),
            _ => None,
        }
    }
}

/// The policy that was applied to a response.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// The entry of the rule book.
    pub rule: &'a str,
    /// What was done.
    pub action: Option<PolicyAction>,
    /// The name that it was done for, in wire form: by the name of the query (`QNAME`).
    pub value: &'a [u8],
    /// Reason, domain and decision id, as the extended error has them; goes to `Dnstap.extra`.
    pub text: &'a str,
}

/// One event.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    /// Who says so; empty for nobody in particular.
    pub identity: &'a [u8],
    /// What happened.
    pub kind: Kind,
    /// Who asked, over what.
    pub client: Client,
    /// When the query came.
    pub asked_at: Option<SystemTime>,
    /// The query, where this is one.
    pub query: &'a [u8],
    /// When the response went.
    pub answered_at: Option<SystemTime>,
    /// The response, where this is one.
    pub response: &'a [u8],
    /// The policy that was applied to it.
    pub policy: Option<&'a Policy<'a>>,
}

impl Event<'_> {
    /// The `Dnstap` message.
    pub fn encode(&self) -> Vec<u8> {
        const MESSAGE: u64 = 1;
        let message = self.message();
        let mut res = Vec::with_capacity(message.len() + 64);
        if !self.identity.is_empty() {
            octets(&mut res, 1, self.identity);
        }
        octets(&mut res, 2, concat!("icpgate ", env!("CARGO_PKG_VERSION")).as_bytes());
        if let Some(policy) = self.policy {
            octets(&mut res, 3, policy.text.as_bytes());
        }
        octets(&mut res, 14, &message);
        number(&mut res, 15, MESSAGE);
        res
    }

    fn message(&self) -> Vec<u8> {
        let mut res = Vec::with_capacity(self.query.len() + self.response.len() + 128);
        let Client { addr, port, reached, transport } = self.client;
        number(&mut res, 1, self.kind as u64);
        number(&mut res, 2, if addr.is_ipv4() { 1 } else { 2 });
        number(&mut res, 3, protocol(transport));
        address(&mut res, 4, addr);
        // Both addresses are of the one family that is told.
        let reached: Option<SocketAddr> = reached.filter(|reached| reached.is_ipv4() == addr.is_ipv4());
        if let Some(reached) = reached {
            address(&mut res, 5, reached.ip());
        }
        number(&mut res, 6, u64::from(port));
        if let Some(reached) = reached {
            number(&mut res, 7, u64::from(reached.port()));
        }
        if let Some(at) = self.asked_at {
            time(&mut res, (8, 9), at);
        }
        if !self.query.is_empty() {
            octets(&mut res, 10, self.query);
        }
        if let Some(at) = self.answered_at {
            time(&mut res, (12, 13), at);
        }
        if !self.response.is_empty() {
            octets(&mut res, 14, self.response);
        }
        if let Some(policy) = self.policy {
            octets(&mut res, 15, &policy.encode());
        }
        res
    }
}

impl Policy<'_> {
    fn encode(&self) -> Vec<u8> {
        const QNAME: u64 = 1;
        let mut res = Vec::with_capacity(64);
        octets(&mut res, 1, POLICY_TYPE.as_bytes());
        octets(&mut res, 2, self.rule.as_bytes());
        if let Some(action) = self.action {
            number(&mut res, 3, action as u64);
        }
        number(&mut res, 4, QNAME);
        octets(&mut res, 5, self.value);
        res
    }
}

/// `SocketProtocol`.
fn protocol(transport: Transport) -> u64 {
    match transport {
        Transport::Udp => 1,
        Transport::Tcp => 2,
        Transport::Tls => 3,
        Transport::Https => 4,
        Transport::Quic => 7,
    }
}

fn address(res: &mut Vec<u8>, field: u64, addr: IpAddr) {
    match addr {
        IpAddr::V4(addr) => octets(res, field, &addr.octets()),
        IpAddr::V6(addr) => octets(res, field, &addr.octets()),
    }
}

/// Seconds since 1970 and the nanoseconds of the second; a clock before that says nothing.
fn time(res: &mut Vec<u8>, (seconds, nanos): (u64, u64), at: SystemTime) {
    const FIXED_32: u64 = 5;
    let Ok(since) = at.duration_since(UNIX_EPOCH) else { return };
    number(res, seconds, since.as_secs());
    varint(res, nanos << 3 | FIXED_32);
    res.extend_from_slice(&since.subsec_nanos().to_le_bytes());
}

/// A field of a number.
fn number(res: &mut Vec<u8>, field: u64, value: u64) {
    varint(res, field << 3);
    varint(res, value);
}

/// A field of octets, text or a message.
fn octets(res: &mut Vec<u8>, field: u64, value: &[u8]) {
    const LENGTH_DELIMITED: u64 = 2;
    varint(res, field << 3 | LENGTH_DELIMITED);
    varint(res, value.len() as u64);
    res.extend_from_slice(value);
}

fn varint(res: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        res.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    res.push(value.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn numbers_are_as_the_encoding_has_them() {
        for (value, expected) in [
            (0, &[0][..]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (300, &[0xac, 2]),
            (1 << 32, &[0x80, 0x80, 0x80, 0x80, 0x10]),
        ] {
            let mut res = Vec::new();
            varint(&mut res, value);
            assert_eq!(res, expected, "{value}");
        }
    }

    #[test]
    fn an_event_is_this_octet_for_octet() {
        let policy = Policy { rule: "B1", action: Some(PolicyAction::Nodata), value: b"\x02cn\0", text: "why" };
        let client = Client::new(([192, 0, 2, 1], 300).into(), Some(([192, 0, 2, 53], 53).into()), Transport::Tls);
        let at = UNIX_EPOCH + Duration::new(5, 1);
        let event = Event {
            identity: b"g",
            kind: Kind::ClientResponse,
            client,
            asked_at: Some(at),
            query: b"",
            answered_at: Some(at),
            response: b"r",
            policy: Some(&policy),
        };
        let policy = b"\x0a\x03ICP\x12\x02B1\x18\x02\x20\x01\x2a\x04\x02cn\0";
        let message = [
            &b"\x08\x06\x10\x01\x18\x03\x22\x04\xc0\0\x02\x01\x2a\x04\xc0\0\x02\x35\x30\xac\x02\x38\x35"[..],
            b"\x40\x05\x4d\x01\0\0\0\x60\x05\x6d\x01\0\0\0\x72\x01r\x7a",
            &[policy.len() as u8],
            policy,
        ]
        .concat();
        let version = concat!("icpgate ", env!("CARGO_PKG_VERSION")).as_bytes();
        let expected = [
            &b"\x0a\x01g\x12"[..],
            &[version.len() as u8],
            version,
            b"\x1a\x03why\x72",
            &[message.len() as u8],
            &message,
            b"\x78\x01",
        ];
        assert_eq!(event.encode(), expected.concat());
    }
}
