//! Cookies and limits on rates, over real sockets.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::opt::EdnsOption;
use icpgate::dns::Settings;
use icpgate::dns::cookies::Cookies;
use icpgate::dns::rate::RateLimit;
use icpgate::policy::Rules;
use tokio::net::UdpSocket;

use crate::harness::dns::{Answer, Ask, DnsGate, PATIENCE, over_tcp, over_udp};
use crate::harness::fixture;

const COOKIE: u16 = 10;
const CLIENT: [u8; 8] = *b"a client";

async fn gate(change: impl FnOnce(&mut Settings)) -> DnsGate {
    let gate = DnsGate::with(fixture::view(Rules::default()), change).await;
    gate.upstream.addresses("www.nofile.cn", &["203.0.113.1"]);
    gate.upstream.addresses("www.far.net", &["192.0.2.1"]);
    gate
}

fn with_cookie(name: &str, cookie: &[u8]) -> Vec<u8> {
    Ask { options: vec![(COOKIE, cookie.to_vec())], ..Ask::new(name, "A") }.octets()
}

fn cookie_of(answer: &[u8]) -> Option<Vec<u8>> {
    let edns = Answer(answer.to_vec()).message().edns?;
    edns.options().as_ref().iter().find_map(|(key, option)| match option {
        EdnsOption::Unknown(_, data) if u16::from(*key) == COOKIE => Some(data.clone()),
        _ => None,
    })
}

#[tokio::test]
async fn clients_with_cookies_get_ours_and_others_see_none() {
    let gate = gate(|_| {}).await;
    for name in ["www.nofile.cn", "www.far.net", "www.nofile.cn", "www.far.net"] {
        let answer = over_udp(gate.addr, &with_cookie(name, &CLIENT), PATIENCE).await.expect("an answer");
        let cookie = cookie_of(&answer).expect("a cookie");
        assert_eq!((cookie.len(), &cookie[..8]), (24, &CLIENT[..]));
        // A cached answer has nobody else's cookie.
        let other = over_udp(gate.addr, &with_cookie(name, b"another1"), PATIENCE).await.expect("an answer");
        assert_ne!(cookie_of(&other).expect("a cookie")[8..], cookie[8..]);
        let without = over_udp(gate.addr, &Ask::new(name, "A").octets(), PATIENCE).await.expect("an answer");
        assert_eq!(cookie_of(&without), None);
        let tcp = over_tcp(gate.addr, &with_cookie(name, &CLIENT)).await.expect("an answer");
        assert_eq!(cookie_of(&tcp).expect("a cookie").len(), 24);
    }
    // RFC 7873 section 5.2.2: lengths that no cookie has.
    for length in [0, 1, 7, 9, 15, 41, 200] {
        let answer = over_udp(gate.addr, &with_cookie("www.far.net", &vec![7; length]), PATIENCE).await.expect("one");
        assert_eq!(Answer(answer).code(), ResponseCode::FormErr, "{length}");
    }
    // Another server's cookie is as good as none.
    for length in [16, 17, 24, 40] {
        let answer = over_udp(gate.addr, &with_cookie("www.far.net", &vec![7; length]), PATIENCE).await.expect("one");
        assert_eq!(
            (Answer(answer.clone()).code(), cookie_of(&answer).map(|all| all.len())),
            (ResponseCode::NoError, Some(24))
        );
    }
}

#[tokio::test]
async fn cookies_can_be_turned_off_and_shared() {
    let off = gate(|settings| settings.cookies = false).await;
    let answer = over_udp(off.addr, &with_cookie("www.far.net", &CLIENT), PATIENCE).await.expect("an answer");
    assert_eq!(cookie_of(&answer), None);
    let secret = [9; 16];
    let shared = gate(|settings| settings.cookie_secrets = vec![secret]).await;
    let answer = over_udp(shared.addr, &with_cookie("www.far.net", &CLIENT), PATIENCE).await.expect("an answer");
    let cookie = cookie_of(&answer).expect("a cookie");
    let expected = Cookies::new(&[secret]).answer(CLIENT, "127.0.0.1".parse().expect("one"), shared.view.now());
    assert_eq!(cookie, expected);
}

/// Asks over one socket, as often as `count`; the answers, whole and short ones.
async fn ask(gate: &DnsGate, packet: &[u8], count: usize) -> (usize, usize) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let (mut whole, mut short, mut answer) = (0, 0, [0; 4096]);
    for _ in 0..count {
        socket.send_to(packet, gate.addr).await.expect("sends");
        let received =
            tokio::time::timeout(PATIENCE, socket.recv(&mut answer)).await.expect("in time").expect("receives");
        let is_short = answer[2] & 2 != 0;
        assert!(!is_short || received <= packet.len() + 16, "a short answer is no larger than its query and a cookie");
        *(if is_short { &mut short } else { &mut whole }) += 1;
    }
    (whole, short)
}

