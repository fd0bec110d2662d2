//! What clients ask about the resolver itself: where it is encrypted (RFC 9462) and what it does (RFC 9606).
//!
//! Names below `resolver.arpa` belong to whoever is asked and never leave the machine as questions (RFC 9462 section 6.4).
//! The records are made of the listeners: a transport is told of where it is served and its certificate names somebody.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::edns::info_code;
use super::question::Question;
use super::rewrite::Finished;
use super::secure::Servers;
use super::send::Transport;
use super::settings::Settings;
use super::svcb::{KEY_ALPN, KEY_DOHPATH, KEY_IPV4HINT, KEY_IPV6HINT, KEY_PORT};
use super::wire::{self, Section, Writer, flag, rcode, rtype};
use crate::model::NameRef;

/// `resolver.arpa` in canonical wire form (RFC 9462 section 4).
const RESOLVER: &[u8] = b"\x08resolver\x04arpa\x00";
/// `_dns.resolver.arpa`.
const SERVICES: &[u8] = b"\x04_dns\x08resolver\x04arpa\x00";
/// TTL of what is told: listeners and certificates change with a restart or a reload.
const TTL_SECONDS: u32 = 300;
/// Addresses in one record, of each family.
const HINTS_MAX: usize = 8;

/// A transport in a record, the preferred one first: what opens connections fastest.
const SERVED: [(Transport, u16, &[&str]); 3] =
    [(Transport::Tls, 853, &["dot"]), (Transport::Quic, 853, &["doq"]), (Transport::Https, 443, &["h2", "http/1.1"])];

/// True for `resolver.arpa` and names below it.
pub fn is_about_us(name: NameRef<'_>) -> bool {
    // The first compare tells nearly all others.
    name.wire().ends_with(RESOLVER) && name.is_at_or_below(NameRef::from_canonical_wire(RESOLVER))
}

/// The answer to a question for which [`is_about_us`]. `flags` are those of our own answers.
pub fn answer(question: &Question, settings: &Settings, servers: &Servers, flags: u16) -> Finished {
    let octets = wire::question_octets(question.name.as_ref(), question.qtype, question.qclass);
    let code = if matches!(question.name.wire(), RESOLVER | SERVICES) { rcode::NOERROR } else { rcode::NXDOMAIN };
    // RFC 9606 section 3 has clients discard an answer without AA.
    let mut writer = Writer::new(0, flag::QR | flag::AA | flags | code, &octets);
    let mut add = |data: &[u8]| {
        writer.record(Section::Answer, question.name.wire(), question.qtype, question.qclass, TTL_SECONDS, data);
    };
    match (question.name.wire(), question.qtype) {
        (SERVICES, rtype::SVCB) => services(settings, servers).iter().for_each(|data| add(data)),
        (RESOLVER, rtype::RESINFO) => add(&information(settings)),
        _ => {}
    }
    Finished::own(writer.finish())
}

/// The data of one SVCB record for each transport and port (RFC 9461, RFC 9462 section 4).
fn services(settings: &Settings, servers: &Servers) -> Vec<Vec<u8>> {
    let mut res = Vec::new();
    for (priority, (transport, port, protocols)) in (1u16..).zip(SERVED) {
        let Some(name) = servers.get(transport).and_then(|server| server.name.as_ref()) else { continue };
        let listen = match transport {
            Transport::Https => &settings.https.listen,
            Transport::Quic => &settings.quic.listen,
            _ => &settings.tls.listen,
        };
        let mut ports: Vec<u16> = listen.iter().map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports.dedup();
        for own in ports {
            let mut data = priority.to_be_bytes().to_vec();
            data.extend_from_slice(name.wire());
            let names = protocols.iter().flat_map(|name| [&[name.len() as u8], name.as_bytes()].concat());
            param(&mut data, KEY_ALPN, &names.collect::<Vec<u8>>());
            if own != port {
                param(&mut data, KEY_PORT, &own.to_be_bytes());
            }
            let at =
                listen.iter().filter(|addr| addr.port() == own).map(SocketAddr::ip).filter(|ip| !ip.is_unspecified());
            let (four, six): (Vec<IpAddr>, Vec<IpAddr>) = at.partition(IpAddr::is_ipv4);
            param(&mut data, KEY_IPV4HINT, &hints(&four));
            param(&mut data, KEY_IPV6HINT, &hints(&six));
            if transport == Transport::Https {
                param(&mut data, KEY_DOHPATH, format!("{}{{?dns}}", settings.https_path).as_bytes());
            }
            res.push(data);
        }
    }
    res
}

fn hints(addrs: &[IpAddr]) -> Vec<u8> {
    let octets = |addr: &IpAddr| match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    };
    addrs.iter().take(HINTS_MAX).flat_map(octets).collect()
}

/// Appends a parameter that says something; keys must ascend (RFC 9460 section 2.2).
fn param(data: &mut Vec<u8>, key: u16, value: &[u8]) {
    let Ok(length @ 1..) = u16::try_from(value.len()) else { return };
    data.extend_from_slice(&key.to_be_bytes());
    data.extend_from_slice(&length.to_be_bytes());
    data.extend_from_slice(value);
}

/// The data of a RESINFO record: the extended errors that may be sent (RFC 9606 section 5).
fn information(settings: &Settings) -> Vec<u8> {
    let own = [
        settings.block.ede_code,
        info_code::STALE_ANSWER,
        info_code::NOT_READY,
        info_code::PROHIBITED,
        info_code::STALE_NXDOMAIN,
        info_code::NOT_SUPPORTED,
        info_code::NO_REACHABLE_AUTHORITY,
        info_code::NETWORK_ERROR,
        info_code::INVALID_DATA,
    ];
    let codes: BTreeSet<u16> = own.into_iter().chain(settings.ede_pass.iter().copied()).collect();
    let text = format!("exterr={}", codes.iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
    // A character string has at most 255 octets: `PASSED_MAX` keeps to that.
    [&[u8::try_from(text.len()).unwrap_or(0)], text.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::edns::PASSED_MAX;
    use crate::model::DomainName;

    #[test]
    fn names_about_us_are_told_by_labels() {
        for (name, expected) in
            [("resolver.arpa", true), ("_DNS.Resolver.arpa", true), ("arpa", false), ("xresolver.arpa", false)]
        {
            let name = DomainName::from_text(name).expect(name);
            assert_eq!(is_about_us(name.as_ref()), expected, "{name}");
        }
        // Octets of the name inside a longer label.
        let (odd, _) = DomainName::from_wire(b"\x0aa\x08resolver\x04arpa\x00").expect("a name");
        assert!(!is_about_us(odd.as_ref()));
    }

    #[test]
    fn the_information_is_one_character_string() {
        let few = Settings { ede_pass: vec![6, 22], ..Settings::new() };
        let data = information(&few);
        assert_eq!(&data[1..], b"exterr=3,6,14,16,18,19,21,22,23,24");
        assert_eq!(usize::from(data[0]), data.len() - 1);
        let many = Settings { ede_pass: (0..PASSED_MAX as u16).map(|i| 65_535 - i).collect(), ..Settings::new() };
        let data = information(&many);
        assert_eq!(usize::from(data[0]), data.len() - 1);
    }
}
