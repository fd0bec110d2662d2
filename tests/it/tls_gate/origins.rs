//! Where what passes goes: fixed, meant, resolved; who is told of the client; what goes in circles.

use std::net::SocketAddr;

use icpgate::http::Settings;
use icpgate::http::counters::OriginFailure;
use icpgate::http::settings::Origin;
use icpgate::policy::{Mode, Rules};
use icpgate::proxy_header::{self, ProxyHeader, ProxyVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::harness::http::{Client, get};
use super::super::harness::tls_origin::{Manner, TlsOrigin};
use super::super::harness::upstream::{Reply, Upstream};
use super::{INTERNAL_ERROR, Outcome, TlsGate, fixture, hello};

async fn with(change: impl FnOnce(&mut Settings)) -> TlsGate {
    TlsGate::with(fixture::view(Rules::default()), change).await
}

/// A gate that asks `upstream` where names lead, and whose names may lead to loopback.
async fn resolving(upstream: &Upstream, resolve_to: &[&str]) -> TlsGate {
    let servers = vec![upstream.addr];
    let prefixes = resolve_to.iter().map(|net| net.parse().expect("a prefix")).collect();
    with(|settings| {
        settings.origin = Origin::Resolve(servers);
        settings.resolve_to = prefixes;
    })
    .await
}

/// An address with the gate's port.
fn beside(gate: &TlsGate, addr: &str) -> SocketAddr {
    SocketAddr::new(addr.parse().expect("an address"), gate.addr.port())
}

#[tokio::test]
async fn without_an_origin_tls_is_refused() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a socket").local_addr().expect("an address");
    for (fixed_tls, failure) in [(None, OriginFailure::Nowhere), (Some(nobody), OriginFailure::Connect)] {
        let gate = with(|settings| settings.fixed_tls = fixed_tls).await;
        assert_eq!(gate.outcome(&hello("here.cn")).await, Outcome::Alert(INTERNAL_ERROR));
        assert_eq!(gate.counters().origin_failures(failure), 1, "{failure:?}");
    }
    let gate = with(|settings| settings.response_timeout = std::time::Duration::from_millis(200)).await;
    for (manner, failure) in [(Manner::Close, OriginFailure::Silent), (Manner::Hang, OriginFailure::Slow)] {
        gate.origin.behave(manner);
        assert_eq!(gate.outcome(&hello("here.cn")).await, Outcome::Alert(INTERNAL_ERROR));
        assert_eq!(gate.counters().origin_failures(failure), 1, "{failure:?}");
    }
}

#[tokio::test]
async fn without_a_redirect_the_destination_is_the_gate_itself() {
    let gate = with(|settings| settings.origin = Origin::OriginalDst).await;
    assert_eq!(gate.outcome(&hello("here.cn")).await, Outcome::Alert(INTERNAL_ERROR));
    let counters = gate.counters();
    let refused = counters.origin_failures(OriginFailure::Loop) + counters.origin_failures(OriginFailure::Nowhere);
    assert_eq!(refused, 1, "the system may or may not keep destinations");
    assert_eq!(gate.http.status("here.cn").await, 502);
    assert_eq!(gate.http.status("nofile.cn").await, 451);
}

#[tokio::test]
async fn names_are_resolved_and_the_port_is_the_one_reached() {
    let upstream = Upstream::start().await;
    let gate = resolving(&upstream, &["127.0.0.0/8"]).await;
    upstream.addresses("www.here.cn", &["127.0.0.2"]);
    upstream.addresses("circle.here.cn", &["127.0.0.1"]);
    upstream.addresses("nowhere.here.cn", &["0.0.0.0", "169.254.169.254", "224.0.0.1"]);
    upstream.addresses("second.here.cn", &["127.0.0.9", "127.0.0.2"]);
    let origin = TlsOrigin::at(beside(&gate, "127.0.0.2")).await;
    for name in ["www.here.cn", "second.here.cn", "www.here.cn"] {
        assert_eq!(gate.outcome(&hello(name)).await, Outcome::Passed(hello(name)), "{name}");
    }
    assert_eq!(origin.connections(), 3);
    let asked = upstream.log().iter().filter(|asked| asked.name.starts_with("www.")).count();
    assert_eq!(asked, 2, "an answer of each family is kept");
    for (name, failure) in [
        ("circle.here.cn", OriginFailure::Loop),
        ("nowhere.here.cn", OriginFailure::Nowhere),
        ("missing.here.cn", OriginFailure::Nowhere),
    ] {
        assert_eq!(gate.outcome(&hello(name)).await, Outcome::Alert(INTERNAL_ERROR), "{name}");
        assert_eq!(
            gate.http.counters.tls.origin_failures(failure),
            1 + u64::from(name.starts_with("missing")),
            "{name}"
        );
    }
    assert_eq!(origin.connections(), 3);
}

