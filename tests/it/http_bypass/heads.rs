//! Rows D-H1 to D-H13: what a head may say, and how a body is framed.

use icpgate::policy::{IpSite, Rules};

use super::{all_refused, refused};
use crate::harness::fixture;
use crate::harness::http::{HttpGate, get};

#[tokio::test]
async fn d_h01_two_host_lines_are_refused() {
    all_refused(
        400,
        &[
            "GET / HTTP/1.1\r\nHost: here.cn\r\nHost: nofile.cn\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: nofile.cn\r\nhOST: here.cn\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: here.cn\r\nHost: here.cn\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\nHost: here.cn\r\n\r\n",
        ],
    )
    .await;
}

#[tokio::test]
async fn d_h02_lists_and_folds_in_host_are_refused() {
    all_refused(
        400,
        &[
            "GET / HTTP/1.1\r\nHost: here.cn, nofile.cn\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: here.cn\tnofile.cn\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: here.cn\r\n nofile.cn\r\n\r\n",
            "GET / HTTP/1.1\r\nX: a\r\n Host: here.cn\r\nHost: here.cn\r\n\r\n",
        ],
    )
    .await;
}

#[tokio::test]
async fn d_h03_absolute_form_must_agree_with_host() {
    all_refused(
        400,
        &[
            "GET http://nofile.cn/ HTTP/1.1\r\nHost: here.cn\r\n\r\n",
            "GET http://here.cn/ HTTP/1.1\r\nHost: nofile.cn\r\n\r\n",
            "GET http://here.cn:8080/ HTTP/1.1\r\nHost: here.cn\r\n\r\n",
            "GET ftp://here.cn/ HTTP/1.1\r\nHost: here.cn\r\n\r\n",
        ],
    )
    .await;
    let gate = HttpGate::start().await;
    assert_eq!(gate.ask("GET http://here.cn/a?b HTTP/1.1\r\nHost: HERE.cn\r\n\r\n").await.status, 200);
    assert_eq!(gate.ask("GET http://here.cn?b HTTP/1.1\r\nHost: here.cn\r\n\r\n").await.status, 200);
    assert_eq!(gate.ask("OPTIONS http://here.cn HTTP/1.1\r\nHost: here.cn\r\n\r\n").await.status, 200);
    assert_eq!(gate.origin.paths(), ["/a?b", "/?b", "*"]);
    assert_eq!(gate.ask("GET http://nofile.cn/ HTTP/1.1\r\nHost: nofile.cn\r\n\r\n").await.status, 451);
}

