//! The fail-mode contract by fault injection, and how a gate starts and ends.

use std::fs;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use icpgate::app::StartError;
use icpgate::drain::Phase;
use icpgate::ops::Missing;
use icpgate::policy::Outcome;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::harness::app::{App, FILINGS, TAGS};
use super::harness::dns::{Ask, PATIENCE};
use super::harness::upstream::Reply;

const UNFILED: &str = "www.unfiled.example";

//--- Faults ----------------------------------------------------------------------------------------------------------

/// Waits until the fault is there (or gone), then checks metric and readiness.
async fn expect_fault(app: &App, fault: &str, outcome: Option<Outcome>) {
    let series = format!("icpgate_faults{{fault=\"{fault}\"}}");
    let wanted = if outcome.is_some() { 1.0 } else { 0.0 };
    app.until(&format!("{fault} = {wanted}"), async |app| {
        ((app.metric(&series).await - wanted).abs() < f64::EPSILON).then_some(())
    })
    .await;
    let readiness = app.get("/readyz").await;
    let (reasons, warnings) = (readiness.causes("reasons"), readiness.causes("warnings"));
    let (is_reason, is_warning) =
        (reasons.iter().any(|cause| cause == fault), warnings.iter().any(|cause| cause == fault));
    match outcome {
        Some(Outcome::Serve) => assert!(is_warning && !is_reason && readiness.status == 200, "{readiness:?}"),
        Some(_) => assert!(is_reason && !is_warning && readiness.status == 503, "{readiness:?}"),
        None => assert!(!is_reason && !is_warning, "{readiness:?}"),
    }
}

#[tokio::test]
async fn missing_registry_refuses_to_start_with_the_reason() {
    let started = App::try_with(|config, dir| config.registry.paths = vec![dir.path().join("nowhere")]).await;
    let error = started.err().expect("a refusal");
    assert!(matches!(error, StartError::Registry(_)));
    assert!(error.to_string().contains("nowhere") && error.to_string().contains("on-missing-registry"), "{error}");
    assert_eq!(error.exit_status(), 2);
}

#[tokio::test]
async fn missing_ranges_refuse_to_start_with_the_reason() {
    let started = App::try_with(|config, dir| config.ranges.mainland = vec![dir.path().join("nowhere.txt")]).await;
    let error = started.err().expect("a refusal");
    assert!(matches!(error, StartError::Ranges(_)));
    assert!(error.to_string().contains("nowhere.txt") && error.to_string().contains("on-missing-ranges"), "{error}");
}

#[tokio::test]
async fn missing_registry_blocks_until_it_is_there() {
    let app = App::with(|config, dir| {
        config.faults.on_missing_registry = Missing::Block;
        config.registry.paths = vec![dir.path().join("late.csv")];
    })
    .await;
    expect_fault(&app, "registry_missing", Some(Outcome::Block)).await;
    for name in ["www.filed.example", UNFILED, "www.overseas.example"] {
        let answer = app.ask(name, "A").await;
        assert_eq!(answer.code(), ResponseCode::ServFail);
        assert_eq!(answer.errors(), [(14, "registry_missing".to_owned())]);
    }
    assert_eq!(app.ask("www.filed.example", "TXT").await.code(), ResponseCode::NoError, "leads nowhere: no verdict");
    assert_eq!(app.browse("www.filed.example").await.status, 503);
    app.write("late.csv", FILINGS);
    app.until("the registry in use", async |app| {
        (app.ask("www.filed.example", "A").await.addresses() == ["203.0.113.10"]).then_some(())
    })
    .await;
    assert!(app.ask(UNFILED, "A").await.is_blocked());
    assert_eq!(app.browse("www.filed.example").await.status, 200);
    assert_eq!(app.browse(UNFILED).await.status, 451);
    expect_fault(&app, "registry_missing", None).await;
}

#[tokio::test]
async fn missing_registry_may_be_observed() {
    let app = App::with(|config, dir| {
        config.faults.on_missing_registry = Missing::Observe;
        config.registry.paths = vec![dir.path().join("late.csv")];
    })
    .await;
    expect_fault(&app, "registry_missing", Some(Outcome::Observe)).await;
    assert_eq!(app.ask(UNFILED, "A").await.addresses(), ["203.0.113.11"]);
    assert_eq!(app.browse(UNFILED).await.status, 200, "the origin's own answer");
    assert_eq!(app.get(&format!("/v1/verdict?name={UNFILED}")).await.json()["enforced"], false);
}

#[tokio::test]
async fn missing_ranges_block_until_they_are_there() {
    let app = App::with(|config, dir| {
        config.faults.on_missing_ranges = Missing::Block;
        config.ranges.tags = vec![dir.path().join("ranges/late.csv")];
    })
    .await;
    expect_fault(&app, "ranges_missing", Some(Outcome::Block)).await;
    assert_eq!(app.ask(UNFILED, "A").await.errors(), [(14, "ranges_missing".to_owned())]);
    assert_eq!(app.browse("www.filed.example").await.status, 503);
    app.write("ranges/late.csv", TAGS);
    app.until("the ranges in use", async |app| app.ask(UNFILED, "A").await.is_blocked().then_some(())).await;
    expect_fault(&app, "ranges_missing", None).await;
}

