//! `icpgate audit`, run as a user runs it, against a scripted resolver; against `knotd` in `peers::audit`.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::harness::binary::nobody;
use crate::harness::dns::PATIENCE;
use crate::harness::program::{Run, Site};
use crate::harness::upstream::{Reply, Upstream, records};

/// Rows with what each is there for.
pub const ROWS: &str = "domain,site_no,access,status,expires_on\n\
    here.cn,京ICP备2021000001号-1,self,active,\n\
    onlywww.cn,京ICP备2021000002号-1,self,active,\n\
    away.cn,京ICP备2021000003号-1,self,active,\n\
    dead.cn,京ICP备2021000004号-1,self,active,\n\
    else.com,京ICP备2021000005号-1,other,active,\n\
    elseaway.com,京ICP备2021000006号-1,other,active,\n\
    pend.cn,,self,pending,\n\
    pendaway.cn,,self,pending,\n\
    shell.cn,京ICP备2021000007号-1,,active,\n\
    gone.cn,京ICP备2021000008号-1,self,cancelled,\n\
    old.cn,京ICP备2021000009号-1,self,active,2020-01-01\n";

/// Where names lead.
pub const LEADS: [(&str, &str, &str); 17] = [
    ("here.cn", "A", "203.0.113.1"),
    ("here.cn", "AAAA", "2001:db8:ffff::1"),
    ("www.here.cn", "CNAME", "here.cn."),
    ("www.onlywww.cn", "A", "203.0.113.2"),
    ("away.cn", "A", "198.51.100.7"),
    ("www.away.cn", "A", "198.51.100.7"),
    ("else.com", "A", "203.0.113.3"),
    ("elseaway.com", "A", "198.51.100.8"),
    ("www.pend.cn", "A", "203.0.113.4"),
    ("pendaway.cn", "A", "198.51.100.9"),
    ("gone.cn", "A", "203.0.113.5"),
    ("old.cn", "A", "203.0.113.6"),
    ("nofile.cn", "A", "203.0.113.9"),
    ("alias.seen.cn", "CNAME", "nofile.cn."),
    ("sub.here.cn", "A", "203.0.113.1"),
    ("abroad.seen.com", "A", "198.51.100.10"),
    ("mixed.seen.cn", "A", "203.0.113.10"),
];

/// Names that were seen, in a list.
pub const SEEN: &str = "nofile.cn\nalias.seen.cn\nsub.here.cn\nabroad.seen.com\nmixed.seen.cn\nnowhere.seen.cn\n";

/// What is found, and nothing else.
pub const EXPECTED: [(&str, &str); 9] = [
    ("never_filed", "alias.seen.cn"),
    ("never_filed", "gone.cn"),
    ("never_filed", "mixed.seen.cn"),
    ("never_filed", "nofile.cn"),
    ("pending_open", "www.pend.cn"),
    ("filed_elsewhere", "else.com"),
    ("expired", "old.cn"),
    ("shell_away", "away.cn"),
    ("shell_dead", "dead.cn"),
];

/// A site with the rows, and the list beside it.
pub fn site() -> Site {
    let site = Site::new("rows.csv", ROWS, "");
    fs::write(site.directory.path().join("seen.txt"), SEEN).expect("writes");
    site
}

/// A whole audit by one resolver.
pub fn audit(site: &Site, resolver: SocketAddr, more: &[&str]) -> Run {
    let resolver = format!("udp://{resolver}");
    site.run(
        &[&["audit", "--registry", "--names", "seen.txt", "--resolver", &resolver, "--rate", "5000"], more].concat(),
    )
}

/// The findings of a report in JSON: kind and host.
pub fn found(report: &Value) -> BTreeSet<(String, String)> {
    let text = |finding: &Value, key: &str| finding[key].as_str().expect("a text").to_owned();
    let all = report["findings"].as_array().expect("a list");
    all.iter().map(|finding| (text(finding, "kind"), text(finding, "host"))).collect()
}