#[tokio::test]
async fn names_do_not_lead_into_private_networks() {
    let upstream = Upstream::start().await;
    for (listed, is_reached) in [(&[][..], false), (&["127.0.0.3/32", "::1/128"], false), (&["127.0.0.2/32"], true)] {
        let gate = resolving(&upstream, listed).await;
        let origin = TlsOrigin::at(beside(&gate, "127.0.0.2")).await;
        upstream.addresses("www.here.cn", &["127.0.0.2"]);
        upstream.addresses("mapped.here.cn", &["::ffff:127.0.0.2"]);
        for name in ["www.here.cn", "mapped.here.cn"] {
            let expected = if is_reached { Outcome::Passed(hello(name)) } else { Outcome::Alert(INTERNAL_ERROR) };
            assert_eq!(gate.outcome(&hello(name)).await, expected, "{name}, {listed:?}");
        }
        assert_eq!(origin.connections(), if is_reached { 2 } else { 0 });
    }
}

#[tokio::test]
async fn an_address_that_a_client_writes_for_a_host_is_not_dialled() {
    let upstream = Upstream::start().await;
    for mode in [Mode::Observe, Mode::Off] {
        let view = fixture::view(Rules { mode, ..Rules::default() });
        let servers = vec![upstream.addr];
        let gate = TlsGate::with(view, |settings| {
            settings.origin = Origin::Resolve(servers);
            settings.resolve_to = vec!["127.0.0.0/8".parse().expect("a prefix")];
        })
        .await;
        let origin = TcpListener::bind(("127.0.0.2", gate.http.addr.port())).await.expect("a socket");
        assert_eq!(gate.http.status("127.0.0.2").await, 502, "{mode:?}");
        let accepted = tokio::time::timeout(std::time::Duration::from_millis(50), origin.accept()).await;
        assert!(accepted.is_err(), "{mode:?}");
    }
}

/// A socket that neither takes connections nor refuses them: its queue is full.
async fn dead(addr: SocketAddr) -> (socket2::Socket, Vec<tokio::task::JoinHandle<()>>) {
    let socket =
        socket2::Socket::new(socket2::Domain::for_address(addr), socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&addr.into()).expect("binds");
    socket.listen(0).expect("listens");
    let first = tokio::net::TcpStream::connect(addr).await.expect("the queue has room for one");
    let holding = tokio::spawn(async move {
        let _held = first;
        std::future::pending::<()>().await;
    });
    (socket, vec![holding])
}

#[tokio::test]
async fn a_dead_address_does_not_use_up_the_time() {
    let upstream = Upstream::start().await;
    let gate = resolving(&upstream, &["127.0.0.0/8"]).await;
    let _dead = dead(beside(&gate, "127.0.0.8")).await;
    let _origin = TlsOrigin::at(beside(&gate, "127.0.0.2")).await;
    upstream.addresses("www.here.cn", &["127.0.0.8", "127.0.0.2"]);
    assert_eq!(gate.outcome(&hello("www.here.cn")).await, Outcome::Passed(hello("www.here.cn")));
}

#[tokio::test]
async fn both_families_are_tried() {
    let upstream = Upstream::start().await;
    let gate = resolving(&upstream, &["127.0.0.0/8", "::1/128"]).await;
    let origin = TlsOrigin::at(beside(&gate, "::1")).await;
    // Nobody is at the first, the second is dead, and in the third case no IPv4 address is told at all.
    let _dead = dead(beside(&gate, "127.0.0.8")).await;
    for (name, addresses) in [
        ("one.here.cn", &["127.0.0.9", "::1"][..]),
        ("two.here.cn", &["127.0.0.8", "::1"]),
        ("three.here.cn", &["::1"]),
    ] {
        upstream.addresses(name, addresses);
        assert_eq!(gate.outcome(&hello(name)).await, Outcome::Passed(hello(name)), "{name}");
    }
    // One whose A question is never answered.
    upstream.addresses("four.here.cn", &["::1"]);
    upstream.on("four.here.cn", "A", Reply { silent: true, ..Reply::default() });
    assert_eq!(gate.outcome(&hello("four.here.cn")).await, Outcome::Passed(hello("four.here.cn")));
    assert_eq!(origin.connections(), 4);
}

