//! Whatever a client sends: streams made of tricks, and what the origin saw of them.

use std::time::Duration;

use icpgate::policy::Rules;
use proptest::prelude::*;

use crate::harness::fixture;
use crate::harness::http::HttpGate;

/// Requests with hosts, framings and bodies that may or may not hide another request.
fn any_stream() -> impl Strategy<Value = String> {
    let host =
        prop_oneof![Just("here.cn"), Just("nofile.cn"), Just("here.cn\r\nHost: nofile.cn"), Just("nofile.cn:80")];
    let line = prop_oneof![
        Just("".to_owned()),
        Just("Content-Length: 45\r\n".to_owned()),
        Just("Content-Length: 0\r\n".to_owned()),
        Just("Transfer-Encoding: chunked\r\n".to_owned()),
        Just("Transfer-Encoding: xchunked\r\n".to_owned()),
        Just("Connection: close\r\n".to_owned()),
        Just("Connection: upgrade\r\nUpgrade: h2c\r\n".to_owned()),
        Just("X: \r\n \r\n".to_owned()),
        "[A-Za-z]{1,8}[ \t]?:[ -~]{0,20}\r\n",
    ];
    let tail = prop_oneof![
        Just("".to_owned()),
        Just("0\r\n\r\n".to_owned()),
        Just("5\r\nhello\r\n0\r\n\r\n".to_owned()),
        Just("5\nhello\n0\n\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("\n".to_owned()),
        "[ -~\r\n]{0,30}",
    ];
    let target =
        prop_oneof![Just("/"), Just("http://here.cn/"), Just("http://nofile.cn/"), Just("//nofile.cn/"), Just("*")];
    let one = (target, host, proptest::collection::vec(line, 0..3), tail, 0..2u8).prop_map(
        |(target, host, lines, tail, minor)| {
            format!("GET {target} HTTP/1.{minor}\r\nHost: {host}\r\n{}\r\n{tail}", lines.concat())
        },
    );
    proptest::collection::vec(one, 1..5).prop_map(|all| all.concat())
}

#[test]
fn whatever_a_client_sends_the_origin_sees_no_unfiled_host() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let gate = runtime.block_on(HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.head_timeout = Duration::from_millis(20);
        settings.idle_timeout = Duration::from_millis(20);
        settings.stream_timeout = Duration::from_millis(50);
    }));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases: 150, ..ProptestConfig::default() });
    let outcome = runner.run(&any_stream(), |stream| {
        runtime.block_on(async {
            let mut client = gate.connect().await;
            client.send(stream.as_bytes()).await;
            use tokio::io::AsyncWriteExt;
            let _ = client.stream.shutdown().await;
            client.rest().await;
        });
        for seen in gate.origin.seen() {
            prop_assert_eq!(seen.all("host"), vec!["here.cn"], "{}", seen.head);
            prop_assert!(!seen.line().contains("nofile.cn") || seen.line().contains(" //nofile.cn/ "), "{}", seen.head);
        }
        Ok(())
    });
    outcome.expect("no counterexample");
    assert!(!gate.origin.seen().is_empty(), "some requests passed");
}
