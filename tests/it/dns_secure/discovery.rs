//! What the resolver says of itself.

use hickory_proto::op::ResponseCode;
use icpgate::dns::wire;
use icpgate::policy::Rules;

use super::gate_with;
use crate::harness::dns::{Answer, Ask, DnsGate};
use crate::harness::fixture;

/// The data of the answers.
fn data(answer: &Answer) -> Vec<Vec<u8>> {
    let records = wire::records(&answer.0).expect("a well-formed answer");
    let answers = records.iter().filter(|record| record.section == wire::Section::Answer);
    answers.map(|record| record.data(&answer.0).to_vec()).collect()
}

/// A record with `here.cn` on a port of loopback.
fn service(priority: u8, alpn: &[u8], port: u16, path: Option<&[u8]>) -> Vec<u8> {
    let mut res = [&[0, priority][..], b"\x04here\x02cn\x00"].concat();
    let mut param = |key: u8, value: &[u8]| {
        res.extend_from_slice(&[0, key, 0, u8::try_from(value.len()).expect("short")]);
        res.extend_from_slice(value);
    };
    param(1, alpn);
    param(3, &port.to_be_bytes());
    param(4, &[127, 0, 0, 1]);
    if let Some(path) = path {
        param(7, path);
    }
    res
}

#[tokio::test]
async fn the_encrypted_transports_are_told() {
    let gate = gate_with(|_| {}).await;
    let [tls, https, quic] = gate.secure.map(|addr| addr.expect("it listens").port());
    let answer = gate.ask("_dns.resolver.arpa", "SVCB").await;
    assert_eq!(answer.code(), ResponseCode::NoError);
    let expected = [
        service(1, b"\x03dot", tls, None),
        service(2, b"\x03doq", quic, None),
        service(3, b"\x02h2\x08http/1.1", https, Some(b"/dns-query{?dns}")),
    ];
    assert_eq!(data(&answer), expected);
    // As other people's reader sees it.
    assert_eq!(answer.message().answers.len(), 3);
    assert!(gate.ask("_dns.resolver.arpa", "A").await.message().answers.is_empty());
    assert_eq!(gate.ask("other.resolver.arpa", "A").await.code(), ResponseCode::NXDomain);
    assert!(gate.upstream.log().is_empty(), "nothing leaves the machine");
}

#[tokio::test]
async fn the_information_is_ours() {
    let gate = gate_with(|_| {}).await;
    let answer = gate.ask_as(&Ask { recursion_desired: false, ..Ask::new("resolver.arpa", "TYPE261") }).await;
    assert!(answer.message().metadata.authoritative, "clients discard it otherwise");
    assert_eq!(data(&answer), [b"\x40exterr=1,2,3,5,6,7,8,9,10,11,12,13,14,16,18,19,21,22,23,24,25,27".to_vec()]);
}

#[tokio::test]
async fn without_encrypted_transports_there_is_nothing_to_tell() {
    let gate = DnsGate::start().await;
    let answer = gate.ask("_dns.resolver.arpa", "SVCB").await;
    assert_eq!((answer.code(), answer.message().answers.len()), (ResponseCode::NoError, 0));
    // Nobody resolves here.
    let gate = DnsGate::with(fixture::view(Rules::default()), |settings| settings.upstreams.clear()).await;
    assert_eq!(gate.ask("_dns.resolver.arpa", "SVCB").await.code(), ResponseCode::Refused);
}