/// [`EXPECTED`] and the shell, as [`found`] has them.
pub fn expected() -> BTreeSet<(String, String)> {
    let shell = [("shell", "shell.cn")];
    EXPECTED.into_iter().chain(shell).map(|(kind, host)| (kind.to_owned(), host.to_owned())).collect()
}

async fn resolver() -> Upstream {
    let res = Upstream::start().await;
    let nowhere = || Reply { authority: vec!["cn. 60 IN SOA ns. host. 1 2 3 4 60".to_owned()], ..Reply::default() };
    let registered = ROWS.lines().skip(1).filter_map(|line| line.split(',').next());
    let seen = SEEN.lines().map(str::to_owned);
    let all = registered.flat_map(|name| [name.to_owned(), format!("www.{name}")]).chain(seen);
    for name in all {
        for qtype in ["A", "AAAA"] {
            res.on(&name, qtype, nowhere());
        }
    }
    for (name, kind, value) in LEADS {
        match kind {
            "CNAME" => {
                let target = value.trim_end_matches('.');
                let (_, _, addr) = LEADS.iter().find(|lead| lead.0 == target).expect("it leads on");
                let lines = [format!("{name}. 60 IN CNAME {value}"), format!("{value} 60 IN A {addr}")];
                res.on(name, "A", records(&[&lines[0], &lines[1]]));
            }
            kind => {
                res.on(name, kind, records(&[&format!("{name}. 60 IN {kind} {value}")]));
            }
        }
    }
    res
}

/// Runs the program while the resolver answers.
async fn beside<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(run).await.expect("no panic inside")
}

#[tokio::test]
async fn each_planted_case_is_found_and_nothing_else() {
    let resolver = resolver().await;
    let addr = resolver.addr;
    beside(move || {
        let site = site();
        let run = audit(&site, addr, &["--format", "json"]);
        assert_eq!(run.status(), 1, "{}", run.err());
        assert_eq!(found(&run.json()), expected());
        let pending = run.json()["findings"]
            .as_array()
            .and_then(|all| all.iter().find(|finding| finding["kind"] == "pending_open").cloned());
        let pending = pending.expect("one");
        assert_eq!((&pending["name"], &pending["place"]), (&"pend.cn".into(), &"rows.csv:8".into()));
        // The other forms, by the same facts.
        audit(&site, addr, &[]).expect(1, &["4  never_filed", "未备案", "gone.cn → 203.0.113.5", "rows.csv:11"]);
        audit(&site, addr, &["--format", "csv", "--out", "out.csv"]).expect(1, &[]);
        let csv = fs::read_to_string(site.directory.path().join("out.csv")).expect("a file");
        assert_eq!(csv.lines().count(), 11, "{csv}");
        audit(&site, addr, &["--format", "html"]).expect(1, &["<!doctype html>", "备案巡检报告"]);
        audit(&site, addr, &["--format", "prometheus"]).expect(1, &["icpgate_audit_findings{kind=\"never_filed\"} 4"]);
    })
    .await;
}

#[tokio::test]
async fn nothing_found_is_good_and_failures_are_told() {
    let resolver = resolver().await;
    let addr = resolver.addr;
    beside(move || {
        let site = Site::new("rows.csv", "domain,site_no,access\nhere.cn,京ICP备2021000001号-1,self\n", "");
        let server = format!("udp://{addr}");
        site.run(&["audit", "--resolver", &server])
            .expect(0, &["1 names", "2 hosts asked", "nothing found / 未发现问题"]);
    })
    .await;
    resolver.on("here.cn", "A", Reply { silent: true, ..Reply::default() });
    resolver.on("www.here.cn", "A", Reply { silent: true, ..Reply::default() });
    beside(move || {
        let site = Site::new("rows.csv", "domain,site_no,access\nhere.cn,京ICP备2021000001号-1,self\n", "");
        let server = format!("udp://{addr}");
        // What could not be found out is no finding, and no verdict on the site; too much of it is no audit.
        let texts = ["1  unknown", "解析失败", "1 of 2 hosts could not be asked for, more than 20 %", "--resolver"];
        site.run(&["audit", "--resolver", &server]).expect(2, &texts);
        let rows: String = (0..9).map(|n| format!("old{n}.cn,京ICP备202100001{n}号-1,\n")).collect();
        let rows = format!("domain,site_no,access\nhere.cn,京ICP备2021000001号-1,self\n{rows}");
        let site = Site::new("rows.csv", &rows, "");
        let state: String = (0..9)
            .flat_map(|n| [format!("old{n}.cn"), format!("www.old{n}.cn")])
            .map(|host| format!("{{\"name\":\"{host}\",\"at\":99999999999,\"outcome\":\"no_name\"}}\n"))
            .collect();
        fs::write(site.directory.path().join("state.jsonl"), state).expect("writes");
        site.run(&["audit", "--resolver", &server, "--state", "state.jsonl"]).expect(1, &["1  unknown", "9  shell"]);
    })
    .await;
}

