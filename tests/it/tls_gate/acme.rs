//! A certificate authority's check of control over TLS (RFC 8737) where a certificate at the gate is for the name.

use icpgate::http::counters::Handshake;
use icpgate::policy::Rules;

use super::super::harness::fixture;
use super::super::harness::h2::certificate;
use super::super::harness::tls::Sketch;
use super::super::harness::tls_origin::{Manner, retry_request};
use super::{ILLEGAL_PARAMETER, Outcome, TlsGate, UNRECOGNIZED_NAME, hello};

/// A gate with a certificate for here.cn and nofile.cn.
async fn gate(carves_out: bool) -> TlsGate {
    TlsGate::with(fixture::view(Rules::default()), |settings| {
        settings.certificates = vec![certificate("here")];
        settings.acme_carve_out = carves_out;
    })
    .await
}

/// A hello that offers these protocols.
fn offering(name: &str, protocols: &[&[u8]]) -> Vec<u8> {
    let one = |protocol: &&[u8]| [&[u8::try_from(protocol.len()).expect("short")], *protocol].concat();
    let list: Vec<u8> = protocols.iter().flat_map(one).collect();
    let length = u16::try_from(list.len()).expect("short").to_be_bytes();
    Sketch::new(name).and(16, &[&length[..], &list].concat()).stream()
}

#[tokio::test]
async fn a_check_of_control_reaches_the_origin_where_that_is_configured() {
    let gate = gate(true).await;
    let check = offering("here.cn", &[b"acme-tls/1"]);
    assert_eq!(gate.outcome(&check).await, Outcome::Passed(check));
    // Judged like all else: an unfiled name is not opened by it.
    assert_eq!(gate.outcome(&offering("nofile.cn", &[b"acme-tls/1"])).await, Outcome::Alert(UNRECOGNIZED_NAME));
    assert_eq!(gate.origin.connections(), 1);
    // With another protocol it is a client like others, and its requests are judged.
    for protocols in [&[&b"acme-tls/1"[..], b"http/1.1"][..], &[b"http/1.1", b"acme-tls/1"], &[b"acme-tls/2"], &[]] {
        let stream = if protocols.is_empty() { hello("here.cn") } else { offering("here.cn", protocols) };
        assert!(!matches!(gate.outcome(&stream).await, Outcome::Passed(_)), "{protocols:?}");
    }
    assert_eq!((gate.origin.connections(), gate.http.counters.handshakes(Handshake::Failed)), (1, 4));
}

#[tokio::test]
async fn a_second_hello_cannot_turn_a_check_into_something_else() {
    let gate = gate(true).await;
    let check = offering("here.cn", &[b"acme-tls/1"]);
    gate.origin.behave(Manner::Retry);
    for (second, passes) in [(check.clone(), true), (offering("here.cn", &[b"http/1.1"]), false)] {
        let mut client = gate.connect().await;
        client.send(&check).await;
        assert_eq!(client.octets(retry_request().len()).await, retry_request());
        client.send(&second).await;
        tokio::io::AsyncWriteExt::shutdown(&mut client.stream).await.expect("ends");
        let expected = match passes {
            true => Outcome::Passed([check.clone(), second].concat()),
            false => Outcome::Alert(ILLEGAL_PARAMETER),
        };
        assert_eq!(Outcome::read(client.rest().await), expected);
    }
}

#[tokio::test]
async fn a_check_of_control_ends_here_by_default() {
    let gate = gate(false).await;
    assert!(!matches!(gate.outcome(&offering("here.cn", &[b"acme-tls/1"])).await, Outcome::Passed(_)));
    assert_eq!((gate.origin.connections(), gate.http.counters.handshakes(Handshake::Failed)), (0, 1));
}