#[tokio::test]
async fn requests_of_one_connection_go_where_each_name_leads() {
    let upstream = Upstream::start().await;
    let gate = resolving(&upstream, &["127.0.0.0/8"]).await;
    let (mut origins, port) = (Vec::new(), gate.http.addr.port());
    for (name, addr) in [("one.here.cn", "127.0.0.2"), ("two.here.cn", "127.0.0.3")] {
        upstream.addresses(name, &[addr]);
        origins.push(TcpListener::bind((addr, port)).await.expect("a socket"));
    }
    for (origin, who) in origins.into_iter().zip(["1", "2"]) {
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = origin.accept().await {
                let text = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{who}");
                while stream.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {
                    let _ = stream.write_all(text.as_bytes()).await;
                }
            }
        });
    }
    let mut client = Client::connect(gate.http.addr).await;
    for (name, who) in [("one.here.cn", "1"), ("two.here.cn", "2"), ("two.here.cn", "2"), ("one.here.cn", "1")] {
        client.send(get(name, "/").as_bytes()).await;
        assert_eq!(client.response().await.text(), who, "{name}");
    }
    client.send(get("nofile.cn", "/").as_bytes()).await;
    assert_eq!(client.response().await.status, 451);
    assert_eq!(gate.http.counters.origin_connections.value(), 3);
}

#[tokio::test]
async fn origins_are_told_of_the_client() {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let gate = with(|settings| {
            settings.proxy_to_origin = Some(version);
            settings.proxy_protocol_from = vec!["127.0.0.0/8".parse().expect("a prefix")];
        })
        .await;
        let said = b"PROXY TCP4 198.51.100.7 203.0.113.1 40000 443\r\n";
        let stream = [&said[..], &hello("here.cn")].concat();
        assert!(matches!(gate.outcome(&stream).await, Outcome::Passed(_)), "{version:?}");
        let seen = gate.origin.seen().pop().expect("a connection");
        let Ok(ProxyHeader::Whole { octets, addrs: Some((client, reached)) }) = proxy_header::read(&seen) else {
            panic!("no header: {seen:?}");
        };
        assert_eq!((client.to_string(), reached.to_string()), ("198.51.100.7:40000".into(), "203.0.113.1:443".into()));
        assert_eq!(seen[octets..], hello("here.cn"), "and then the hello, once");
        let has_name = seen[..octets].windows(7).any(|part| part == b"here.cn");
        assert_eq!(has_name, version == ProxyVersion::V2);
        // Without a header of a proxy, the peer.
        let mut client = gate.connect().await;
        client.send(&hello("here.cn")).await;
        client.octets(1).await;
        let seen = gate.origin.seen().pop().expect("a connection");
        let Ok(ProxyHeader::Whole { addrs: Some(addrs), .. }) = proxy_header::read(&seen) else { panic!("no header") };
        assert_eq!(addrs, (client.stream.local_addr().expect("an address"), gate.addr));
    }
}

#[tokio::test]
async fn origins_of_http_are_told_of_the_client_once_a_connection() {
    let origin = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let addr = origin.local_addr().expect("an address");
    let gate = with(|settings| {
        settings.origin = Origin::Fixed(addr);
        settings.proxy_to_origin = Some(ProxyVersion::V1);
    })
    .await;
    let serving = tokio::spawn(async move {
        let (mut stream, _) = origin.accept().await.expect("a connection");
        let mut seen = Vec::new();
        for requests in 1..=2 {
            while seen.windows(4).filter(|part| part == b"\r\n\r\n").count() < requests {
                stream.read_buf(&mut seen).await.expect("reads");
            }
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.expect("writes");
        }
        String::from_utf8(seen).expect("a text")
    });
    let mut client = Client::connect(gate.http.addr).await;
    for _ in 0..2 {
        client.send(get("here.cn", "/").as_bytes()).await;
        assert_eq!(client.response().await.status, 204);
    }
    let (seen, from) = (serving.await.expect("no panic inside"), client.stream.local_addr().expect("an address"));
    let header =
        format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nGET / HTTP/1.1\r\n", from.port(), gate.http.addr.port());
    assert!(seen.starts_with(&header), "{seen}");
    assert_eq!(seen.matches("PROXY ").count(), 1);
}