#[tokio::test]
async fn an_audit_speaks_of_our_mainland_network() {
    let resolver = Upstream::start().await;
    for (name, addresses) in [
        ("theirs.cn", &["192.0.2.129"][..]),
        ("ours.cn", &["192.0.2.129", "203.0.113.9"]),
        ("shop.cn", &["198.51.100.7"]),
        ("www.shop.cn", &["198.51.100.7"]),
        ("pay.shop.cn", &["203.0.113.7"]),
        ("abroad.cn", &["192.0.2.1"]),
        ("www.abroad.cn", &["192.0.2.1"]),
        ("icpgate-audit.wild.cn", &["203.0.113.8"]),
    ] {
        resolver.addresses(name, addresses);
    }
    let addr = resolver.addr;
    let registry = "domain,site_no,access\nshop.cn,京ICP备2021000001号-1,self\nabroad.cn,京ICP备2021000002号-1,self\n";
    let tags = "prefix,region,provider,product,origin\n203.0.113.0/24,mainland,self,ecs,\n192.0.2.128/26,mainland,other,,\n\
                192.0.2.0/26,hong-kong,self,ecs,\n";
    let server = format!("udp://{addr}");
    let text = |finding: (&str, &str)| (finding.0.to_owned(), finding.1.to_owned());
    beside(move || {
        let site = Site::new("rows.csv", registry, "");
        let directory = site.directory.path();
        fs::write(directory.join("tags.csv"), tags).expect("writes");
        fs::write(directory.join("seen.txt"), "theirs.cn\nours.cn\n").expect("writes");
        fs::write(directory.join("shop.txt"), "pay.shop.cn\n").expect("writes");
        fs::write(directory.join("wild.cn.zone"), "$TTL 60\n@ IN SOA ns host 1 2 3 4 60\n* IN A 203.0.113.8\n")
            .expect("writes");
        let ask = |more: &[&str]| {
            let run = site.run(&[&["audit", "--format", "json", "--resolver", &server][..], more].concat());
            (run.status(), found(&run.json()))
        };
        let expected = [("never_filed", "ours.cn"), ("never_filed_other", "theirs.cn")];
        assert_eq!(ask(&["--names", "seen.txt"]), (1, expected.map(text).into()));
        fs::write(directory.join("seen.txt"), "theirs.cn\n").expect("writes");
        assert_eq!(ask(&["--names", "seen.txt"]).0, 0, "somebody else's to act on");
        // A site that is filed here is to be on our mainland servers, at whatever host.
        let away = [("shell_away", "abroad.cn"), ("shell_away", "shop.cn")];
        assert_eq!(ask(&["--state", "state.jsonl"]), (1, away.map(text).into()));
        assert_eq!(ask(&["--registry", "--names", "shop.txt"]).1, [away[0]].map(text).into());
        assert!(ask(&["--names", "shop.txt", "--state", "state.jsonl"]).1.is_empty());
        assert_eq!(ask(&["--state", "state.jsonl"]).1, [away[0]].map(text).into(), "it was seen in the run before");
        // What answers for a label that was made up is the wildcard.
        assert_eq!(ask(&["--zone", "wild.cn.zone"]).1, [("never_filed", "icpgate-audit.wild.cn")].map(text).into());
    })
    .await;
}

