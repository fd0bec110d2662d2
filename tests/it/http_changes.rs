//! Requests of HTTP/1 that are in work, and streams they were upgraded to, while the verdict on their name changes.

use std::time::Duration;

use icpgate::http::counters::RequestOutcome;
use icpgate::policy::Rules;
use tokio::time::timeout;

use super::harness::fixture::{self, filed};
use super::harness::http::{Client, HttpGate, PATIENCE, Reply, get};

/// Longer than it takes until the gate has looked at a change, and than the short grace below.
const LOOKED_AT: Duration = Duration::from_millis(300);

/// A gate before an origin that never ends its answers, and that speaks WebSocket.
async fn endless(grace: Option<Duration>) -> HttpGate {
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| settings.blocked_tunnel_grace = grace).await;
    gate.origin.on("/", Reply::Octets(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbegun".to_vec()));
    gate.origin.on(
        "/ws",
        Reply::Echo(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".to_vec()),
    );
    gate
}

/// A request whose answer has begun.
async fn begun(gate: &HttpGate, host: &str) -> Client {
    let mut client = gate.connect().await;
    client.send(get(host, "/").as_bytes()).await;
    let mut seen = Vec::new();
    while !seen.ends_with(b"begun") {
        seen.extend(client.octets(1).await);
    }
    client
}

/// A stream of WebSocket.
async fn upgraded(gate: &HttpGate) -> Client {
    let mut client = gate.connect().await;
    client.send(b"GET /ws HTTP/1.1\r\nHost: here.cn\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert_eq!(client.next_response(true).await.expect("an answer").status, 101);
    assert!(echoes(&mut client).await);
    client
}

async fn echoes(client: &mut Client) -> bool {
    client.send(b"ping").await;
    client.octets(4).await == b"ping"
}

/// Publishes `rows` and waits until the gate has looked at them.
async fn publish(gate: &HttpGate, rows: Vec<icpgate::registry::Filing>) {
    let mut changes = gate.gate.changes().follow();
    gate.publish(rows);
    timeout(PATIENCE, changes.changed()).await.expect("in time").expect("news");
}

#[tokio::test]
async fn a_request_in_work_ends_after_the_grace_once_its_name_is_blocked() {
    let gate = endless(Some(Duration::from_millis(100))).await;
    gate.publish([fixture::filings(), vec![filed("far.cn", &["self"])]].concat());
    let (mut here, mut far) = (begun(&gate, "here.cn").await, begun(&gate, "far.cn").await);
    publish(&gate, vec![filed("far.cn", &["self"])]).await;
    assert!(here.rest().await.is_empty(), "it is cut");
    assert_eq!(gate.counters.requests(RequestOutcome::Blocked), 1);
    assert!(timeout(LOOKED_AT, far.octets(1)).await.is_err(), "another name's goes on");
}

#[tokio::test]
async fn an_upgraded_stream_ends_with_its_filing() {
    let gate = endless(Some(Duration::from_millis(100))).await;
    let mut client = upgraded(&gate).await;
    publish(&gate, Vec::new()).await;
    assert!(client.rest().await.is_empty());
    assert_eq!(gate.counters.upgrades_ended.value(), 1);
}

#[tokio::test]
async fn what_is_open_has_the_grace_or_is_kept() {
    for grace in [None, Some(Duration::from_secs(600))] {
        let gate = endless(grace).await;
        let (mut request, mut stream) = (begun(&gate, "here.cn").await, upgraded(&gate).await);
        // Two looks: streams used to end with the next one.
        for rows in [Vec::new(), vec![filed("far.cn", &["self"])]] {
            publish(&gate, rows).await;
            assert!(timeout(LOOKED_AT, request.octets(1)).await.is_err(), "{grace:?}");
        }
        assert!(echoes(&mut stream).await, "{grace:?}");
        assert_eq!(gate.counters.upgrades_ended.value(), 0);
        assert_eq!(gate.status("here.cn").await, 451, "new requests are judged anew");
    }
}

#[tokio::test]
async fn a_grace_goes_on_across_an_upgrade_and_ends_when_the_name_is_filed_again() {
    let gate = endless(Some(Duration::from_millis(1500))).await;
    let mut client = upgraded(&gate).await;
    publish(&gate, Vec::new()).await;
    publish(&gate, fixture::filings()).await;
    // A further look is later than the end of the grace would have been.
    publish(&gate, [fixture::filings(), vec![filed("far.cn", &["self"])]].concat()).await;
    assert!(echoes(&mut client).await);
    assert_eq!(gate.counters.upgrades_ended.value(), 0);
}
