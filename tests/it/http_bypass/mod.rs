//! Every HTTP/1 bypass of the catalogue (D-H1 to D-H31), from a client's socket to what a scripted origin saw.
//!
//! U is an unfiled name (`nofile.cn`), F a filed one that is accessed here (`here.cn`). D-H16 to D-H20 on HTTP/2
//! stand in `h2_gate`, D-H27 in `tls_gate`.

mod flow;
mod heads;
mod property;
mod way;

use super::harness::http::HttpGate;

/// Sends octets over a new connection; the status of the first answer, then whether the gate closed after it.
async fn refused(gate: &HttpGate, octets: &[u8]) -> u16 {
    let mut client = gate.connect().await;
    client.send(octets).await;
    let answer = client.next_response(false).await.expect("an answer");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.rest().await.is_empty(), "nothing follows");
    answer.status
}

/// Every request is refused, and the origin sees nothing.
async fn all_refused(status: u16, requests: &[&str]) {
    let gate = HttpGate::start().await;
    for request in requests {
        assert_eq!(refused(&gate, request.as_bytes()).await, status, "{request:?}");
    }
    assert!(gate.origin.seen().is_empty(), "{:?}", gate.origin.seen());
}
