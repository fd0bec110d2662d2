//! The second hello after a HelloRetryRequest (D-T11).

use icpgate::http::tls::counters::Retry;
use tokio::io::AsyncWriteExt;

use super::super::harness::http::Client;
use super::super::harness::tls::{octets, record, records, rows};
use super::super::harness::tls_origin::{Manner, answer, retry_request};
use super::{ILLEGAL_PARAMETER, Outcome, TlsGate, UNEXPECTED_MESSAGE, hello};

/// A client that has sent a first hello for F and got the request for another.
async fn asked_again(gate: &TlsGate) -> Client {
    gate.origin.behave(Manner::Retry);
    let mut client = gate.connect().await;
    client.send(&hello("here.cn")).await;
    assert_eq!(client.octets(retry_request().len()).await, retry_request());
    client
}

#[tokio::test]
async fn t11_a_second_hello_for_the_same_name_passes() {
    let gate = TlsGate::start().await;
    for second in [hello("here.cn"), hello("HERE.cn."), [record(20, &[1]), hello("here.cn")].concat()] {
        let mut client = asked_again(&gate).await;
        for piece in second.chunks(100) {
            client.send(piece).await;
            tokio::task::yield_now().await;
        }
        client.stream.shutdown().await.expect("ends");
        let both = [hello("here.cn"), second].concat();
        assert_eq!(Outcome::read(client.rest().await), Outcome::Passed(both.clone()));
        assert_eq!(gate.origin.seen().last(), Some(&both), "unchanged");
    }
    assert_eq!(gate.counters().retries(Retry::SameName), 3);
}

#[tokio::test]
async fn t11_a_second_hello_for_another_name_goes_nowhere() {
    let gate = TlsGate::start().await;
    let message = super::Sketch::new("nofile.cn").message();
    let in_pieces = records(&message, &(1..message.len()).collect::<Vec<_>>());
    let nameless = super::Sketch::with(Vec::new()).stream();
    for second in
        [hello("nofile.cn"), [record(20, &[1]), hello("nofile.cn")].concat(), in_pieces, nameless, hello("www.here.cn")]
    {
        let mut client = asked_again(&gate).await;
        client.send(&second).await;
        assert_eq!(Outcome::read(client.rest().await), Outcome::Alert(ILLEGAL_PARAMETER));
        assert_eq!(gate.origin.seen().last(), Some(&hello("here.cn")), "nothing of the second");
    }
    assert_eq!(gate.counters().retries(Retry::OtherName), 5);
    let mut client = asked_again(&gate).await;
    client.send(&record(21, &[2, 40])).await;
    assert_eq!(Outcome::read(client.rest().await), Outcome::Alert(UNEXPECTED_MESSAGE), "what is no hello either");
    assert_eq!(gate.counters().retries(Retry::Unread), 1);
}

#[tokio::test]
async fn t11_a_second_hello_on_the_heels_of_the_first_waits_for_the_answer() {
    let gate = TlsGate::start().await;
    gate.origin.behave(Manner::Retry);
    for between in [Vec::new(), record(20, &[1]), record(23, &[1; 500])] {
        let mut client = gate.connect().await;
        client.send(&[hello("here.cn"), between, hello("nofile.cn")].concat()).await;
        let got = client.rest().await;
        let alert = got.strip_prefix(&retry_request()[..]).expect("the request first").to_vec();
        assert_eq!(Outcome::read(alert), Outcome::Alert(ILLEGAL_PARAMETER));
        assert_eq!(gate.origin.seen().last(), Some(&hello("here.cn")));
    }
    // Two in one record: the rest of the record stays here as well.
    let both = [super::Sketch::new("here.cn").message(), super::Sketch::new("nofile.cn").message()].concat();
    let mut client = gate.connect().await;
    client.send(&records(&both, &[])).await;
    let got = client.rest().await;
    assert_eq!(got[retry_request().len()..], [21, 3, 3, 0, 2, 2, ILLEGAL_PARAMETER]);
    let seen = gate.origin.seen().pop().expect("a connection");
    assert!(!seen.windows(9).any(|part| part == b"nofile.cn"));
}

#[tokio::test]
async fn t11_an_unanswered_hello_holds_what_follows() {
    let gate = TlsGate::start().await;
    gate.origin.behave(Manner::Hang);
    let mut client = gate.connect().await;
    client.send(&[hello("here.cn"), hello("nofile.cn")].concat()).await;
    super::until("the first hello goes on", || gate.origin.seen().first() == Some(&hello("here.cn"))).await;
    assert_eq!(gate.origin.seen(), [hello("here.cn")]);
}

#[tokio::test]
async fn t11_recorded_second_hellos_pass() {
    let gate = TlsGate::start().await;
    gate.origin.behave(Manner::Retry);
    let mut filings = super::fixture::filings();
    for name in ["example.cn", "example.com.cn", "xn--fsqu00a.xn--fiqs8s"] {
        filings.push(super::fixture::filed(name, &[super::fixture::PROVIDER]));
    }
    gate.http.publish(filings);
    let mut count = 0;
    for row in rows("hello-retry") {
        let first = octets(row.first_flight.as_deref().expect("a first flight"));
        let second = octets(row.second_flight.as_deref().expect("a second flight"));
        let mut client = gate.connect().await;
        client.send(&first).await;
        if client.octets(7).await[0] != 22 {
            continue;
        }
        client.octets(retry_request().len() - 7).await;
        client.send(&second).await;
        assert_eq!(client.octets(answer().len()).await, answer(), "{}", row.id);
        assert_eq!(gate.origin.seen().last(), Some(&[first, second].concat()), "{}", row.id);
        count += 1;
    }
    assert!(count > 0, "{count}");
}
