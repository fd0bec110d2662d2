//! What stands in a hello: names, lengths, lists, versions, and what follows it (D-T1 to D-T10, D-T13 to D-T16, D-T19 to
//! D-T21), and which protocol stands on which port (D-H26, D-H27).

use icpgate::http::hello::HelloFault;
use icpgate::http::tls::counters::Outcome as Counted;
use icpgate::policy::{IpSite, Rules};

use super::super::harness::fixture;
use super::super::harness::http::{Client, get};
use super::super::harness::tls::{Sketch, record, records, server_name};
use super::{DECODE_ERROR, ILLEGAL_PARAMETER, Outcome, TlsGate, UNRECOGNIZED_NAME, hello};

#[tokio::test]
async fn t01_hello_in_many_segments() {
    let gate = TlsGate::start().await;
    for name in ["here.cn", "nofile.cn"] {
        let stream = Sketch::new(name).padded_to(1800).stream();
        let expected =
            if name == "here.cn" { Outcome::Passed(stream.clone()) } else { Outcome::Alert(UNRECOGNIZED_NAME) };
        let octets: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(gate.outcome_of(&octets).await, expected, "octet by octet");
        assert_eq!(gate.outcome_of(&stream.chunks(1448).collect::<Vec<_>>()).await, expected, "as on Ethernet");
    }
    assert_eq!(gate.origin.connections(), 2);
    assert!(gate.counters().hellos_in(1) + gate.counters().hellos_in(4) >= 2);
}

#[tokio::test]
async fn t02_hello_in_many_records() {
    let gate = TlsGate::start().await;
    for name in ["here.cn", "nofile.cn"] {
        let message = Sketch::new(name).message();
        let each: Vec<usize> = (1..message.len()).collect();
        for cuts in [&each[..], &[1], &[2, 3], &[511.min(message.len() - 1)], &[4, message.len() - 1]] {
            let stream = records(&message, cuts);
            let expected =
                if name == "here.cn" { Outcome::Passed(stream.clone()) } else { Outcome::Alert(UNRECOGNIZED_NAME) };
            assert_eq!(gate.outcome(&stream).await, expected, "{name}");
        }
    }
    assert_eq!(gate.origin.connections(), 5);
}

#[tokio::test]
async fn t03_what_follows_the_hello_changes_nothing() {
    let gate = TlsGate::start().await;
    for more in [record(20, &[1]), record(23, &[5; 300]), vec![0; 64]] {
        let stream = [hello("here.cn"), more.clone()].concat();
        assert_eq!(gate.outcome(&stream).await, Outcome::Passed(stream), "all of it goes on, in order");
        let stream = [hello("nofile.cn"), more].concat();
        assert_eq!(gate.outcome(&stream).await, Outcome::Alert(UNRECOGNIZED_NAME));
    }
    assert_eq!(gate.origin.connections(), 3);
}

#[tokio::test]
async fn t04_without_a_name_the_address_is_judged() {
    let nameless = Sketch::with(Vec::new()).stream();
    let mut gate = TlsGate::start().await;
    assert_eq!(gate.outcome(&nameless).await, Outcome::Alert(UNRECOGNIZED_NAME));
    assert_eq!((gate.origin.connections(), gate.counters().without_name.value()), (0, 1));
    let record = gate.http.records.recv().await.expect("a record");
    assert_eq!((record.via.label(), record.verdict.reason.label()), ("tls", "ip_site"));
    assert_eq!((record.name, record.received), (None, None));
    for (ip_site, passes) in [(IpSite::Allow, true), (IpSite::Observe, true), (IpSite::Block, false)] {
        let rules = Rules { ip_site, ..Rules::default() };
        let gate = TlsGate::with(fixture::view(rules), |_| {}).await;
        let expected = if passes { Outcome::Passed(nameless.clone()) } else { Outcome::Alert(UNRECOGNIZED_NAME) };
        assert_eq!(gate.outcome(&nameless).await, expected, "{ip_site:?}");
    }
}