#[tokio::test]
async fn hosts_that_are_asked_for_again_count_again() {
    let resolver = Upstream::start().await;
    for n in 0..20 {
        for qtype in ["A", "AAAA"] {
            let failure = Reply { rcode: Some(hickory_proto::op::ResponseCode::ServFail), ..Reply::default() };
            resolver.on(&format!("h{n}.lame.cn"), qtype, failure);
        }
    }
    let addr = resolver.addr;
    beside(move || {
        let site = Site::new("rows.csv", "domain,site_no,access\nhere.cn,京ICP备2021000001号-1,self\n", "");
        let names: String = (0..20).map(|n| format!("h{n}.lame.cn\n")).collect();
        fs::write(site.directory.path().join("lame.txt"), names).expect("writes");
        let begun = Instant::now();
        let server = format!("udp://{addr}");
        site.run(&["audit", "--names", "lame.txt", "--resolver", &server, "--rate", "20"])
            .expect(2, &["20 of 20 hosts could not be asked for"]);
        // Three times twenty hosts at twenty a second, the first at once.
        assert!(begun.elapsed().as_millis() >= 59 * 50, "{:?}", begun.elapsed());
    })
    .await;
}

#[tokio::test]
async fn a_server_without_a_certificate_and_a_second_run_are_told() {
    let resolver = resolver().await;
    let addr = resolver.addr;
    let (_held, nobody) = nobody();
    beside(move || {
        let site = site();
        let server = format!("udp://{addr}");
        let origin = nobody.to_string();
        let run = site.run(&["audit", "--registry", "--certificate", &origin, "--resolver", &server]);
        run.expect(
            1,
            &[&format!("warning: certificate: {origin}: "), "servers without a certificate", "1  shell_dead"],
        );
        // Another run holds the state.
        let state = site.directory.path().join("audit.jsonl");
        let mut child = Command::new(env!("CARGO_BIN_EXE_icpgate"))
            .args(["audit", "--registry", "--rate", "1", "--state", "audit.jsonl", "--resolver", &server])
            .args(["--config", "icpgate.toml"])
            .current_dir(site.directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let begun = Instant::now();
        while !state.exists() {
            assert!(begun.elapsed() < PATIENCE, "no state");
            std::thread::yield_now();
        }
        let run = audit(&site, addr, &["--state", "audit.jsonl"]);
        child.kill().expect("is killed");
        child.wait().expect("has ended");
        run.expect(2, &[&format!("audit.jsonl: in use by process {} (", child.id()), "a --state of its own"]);
        audit(&site, addr, &["--state", "audit.jsonl"]).expect(1, &["never_filed"]);
    })
    .await;
}

#[tokio::test]
async fn one_family_is_enough_to_be_found_and_not_to_be_missed() {
    let resolver = resolver().await;
    for name in ["nofile.cn", "away.cn", "www.away.cn"] {
        resolver.on(name, "AAAA", Reply { rcode: Some(hickory_proto::op::ResponseCode::ServFail), ..Reply::default() });
    }
    let addr = resolver.addr;
    beside(move || {
        let found = found(&audit(&site(), addr, &["--format", "json"]).json());
        assert!(found.contains(&("never_filed".to_owned(), "nofile.cn".to_owned())), "{found:?}");
        // Its other addresses may be here.
        assert!(!found.iter().any(|(_, host)| host.ends_with("away.cn")), "{found:?}");
    })
    .await;
}

#[tokio::test]
async fn a_run_that_was_killed_goes_on_where_it_was() {
    let resolver = resolver().await;
    let addr = resolver.addr;
    let (site, all, asked) = beside(move || {
        let site = site();
        let state = site.directory.path().join("audit.jsonl");
        let mut child = Command::new(env!("CARGO_BIN_EXE_icpgate"))
            .args(["audit", "--registry", "--names", "seen.txt", "--rate", "10", "--state", "audit.jsonl"])
            .args(["--resolver", &format!("udp://{addr}"), "--config", "icpgate.toml"])
            .current_dir(site.directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let begun = Instant::now();
        let seen = || fs::read_to_string(&state).map_or(0, |text| text.lines().count());
        while seen() < 5 {
            assert!(begun.elapsed() < PATIENCE, "nothing is kept");
            std::thread::yield_now();
        }
        child.kill().expect("is killed");
        child.wait().expect("has ended");
        let kept = seen();
        let run = audit(&site, addr, &["--format", "json", "--state", "audit.jsonl"]);
        assert_eq!(found(&run.json()), expected());
        let (asked, known) =
            (run.json()["asked"].as_u64().expect("a count"), run.json()["known"].as_u64().expect("a count"));
        // A last line that was cut is asked for again.
        assert!(known + 1 >= kept as u64 && known <= kept as u64, "{known} of {kept}");
        (site, asked + known, asked)
    })
    .await;
    assert!(asked < all);
    // All is known now: a registry that says otherwise is judged by the same facts.
    let before = resolver.log().len();
    beside(move || {
        let rows = ROWS.replace("else.com,京ICP备2021000005号-1,other", "else.com,京ICP备2021000005号-1,self");
        fs::write(site.directory.path().join("rows.csv"), rows).expect("writes");
        let run = audit(&site, addr, &["--format", "json", "--state", "audit.jsonl", "--max-age", "7d"]);
        let mut expected = expected();
        expected.remove(&("filed_elsewhere".to_owned(), "else.com".to_owned()));
        assert_eq!((found(&run.json()), &run.json()["asked"]), (expected, &0.into()));
    })
    .await;
    assert_eq!(resolver.log().len(), before);
}

#[tokio::test]
async fn sources_and_mistakes() {
    let resolver = resolver().await;
    let addr = resolver.addr;
    beside(move || {
        let site = site();
        let directory = site.directory.path();
        let server = format!("udp://{addr}");
        let zone = "$TTL 60\n@ IN SOA ns host 1 2 3 4 60\n@ IN NS ns\nalias IN CNAME nofile.cn.\nmixed IN A 192.0.2.1\n@ IN MX 1 m\n";
        fs::write(directory.join("seen.cn.zone"), zone).expect("writes");
        fs::write(directory.join("queries.log"), "x client 192.0.2.1: query: nofile.cn IN A + (192.0.2.53)\nnoise\n")
            .expect("writes");
        let ask = |more: &[&str]| site.run(&[&["audit", "--format", "json", "--resolver", &server][..], more].concat());
        let hosts = |run: Run| found(&run.json()).into_iter().map(|(_, host)| host).collect::<Vec<_>>();
        assert_eq!(hosts(ask(&["--zone", "seen.cn.zone"])), ["alias.seen.cn", "mixed.seen.cn"]);
        assert_eq!(hosts(ask(&["--log", "queries.log"])), ["nofile.cn"]);
        for (arguments, texts) in [
            (&["--names", "none.txt"][..], &["none.txt: No such file"][..]),
            (&["--zone", "seen.txt"], &["named after its origin"]),
            (&["--certificate", "seen.txt"], &["seen.txt", "expected a certificate in PEM"]),
            (&["--rate", "0"], &["--rate"]),
            (&["--max-age", "soon"], &["\"soon\" is no age", "as in 6h"]),
            (&["--state", "seen.txt"], &["seen.txt: line 1: ", "expected a state file"]),
        ] {
            ask(arguments).expect(2, texts);
        }
        site.run(&["audit"]).expect(2, &["nobody to ask", "--resolver ADDRESS"]);
        site.run(&["audit", "--resolver", "dns.example"]).expect(2, &["--resolver dns.example", "is a host name"]);
    })
    .await;
}