#[tokio::test]
async fn rates_are_limited_over_udp_for_who_shows_no_cookie() {
    let limit = |slip| RateLimit { responses_per_second: 5, slip, ..RateLimit::default() };
    let gate = gate(|settings| settings.rate_limit = limit(1)).await;
    let plain = Ask::new("www.nofile.cn", "A").octets();
    // The first ones may take longer than the clock, which stands, does.
    assert_eq!(ask(&gate, &plain, 20).await, (5, 15));
    assert_eq!(gate.counters.limited_slipped.value(), 15);
    assert_eq!(ask(&gate, &Ask::new("www.far.net", "A").octets(), 3).await, (3, 0), "another name");
    let client_only = with_cookie("www.nofile.cn", &CLIENT);
    let answer = over_udp(gate.addr, &client_only, PATIENCE).await.expect("a short answer");
    assert_ne!(answer[2] & 2, 0);
    let cookie = cookie_of(&answer).expect("with a cookie");
    assert_eq!(ask(&gate, &with_cookie("www.nofile.cn", &cookie), 20).await, (20, 0));
    let mut forged = cookie;
    forged[23] ^= 1;
    assert_eq!(ask(&gate, &with_cookie("www.nofile.cn", &forged), 5).await, (0, 5));
    for _ in 0..10 {
        let answer = over_tcp(gate.addr, &plain).await.expect("an answer");
        assert!(Answer(answer).is_blocked());
    }
}

#[tokio::test]
async fn what_is_over_the_limit_is_dropped_and_counted() {
    let limit = RateLimit { responses_per_second: 5, slip: 0, ..RateLimit::default() };
    let gate = gate(|settings| settings.rate_limit = limit).await;
    let plain = Ask::new("www.nofile.cn", "A").octets();
    assert_eq!(ask(&gate, &plain, 5).await, (5, 0));
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    for _ in 0..10 {
        socket.send_to(&plain, gate.addr).await.expect("sends");
    }
    // One socket of the gate takes what comes in order: behind the ten comes this.
    socket.send_to(&Ask::new("www.far.net", "A").octets(), gate.addr).await.expect("sends");
    let mut answer = [0; 4096];
    let received = tokio::time::timeout(PATIENCE, socket.recv(&mut answer)).await.expect("in time").expect("receives");
    assert_eq!(Answer(answer[..received].to_vec()).addresses(), ["192.0.2.1"]);
    assert_eq!((gate.counters.limited_dropped.value(), gate.counters.limited_slipped.value()), (10, 0));
}

#[tokio::test]
async fn one_client_cannot_take_all_places_of_waiting_questions() {
    use crate::harness::upstream::Reply;
    let gate = gate(|settings| {
        settings.inflight_max = 10;
        settings.inflight_per_client_max = 3;
        // Nothing that waits ends before the test does.
        settings.upstream_timeout = 6 * PATIENCE;
        settings.resolve_timeout = 6 * PATIENCE;
    })
    .await;
    for n in 0..20 {
        gate.upstream.on(&format!("slow{n}.far.net"), "A", Reply { silent: true, ..Reply::default() });
    }
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    for n in 0..12 {
        socket.send_to(&Ask::new(&format!("slow{n}.far.net"), "A").octets(), gate.addr).await.expect("sends");
    }
    // While there is room it has more than its share, and not all of it: half is left for others.
    let mut answer = [0; 4096];
    let received = tokio::time::timeout(PATIENCE, socket.recv(&mut answer)).await.expect("in time").expect("receives");
    assert_eq!(Answer(answer[..received].to_vec()).code(), ResponseCode::ServFail);
    let begun = std::time::Instant::now();
    while gate.counters.overloaded.value() < 7 {
        assert!(begun.elapsed() < PATIENCE, "{} refused", gate.counters.overloaded.value());
        tokio::task::yield_now().await;
    }
    // A client elsewhere has a place.
    let other = UdpSocket::bind("127.0.0.2:0").await.expect("a socket");
    other.send_to(&Ask::new("www.far.net", "A").octets(), gate.addr).await.expect("sends");
    let received = tokio::time::timeout(PATIENCE, other.recv(&mut answer)).await.expect("in time").expect("receives");
    assert_eq!(Answer(answer[..received].to_vec()).addresses(), ["192.0.2.1"]);
    assert_eq!(gate.counters.overloaded.value(), 7, "of twelve, three as its share and two while half was free");
}