#[tokio::test]
async fn t05_names_in_every_spelling() {
    let gate = TlsGate::start().await;
    for name in ["HERE.cn", "here.cn.", "www.here.CN", "a_b.here.cn"] {
        assert_eq!(gate.outcome(&hello(name)).await, Outcome::Passed(hello(name)), "{name}");
    }
    let passed = gate.origin.connections();
    let long = "a.".repeat(150) + "cn";
    for name in [
        "NOFILE.cn",
        "nofile.cn.",
        "203.0.113.9",
        "0xcb007109",
        "2001:db8::1",
        "::ffff:203.0.113.9",
        "here.cn..",
        ".here.cn",
        "here.cn:443",
        "here.cn\0",
        "here.cn\0.nofile.cn",
        "例子.中国",
        "*.here.cn",
        "f@here.cn",
        "xn--a.cn",
        &long,
    ] {
        assert_eq!(gate.outcome(&hello(name)).await, Outcome::Alert(UNRECOGNIZED_NAME), "{name:?}");
    }
    assert_eq!(gate.outcome(&hello("")).await, Outcome::Alert(DECODE_ERROR), "an empty name");
    assert_eq!(gate.origin.connections(), passed, "nothing of them went on");
    assert!(gate.counters().address_names.value() >= 3);
}

#[tokio::test]
async fn t06_two_names_are_refused() {
    let gate = TlsGate::start().await;
    let (here, nofile) = (&b"here.cn"[..], &b"nofile.cn"[..]);
    for extensions in [
        vec![server_name(&[(0, here), (0, nofile)])],
        vec![server_name(&[(0, nofile), (0, here)])],
        vec![server_name(&[(1, here), (0, nofile)])],
        vec![server_name(&[(0, here), (1, nofile)])],
        vec![server_name(&[(0, here)]), server_name(&[(0, nofile)])],
        vec![server_name(&[(0, here)]), server_name(&[(0, here)])],
    ] {
        let stream = Sketch::with(extensions.clone()).stream();
        assert_eq!(gate.outcome(&stream).await, Outcome::Alert(ILLEGAL_PARAMETER), "{extensions:?}");
    }
    assert_eq!(gate.origin.connections(), 0);
    assert_eq!(gate.counters().faults(HelloFault::MoreNames), 4);
    assert_eq!(gate.counters().faults(HelloFault::DuplicateExtension), 2);
}

#[tokio::test]
async fn t07_lengths_that_lie_are_refused() {
    let gate = TlsGate::start().await;
    let message = Sketch::new("here.cn").message();
    // The octets of two lengths: of the block of extensions, and of the first of them.
    let block = 4 + 2 + 32 + 33 + 6 + 2;
    let is_length = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    assert_eq!(usize::from(is_length(block)), message.len() - block - 2, "the block of extensions stands here");
    for (at, by) in [(block, 1), (block, -1), (block, 40), (block + 4, 1), (block + 4, 90), (block + 6, 1)] {
        let mut lying = message.clone();
        let length = is_length(at).wrapping_add_signed(by).to_be_bytes();
        lying[at..at + 2].copy_from_slice(&length);
        assert_eq!(gate.outcome(&records(&lying, &[])).await, Outcome::Alert(DECODE_ERROR), "{by} at {at}");
    }
    assert_eq!(gate.origin.connections(), 0);
}

#[tokio::test]
async fn t08_unknown_values_are_passed_over() {
    let gate = TlsGate::start().await;
    for name in ["here.cn", "nofile.cn"] {
        let mut sketch = Sketch::new(name).and(0x0a0a, &[]).and(0xfafa, &[0]).and(0x1234, &[1, 2, 3]);
        sketch.ciphers = vec![0x8a, 0x8a, 0x13, 0x01];
        let stream = sketch.stream();
        let expected =
            if name == "here.cn" { Outcome::Passed(stream.clone()) } else { Outcome::Alert(UNRECOGNIZED_NAME) };
        assert_eq!(gate.outcome(&stream).await, expected);
    }
}