#[tokio::test]
async fn d_h04_requests_without_host_are_refused_or_judged_by_address() {
    all_refused(
        400,
        &["GET / HTTP/1.1\r\n\r\n", "GET http://here.cn/ HTTP/1.1\r\n\r\n", "GET /\r\n", "GET / \r\n\r\n"],
    )
    .await;
    let gate = HttpGate::start().await;
    let answer = gate.ask("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(answer.status, 451);
    assert!(answer.header("x-icp-gate").expect("a reason").starts_with("reason=ip_site"));
    assert_eq!(gate.counters.without_host.value(), 1);
    // The target of HTTP/1.0 may name the host; then that is judged.
    assert_eq!(gate.ask("GET http://nofile.cn/ HTTP/1.0\r\n\r\n").await.status, 451);
    assert_eq!(gate.ask("GET http://here.cn/ HTTP/1.0\r\n\r\n").await.status, 200);
    assert_eq!(gate.origin.hosts(), ["here.cn"]);
    let allow = Rules { ip_site: IpSite::Allow, ..Rules::default() };
    let gate = HttpGate::with(fixture::view(allow), |_| {}).await;
    assert_eq!(gate.ask("GET / HTTP/1.0\r\n\r\n").await.status, 200);
    assert_eq!(gate.origin.hosts(), [gate.addr.to_string()], "the origin is asked for what was judged");
}

#[tokio::test]
async fn d_h05_empty_host_is_refused() {
    all_refused(
        400,
        &["GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET / HTTP/1.1\r\nHost: \r\n\r\n", "GET / HTTP/1.1\r\nHost: :80\r\n\r\n"],
    )
    .await;
}

#[tokio::test]
async fn d_h06_ports_are_split_off_or_refused() {
    let gate = HttpGate::start().await;
    for host in ["nofile.cn:8080", "nofile.cn:80", "nofile.cn:"] {
        assert_eq!(gate.status(host).await, 451, "{host}");
    }
    assert_eq!(gate.status("here.cn:8080").await, 200);
    assert_eq!(gate.origin.hosts(), ["here.cn:8080"], "the port stays for the origin");
    for host in ["here.cn:99999", "here.cn:abc", "here.cn:80:80", "here.cn:+80", "here.cn:8 0"] {
        assert_eq!(refused(&gate, get(host, "/").as_bytes()).await, 400, "{host}");
    }
}

#[tokio::test]
async fn d_h07_case_and_one_final_dot_are_folded() {
    let gate = HttpGate::start().await;
    for (host, status) in
        [("NoFile.CN", 451), ("nofile.cn.", 451), ("HERE.cn.", 200), ("here.cn..", 400), (".here.cn", 400)]
    {
        let mut client = gate.connect().await;
        client.send(get(host, "/").as_bytes()).await;
        assert_eq!(client.response().await.status, status, "{host}");
    }
}

#[tokio::test]
async fn d_h08_userinfo_is_refused() {
    all_refused(
        400,
        &[
            "GET / HTTP/1.1\r\nHost: here.cn@nofile.cn\r\n\r\n",
            "GET http://here.cn@nofile.cn/ HTTP/1.1\r\nHost: nofile.cn\r\n\r\n",
            "GET http://here.cn@nofile.cn/ HTTP/1.1\r\nHost: here.cn@nofile.cn\r\n\r\n",
        ],
    )
    .await;
}

#[tokio::test]
async fn d_h09_encoded_hosts_are_refused() {
    all_refused(
        400,
        &[
            "GET / HTTP/1.1\r\nHost: 例子.中国\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: %68ere.cn\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: here.cn\0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: here .cn\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: here.cn\\@nofile.cn\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: here.cn#.nofile.cn\r\n\r\n",
        ],
    )
    .await;
    let gate = HttpGate::start().await;
    assert_eq!(gate.status("xn--fsqu00a.xn--fiqs8s").await, 200, "the A-label of a filed name passes");
    assert_eq!(gate.status("xn--a.cn").await, 451, "an A-label that is none is no filed name");
}

#[tokio::test]
async fn d_h10_field_name_tricks_are_refused() {
    all_refused(
        400,
        &[
            "GET / HTTP/1.1\r\nHost : nofile.cn\r\nHost: here.cn\r\n\r\n",
            "GET / HTTP/1.1\r\nHost\t: here.cn\r\n\r\n",
            "GET / HTTP/1.1\r\n\nHost: nofile.cn\r\nHost: here.cn\r\n\r\n",
            "GET / HTTP/1.1\r\nHost\x0b: nofile.cn\r\nHost: here.cn\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: here.cn\rHost: nofile.cn\r\n\r\n",
            "GET / HTTP/1.1\r\n: nofile.cn\r\nHost: here.cn\r\n\r\n",
            "GET / HTTP/1.1\r\nHost\r\nHost: here.cn\r\n\r\n",
        ],
    )
    .await;
    let gate = HttpGate::start().await;
    assert_eq!(gate.ask("GET / HTTP/1.1\r\nhOsT:nofile.cn\r\n\r\n").await.status, 451);
    assert_eq!(gate.ask("GET / HTTP/1.1\r\nHOST:\there.cn \r\n\r\n").await.status, 200);
    assert_eq!(gate.origin.hosts(), ["here.cn"], "white space around the value is gone");
}

#[tokio::test]
async fn d_h11_each_request_of_a_connection_is_judged() {
    let gate = HttpGate::start().await;
    let mut client = gate.connect().await;
    for (host, path, status) in
        [("here.cn", "/1", 200), ("nofile.cn", "/2", 451), ("a.here.cn", "/3", 200), ("else.com", "/4", 451)]
    {
        client.send(get(host, path).as_bytes()).await;
        assert_eq!(client.response().await.status, status, "{host}");
    }
    assert_eq!(gate.origin.paths(), ["/1", "/3"]);
    let seen = gate.origin.seen();
    assert_eq!(seen[0].connection, seen[1].connection, "the origin's connection is kept");
}

#[tokio::test]
async fn d_h12_pipelined_requests_are_answered_in_order() {
    let gate = HttpGate::start().await;
    let mut client = gate.connect().await;
    client.send([get("here.cn", "/1"), get("nofile.cn", "/2"), get("here.cn", "/3")].concat().as_bytes()).await;
    let answers = [client.response().await, client.response().await, client.response().await];
    assert_eq!(answers.each_ref().map(|answer| answer.status), [200, 451, 200]);
    assert_eq!(answers[0].text(), "GET /1 HTTP/1.1 here.cn");
    assert_eq!(answers[2].text(), "GET /3 HTTP/1.1 here.cn");
    assert_eq!(gate.origin.paths(), ["/1", "/3"]);
}

#[tokio::test]
async fn d_h13_doubtful_framing_is_refused() {
    let inner = "GET /smuggled HTTP/1.1\r\nHost: nofile.cn\r\n\r\n";
    let requests: Vec<String> = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding:\nchunked",
        "Content-Length: 0\r\nContent-Length: 0",
        "Content-Length: 0, 0",
        "Content-Length: +0",
        "Content-Length: 0x0",
        "Content-Length: -1",
        "Content-Length: 18446744073709551616",
        "X: y\nContent-Length: 0",
        "Connection: Content-Length\r\nContent-Length: 0",
        "Connection: Host",
    ]
    .iter()
    .map(|lines| format!("POST / HTTP/1.1\r\nHost: here.cn\r\n{lines}\r\n\r\n0\r\n\r\n{inner}"))
    .chain([format!("POST / HTTP/1.0\r\nHost: here.cn\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}")])
    .collect();
    all_refused(400, &requests.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn d_h13_chunks_are_checked_and_written_anew() {
    let gate = HttpGate::start().await;
    let mut client = gate.connect().await;
    let head = "POST /a HTTP/1.1\r\nHost: here.cn\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(head.as_bytes()).await;
    client.send(b"3;ext=1\r\nabc\r\n0002\r\nde\r\n0\r\nHost: nofile.cn\r\n\r\n").await;
    client.send(get("nofile.cn", "/b").as_bytes()).await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(client.response().await.status, 451);
    let seen = &gate.origin.seen()[0];
    assert_eq!(seen.body, b"abcde");
    let raw = String::from_utf8(seen.raw_body.clone()).expect("text");
    assert!(!raw.contains("ext") && !raw.contains("Host") && raw.ends_with("0\r\n\r\n"), "{raw:?}");
    for body in
        ["3 \r\nabc\r\n0\r\n\r\n", "3\nabc\n0\n\n", "0x3\r\nabc\r\n0\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n", "-1\r\n\r\n"]
    {
        let before = gate.origin.seen().len();
        assert_eq!(refused(&gate, format!("{head}{body}").as_bytes()).await, 400, "{body:?}");
        let after = gate.origin.seen();
        assert!(after[before..].iter().all(|seen| seen.body.is_empty()), "{after:?}");
    }
    assert!(gate.counters.body_errors.value() >= 5);
}

#[tokio::test]
async fn d_h13_a_body_is_never_a_request() {
    let gate = HttpGate::start().await;
    let inner = get("nofile.cn", "/smuggled");
    let mut client = gate.connect().await;
    client
        .send(format!("GET /a HTTP/1.1\r\nHost: here.cn\r\nContent-Length: {}\r\n\r\n{inner}", inner.len()).as_bytes())
        .await;
    assert_eq!(client.response().await.status, 200);
    let seen = gate.origin.seen();
    assert_eq!((seen.len(), seen[0].body.as_slice()), (1, inner.as_bytes()));
    // CL.0: an origin that would not read the body gets it framed all the same.
    assert_eq!(seen[0].all("content-length"), [inner.len().to_string()]);
}