#[tokio::test]
async fn old_registry_is_a_fault_until_it_is_confirmed() {
    let app = App::with(|config, _| {
        config.faults.on_old_registry = Outcome::Block;
        config.faults.registry_age_max = Some(Duration::from_millis(1500));
        config.registry.poll = Duration::from_millis(100);
    })
    .await;
    // The poll finds nothing changed, which confirms: no fault while it can be read.
    fs::write(app.path("registry/broken.toml"), "[[filing").expect("writes");
    expect_fault(&app, "registry_old", Some(Outcome::Block)).await;
    let answer = app.ask(UNFILED, "A").await;
    assert_eq!((answer.code(), answer.errors()), (ResponseCode::ServFail, vec![(14, "registry_old".to_owned())]));
    assert_eq!(app.browse("www.filed.example").await.status, 503);
    assert!(app.metric("icpgate_registry_age_seconds").await >= 1.5);
    fs::remove_file(app.path("registry/broken.toml")).expect("removes");
    expect_fault(&app, "registry_old", None).await;
    assert!(app.ask(UNFILED, "A").await.is_blocked());
    assert_eq!(app.get("/v1/registry").await.json()["generation"], 1, "confirmed, not published anew");
}

#[tokio::test]
async fn jumped_clock_is_a_fault_until_it_is_back_or_accepted() {
    let app = App::with(|config, _| config.faults.on_clock_jump = Outcome::Observe).await;
    assert!(app.ask(UNFILED, "A").await.is_blocked());
    app.move_clock(-3600);
    expect_fault(&app, "clock_jumped", Some(Outcome::Observe)).await;
    assert_eq!(app.ask(UNFILED, "A").await.addresses(), ["203.0.113.11"], "observed");
    assert_eq!(app.browse(UNFILED).await.status, 200, "observed");
    app.move_clock(3600);
    expect_fault(&app, "clock_jumped", None).await;
    assert!(app.ask(UNFILED, "A").await.is_blocked());
    app.move_clock(7200);
    expect_fault(&app, "clock_jumped", Some(Outcome::Observe)).await;
    assert_eq!(app.post("/v1/reload").await.status, 200);
    expect_fault(&app, "clock_jumped", None).await;
    assert!(app.ask(UNFILED, "A").await.is_blocked());
}

#[tokio::test]
async fn fault_with_the_outcome_serve_only_warns() {
    let app = App::start().await;
    app.move_clock(3600);
    expect_fault(&app, "clock_jumped", Some(Outcome::Serve)).await;
    assert!(app.ask(UNFILED, "A").await.is_blocked());
}

#[tokio::test]
async fn upstream_failure_is_told_everywhere() {
    let app = App::with(|config, _| config.dns.upstream_timeout = Duration::from_millis(100)).await;
    app.upstream.set_down(true);
    app.until("the upstream is known to be down", async |app| {
        let answer = app.ask("www.some-site.org", "A").await;
        assert_eq!(answer.code(), ResponseCode::ServFail);
        assert_eq!(answer.errors().first().map(|(code, _)| *code), Some(22));
        let readiness = app.get("/readyz").await;
        assert_eq!(readiness.status, 200, "local zones are served");
        readiness.causes("warnings").contains(&"upstreams_down".to_owned()).then_some(())
    })
    .await;
    assert!(app.metric("icpgate_dns_refusals_total{kind=\"unreachable\"}").await >= 1.0);
    assert_eq!(app.get("/v1/status").await.json()["upstreams"][0]["up"], false);
}

//--- Start and end ---------------------------------------------------------------------------------------------------

#[tokio::test]
async fn second_start_names_the_address_and_its_holder() {
    let app = App::start().await;
    let (admin, dns, http) = (app.admin(), app.dns(), app.http());
    for (plane, addr) in [("admin", admin), ("dns", dns), ("http", http)] {
        let started = App::try_with(|config, _| match plane {
            "admin" => config.admin.listen = Some(addr),
            "dns" => config.dns.listen = vec![addr],
            _ => config.http.listen = vec![addr],
        })
        .await;
        let error = started.err().expect("a refusal");
        let text = error.to_string();
        assert!(text.starts_with(plane) && text.contains(&addr.to_string()), "{text}");
        assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");
        assert_eq!(error.exit_status(), 3);
    }
    assert!(app.ask(UNFILED, "A").await.is_blocked(), "the first one serves on");
}

#[tokio::test]
async fn drain_ends_the_gate_and_frees_its_ports() {
    let app = App::start().await;
    let (admin, dns) = (app.admin(), app.dns());
    let response = app.post("/v1/drain").await;
    assert_eq!((response.status, &response.json()["draining"]), (202, &Value::Bool(true)));
    timeout(2 * PATIENCE, app.running.wait()).await.expect("ends in time").expect("ends in good order");
    for addr in [admin, dns] {
        TcpListener::bind(addr).await.expect("the port is free");
    }
}

#[tokio::test]
async fn draining_gate_is_not_ready() {
    let app = App::start().await;
    // An open connection with a question that waits keeps the drain from being over.
    app.upstream.on("www.slow.org", "A", Reply { silent: true, ..Default::default() });
    let mut stream = TcpStream::connect(app.dns()).await.expect("connects");
    let packet = Ask::new("www.slow.org", "A").octets();
    let length = u16::try_from(packet.len()).expect("a message");
    stream.write_all(&[&length.to_be_bytes()[..], &packet].concat()).await.expect("writes");
    app.until("the question is asked", async |app| (app.upstream.count("www.slow.org", "A") > 0).then_some(())).await;
    app.running.drain.advance(Phase::Draining);
    let readiness = app.get("/readyz").await;
    assert_eq!(readiness.status, 503);
    assert_eq!(readiness.causes("reasons"), ["draining"]);
    assert!(timeout(PATIENCE, stream.read_u16()).await.expect("in time").expect("an answer") > 0);
    timeout(2 * PATIENCE, app.running.wait()).await.expect("ends in time").expect("ends in good order");
}