#[tokio::test]
async fn t09_large_hellos_and_many_extensions_have_limits() {
    let gate = TlsGate::start().await;
    let large = Sketch::new("here.cn").padded_to(16 << 10).stream();
    assert_eq!(gate.outcome(&large).await, Outcome::Passed(large), "as long as the limit");
    let message = Sketch::new("here.cn").padded_to((16 << 10) + 1).message();
    assert_eq!(gate.outcome(&records(&message, &[1 << 13])).await, Outcome::Alert(ILLEGAL_PARAMETER));
    // The longest hello in the shortest records.
    let message = Sketch::new("here.cn").padded_to(16 << 10).message();
    let each: Vec<usize> = (1..message.len()).collect();
    let stream = records(&message, &each);
    assert_eq!(gate.outcome(&stream).await, Outcome::Passed(stream));
    let many = (0..200).fold(Sketch::new("here.cn"), |sketch, i| sketch.and(1000 + i, &[]));
    assert_eq!(gate.outcome(&many.stream()).await, Outcome::Alert(ILLEGAL_PARAMETER));
    let nameless_protocol = Sketch::new("here.cn").and(16, &[0, 1, 0]);
    assert_eq!(gate.outcome(&nameless_protocol.stream()).await, Outcome::Alert(DECODE_ERROR));
    assert_eq!(gate.origin.connections(), 2);
    let small = TlsGate::with(fixture::view(Rules::default()), |settings| settings.hello_octets_max = 1024).await;
    let stream = Sketch::new("here.cn").padded_to(1025).stream();
    assert_eq!(small.outcome(&stream).await, Outcome::Alert(ILLEGAL_PARAMETER));
}

#[tokio::test]
async fn t10_old_versions_of_the_record() {
    let gate = TlsGate::start().await;
    for minor in 0..5 {
        let mut stream = hello("here.cn");
        stream[2] = minor;
        assert_eq!(gate.outcome(&stream).await, Outcome::Passed(stream), "3.{minor}");
    }
    let passed = gate.origin.connections();
    let ssl2 = [&[0x80, 46, 1, 3, 1, 0, 21, 0, 0, 0, 16][..], &[1; 37]].concat();
    assert_eq!(gate.outcome(&ssl2).await, Outcome::Closed);
    let mut other = hello("here.cn");
    other[1] = 2;
    assert_eq!(gate.outcome(&other).await, Outcome::Alert(70));
    assert_eq!(gate.outcome(&[0xff; 40]).await, Outcome::Closed);
    assert_eq!(gate.origin.connections(), passed);
    assert_eq!(gate.counters().connections(Counted::Refused), 3);
}

#[tokio::test]
async fn t13_resumption_without_a_name_is_judged_as_one_without_a_name() {
    let gate = TlsGate::start().await;
    let mut ticket = Sketch::with(Vec::new()).and(35, &[9; 180]);
    ticket.extensions.get_or_insert_default().retain(|(kind, _)| *kind != 43);
    let pre_shared = Sketch::with(Vec::new()).and(45, &[1, 1]).and(41, &[0; 60]);
    for sketch in [ticket, pre_shared] {
        assert_eq!(gate.outcome(&sketch.stream()).await, Outcome::Alert(UNRECOGNIZED_NAME));
    }
    assert_eq!(gate.origin.connections(), 0);
}

#[tokio::test]
async fn t14_early_data_go_nowhere_before_the_verdict() {
    let gate = TlsGate::start().await;
    let early = [record(20, &[1]), record(23, &[6; 9000]), record(23, &[7; 9000])].concat();
    let with_early = |name: &str| [Sketch::new(name).and(42, &[]).and(41, &[0; 60]).stream(), early.clone()].concat();
    assert_eq!(gate.outcome(&with_early("nofile.cn")).await, Outcome::Alert(UNRECOGNIZED_NAME));
    assert_eq!(gate.origin.connections(), 0, "not even a connection");
    let stream = with_early("here.cn");
    assert_eq!(gate.outcome(&stream).await, Outcome::Passed(stream));
}

#[tokio::test]
async fn t15_t16_encrypted_hellos_are_judged_by_their_outer_name() {
    // GREASE and real ones look the same by design; the inner name is residual.
    let outer = [&[0, 0, 1, 0, 1, 0x42, 0, 32][..], &[8; 32], &[0, 144], &[9; 144]].concat();
    let gate = TlsGate::start().await;
    let stream = |name| Sketch::new(name).and(0xfe0d, &outer).stream();
    assert_eq!(gate.outcome(&stream("here.cn")).await, Outcome::Passed(stream("here.cn")));
    assert_eq!(gate.outcome(&stream("nofile.cn")).await, Outcome::Alert(UNRECOGNIZED_NAME));
}

