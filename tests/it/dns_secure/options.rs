//! Options of OPT: padding, keepalive, NSID, each where it has its place.

use hickory_proto::rr::rdata::opt::EdnsOption;

use super::{Quic, gate_with, over_tls};
use crate::harness::dns::{Answer, Ask, PATIENCE, over_tcp, over_udp};

const NSID: u16 = 3;
const KEEPALIVE: u16 = 11;
const PADDING: u16 = 12;

fn option(answer: &[u8], code: u16) -> Option<Vec<u8>> {
    let message = Answer(answer.to_vec()).message();
    let edns = message.edns?;
    edns.options().as_ref().iter().find_map(|(key, option)| match option {
        EdnsOption::Unknown(_, data) if u16::from(*key) == code => Some(data.clone()),
        EdnsOption::NSID(data) if code == NSID => Some(data.as_ref().to_vec()),
        _ => None,
    })
}

fn asking(options: &[(u16, &[u8])]) -> Vec<u8> {
    let options = options.iter().map(|(code, data)| (*code, data.to_vec())).collect();
    Ask { options, ..Ask::new("www.nofile.cn", "A") }.octets()
}

#[tokio::test]
async fn encrypted_answers_are_padded_to_whom_pads() {
    let gate = gate_with(|_| {}).await;
    gate.upstream.addresses("www.nofile.cn", &["203.0.113.1"]);
    let padded = asking(&[(PADDING, &[0; 20])]);
    let quic = Quic::connect(&gate).await;
    for answer in [over_tls(&gate, &padded).await.expect("an answer"), quic.ask(&padded).await.expect("an answer")] {
        assert_eq!(answer.len(), 468);
        assert!(option(&answer, PADDING).expect("padding").iter().all(|octet| *octet == 0));
        assert!(Answer(answer).is_blocked(), "with its extended error");
    }
    let udp = over_udp(gate.addr, &padded, PATIENCE).await.expect("an answer");
    let tcp = over_tcp(gate.addr, &padded).await.expect("an answer");
    let tls = over_tls(&gate, &asking(&[])).await.expect("an answer");
    for answer in [udp, tcp, tls] {
        assert_eq!(option(&answer, PADDING), None);
    }
}

#[tokio::test]
async fn long_answers_are_padded_to_the_next_block() {
    let gate = gate_with(|_| {}).await;
    let addresses: Vec<String> = (0..40).map(|n| format!("192.0.2.{n}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    gate.upstream.addresses("www.far.net", &addresses);
    let ask = Ask { options: vec![(PADDING, Vec::new())], ..Ask::new("www.far.net", "A") };
    let answer = over_tls(&gate, &ask.octets()).await.expect("an answer");
    assert_eq!(answer.len(), 936);
    assert_eq!(Answer(answer).addresses().len(), 40);
}

#[tokio::test]
async fn the_idle_time_is_told_where_it_counts() {
    let gate = gate_with(|_| {}).await;
    gate.upstream.addresses("www.nofile.cn", &["203.0.113.1"]);
    let packet = asking(&[(KEEPALIVE, &[])]);
    let tcp = over_tcp(gate.addr, &packet).await.expect("an answer");
    let tls = over_tls(&gate, &packet).await.expect("an answer");
    // Ten seconds, in tenths.
    for answer in [tcp, tls] {
        assert_eq!(option(&answer, KEEPALIVE), Some(vec![0, 100]));
    }
    let udp = over_udp(gate.addr, &packet, PATIENCE).await.expect("an answer");
    assert_eq!(option(&udp, KEEPALIVE), None, "RFC 7828 section 3.2.1");
    let unasked = over_tls(&gate, &asking(&[])).await.expect("an answer");
    assert_eq!(option(&unasked, KEEPALIVE), None);
}

#[tokio::test]
async fn the_servers_identity_is_told_to_who_asks() {
    let gate = gate_with(|settings| settings.nsid = "gate-1".to_owned()).await;
    gate.upstream.addresses("www.nofile.cn", &["203.0.113.1"]);
    let packet = asking(&[(NSID, &[])]);
    let udp = over_udp(gate.addr, &packet, PATIENCE).await.expect("an answer");
    let tls = over_tls(&gate, &packet).await.expect("an answer");
    for answer in [udp, tls] {
        assert_eq!(option(&answer, NSID).as_deref(), Some(&b"gate-1"[..]));
    }
    let unasked = over_udp(gate.addr, &asking(&[]), PATIENCE).await.expect("an answer");
    assert_eq!(option(&unasked, NSID), None);
    let nameless = gate_with(|_| {}).await;
    let answer = over_udp(nameless.addr, &packet, PATIENCE).await.expect("an answer");
    assert_eq!(option(&answer, NSID), None);
}
