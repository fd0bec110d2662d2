//! HTTP/2 and HTTP/1 are two ways of asking the same: one verdict, one head at the origin.

use icpgate::policy::Rules;
use proptest::prelude::*;

use crate::harness::fixture;
use crate::harness::h2::{HEADERS, RST_STREAM, Raw, fields};
use crate::harness::http::HttpGate;

/// Hosts that may or may not be any, filed or not.
fn any_host() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just("here.cn".to_owned()),
        Just("nofile.cn".to_owned()),
        Just("xn--fsqu00a.cn".to_owned()),
        Just("203.0.113.1".to_owned()),
        Just("[2001:db8::1]".to_owned()),
        "[a-zA-Z0-9._-]{1,30}",
        "[!-~]{1,20}",
    ];
    let prefix = prop_oneof![Just(""), Just("www."), Just("WWW."), Just("here.cn."), Just("nofile.cn.")];
    let suffix = prop_oneof![Just(""), Just("."), Just(":80"), Just(":"), Just(":99999"), Just("@here.cn"), Just("/")];
    (prefix, name, suffix).prop_map(|(prefix, name, suffix)| format!("{prefix}{name}{suffix}"))
}

#[test]
fn a_name_gets_one_verdict_by_either_version_and_the_origin_sees_the_same() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let gate = runtime.block_on(HttpGate::with(fixture::view(Rules::default()), |_| {}));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases: 200, ..ProptestConfig::default() });
    let outcome = runner.run(&(any_host(), any::<bool>()), |(host, as_host)| {
        let (one, by_one, two, by_two) = runtime.block_on(async {
            let before = gate.origin.seen().len();
            let text = format!("GET /x?y HTTP/1.1\r\nHost: {host}\r\nAccept: text/plain\r\nX-A: b\r\n\r\n");
            let one = gate.ask(&text).await.status;
            let middle = gate.origin.seen().len();
            let mut raw = Raw::connect(gate.addr).await;
            let name = if as_host { "host" } else { ":authority" };
            let block = [(":method", "GET"), (":scheme", "http"), (":path", "/x?y"), (name, host.as_str())];
            raw.ask(1, &fields(&[&block[..], &[("accept", "text/plain"), ("x-a", "b")]].concat())).await;
            let answer = raw.first(&[HEADERS, RST_STREAM]).await.expect("an answer");
            let two = if answer.kind == RST_STREAM { Some(400) } else { answer.status() };
            let seen = gate.origin.seen();
            (one, seen[before..middle].to_vec(), two, seen[middle..].to_vec())
        });
        match one {
            // What is no status of the static table is a literal.
            451 => prop_assert_eq!(two, None, "{}", host),
            one => prop_assert_eq!(two, Some(one), "{}", host),
        }
        prop_assert_eq!(by_one.len(), by_two.len(), "{}", host);
        for (a, b) in by_one.iter().zip(&by_two) {
            prop_assert_eq!(a.line(), b.line());
            for field in ["host", "accept", "x-a", "x-forwarded-for", "content-length", "transfer-encoding"] {
                prop_assert_eq!(a.all(field), b.all(field), "{}", field);
            }
            prop_assert_eq!(a.head.lines().count(), b.head.lines().count(), "{}\n{}", a.head, b.head);
            prop_assert_eq!(a.host(), host.as_str());
        }
        Ok(())
    });
    outcome.expect("no counterexample");
    assert!(!gate.origin.seen().is_empty(), "some requests passed");
}