#[tokio::test]
async fn t19_proxy_headers_count_from_listed_peers_only() {
    let text = b"PROXY TCP4 198.51.100.7 203.0.113.1 40000 443\r\n";
    let gate = TlsGate::start().await;
    for stream in [[&text[..], &hello("here.cn")].concat(), [b"\r\n\r\n\0\r\nQUIT\n", &hello("here.cn")[..]].concat()] {
        let outcome = gate.outcome(&stream).await;
        assert!(matches!(&outcome, Outcome::Other(octets) if octets.starts_with(b"HTTP/1.1 400")), "{outcome:?}");
    }
    assert_eq!(gate.origin.connections(), 0);
    let listed = |settings: &mut icpgate::http::Settings| {
        settings.proxy_protocol_from = vec!["127.0.0.0/8".parse().expect("a prefix")];
    };
    let mut gate = TlsGate::with(fixture::view(Rules::default()), listed).await;
    let stream = [&text[..], &hello("nofile.cn")].concat();
    assert_eq!(gate.outcome_of(&stream.chunks(1).collect::<Vec<_>>()).await, Outcome::Alert(UNRECOGNIZED_NAME));
    assert_eq!(gate.http.records.recv().await.expect("a record").client.to_string(), "198.51.100.7");
    let stream = [&text[..], &hello("here.cn")].concat();
    assert_eq!(gate.outcome(&stream).await, Outcome::Passed(hello("here.cn")), "the header ends here");
}

#[tokio::test]
async fn t20_a_partial_hello_has_its_time() {
    let gate = TlsGate::with(fixture::view(Rules::default()), |settings| {
        settings.hello_timeout = std::time::Duration::from_millis(200);
    })
    .await;
    let stream = hello("here.cn");
    for end in [1, 5, 9, stream.len() - 1] {
        let mut client = gate.connect().await;
        client.send(&stream[..end]).await;
        assert!(client.rest().await.is_empty(), "{end} octets");
    }
    assert_eq!(gate.counters().connections(Counted::Slow), 4);
    assert_eq!(gate.outcome(&stream[..20]).await, Outcome::Closed, "one that ends first");
    assert_eq!(gate.counters().connections(Counted::Cut), 1);
    assert_eq!(gate.origin.connections(), 0);
}

#[tokio::test]
async fn t21_urgent_octets_are_no_part_of_the_hello() {
    // The system reassembles segments. An urgent octet stands outside of the stream, for the gate and what it passes on.
    let gate = TlsGate::start().await;
    for (name, expected) in
        [("here.cn", Outcome::Passed(hello("here.cn"))), ("nofile.cn", Outcome::Alert(UNRECOGNIZED_NAME))]
    {
        let (stream, mut client) = (hello(name), gate.connect().await);
        client.send(&stream[..60]).await;
        socket2::SockRef::from(&client.stream).send_out_of_band(b"x").expect("sends");
        client.send(&stream[60..]).await;
        tokio::io::AsyncWriteExt::shutdown(&mut client.stream).await.expect("ends");
        assert_eq!(Outcome::read(client.rest().await), expected);
    }
}

#[tokio::test]
async fn h26_tls_on_a_plain_port_is_judged_as_tls() {
    let gate = TlsGate::start().await;
    for (name, expected) in
        [("here.cn", Outcome::Passed(hello("here.cn"))), ("nofile.cn", Outcome::Alert(UNRECOGNIZED_NAME))]
    {
        let mut client = Client::connect(gate.http.addr).await;
        client.send(&hello(name)).await;
        tokio::io::AsyncWriteExt::shutdown(&mut client.stream).await.expect("ends");
        assert_eq!(Outcome::read(client.rest().await), expected);
    }
    let other = gate.outcome(b"SSH-2.0-OpenSSH_9.6\r\n").await;
    assert!(matches!(&other, Outcome::Other(octets) if octets.starts_with(b"HTTP/1.1 400")), "{other:?}");
    assert_eq!(gate.origin.connections(), 1);
}

#[tokio::test]
async fn h27_http_on_a_tls_port_is_judged_as_http() {
    let gate = TlsGate::start().await;
    for (host, status) in [("here.cn", 200), ("nofile.cn", 451), ("here.cn", 200)] {
        let mut client = gate.connect().await;
        for _ in 0..2 {
            client.send(get(host, "/").as_bytes()).await;
            assert_eq!(client.response().await.status, status);
        }
    }
    assert_eq!(gate.origin.connections(), 0, "and goes to the origin of HTTP");
    assert_eq!(gate.http.origin.hosts(), ["here.cn"; 4]);
}
