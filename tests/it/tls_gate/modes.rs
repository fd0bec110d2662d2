//! How a connection is refused, and when it is not: block modes, observe and off, missing data.

use std::time::{Duration, Instant};

use icpgate::http::settings::TlsBlock;
use icpgate::http::tls::counters::Outcome as Counted;
use icpgate::policy::{Fault, Mode, Outcome as FaultOutcome, Rules};
use tokio::io::AsyncReadExt;

use super::super::harness::fixture;
use super::super::harness::tls::Sketch;
use super::{INTERNAL_ERROR, Outcome, TlsGate, UNRECOGNIZED_NAME, hello};

async fn refusing_by(mode: TlsBlock) -> TlsGate {
    TlsGate::with(fixture::view(Rules::default()), |settings| {
        settings.block.tls = mode;
        settings.hello_timeout = Duration::from_millis(300);
    })
    .await
}

#[tokio::test]
async fn an_alert_arrives_although_the_client_goes_on_sending() {
    let gate = refusing_by(TlsBlock::Alert).await;
    let mut client = gate.connect().await;
    client.send(&hello("nofile.cn")).await;
    client.send(&[23; 9000]).await;
    assert_eq!(Outcome::read(client.rest().await), Outcome::Alert(UNRECOGNIZED_NAME));
    assert_eq!(gate.counters().connections(Counted::Blocked), 1);
}

#[tokio::test]
async fn a_reset_is_one() {
    let gate = refusing_by(TlsBlock::Reset).await;
    let mut client = gate.connect().await;
    client.send(&hello("nofile.cn")).await;
    let error = client.stream.read(&mut [0; 64]).await.expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(gate.outcome(&hello("here.cn")).await, Outcome::Passed(hello("here.cn")));
}

#[tokio::test]
async fn silence_lasts_as_long_as_a_hello_may_take() {
    let gate = refusing_by(TlsBlock::Drop).await;
    let (begun, mut client) = (Instant::now(), gate.connect().await);
    client.send(&hello("nofile.cn")).await;
    client.send(&[23; 9000]).await;
    assert!(client.rest().await.is_empty());
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(gate.origin.connections(), 0);
}

#[tokio::test]
async fn what_is_no_hello_gets_its_alert_in_every_mode() {
    for mode in [TlsBlock::Alert, TlsBlock::Drop, TlsBlock::Reset] {
        let gate = refusing_by(mode).await;
        let stream = Sketch::new("here.cn").and(16, &[0, 0]).stream();
        assert_eq!(gate.outcome(&stream).await, Outcome::Alert(super::DECODE_ERROR), "{mode:?}");
    }
}

#[tokio::test]
async fn observe_reports_and_passes_and_off_does_neither() {
    for (mode, reports) in [(Mode::Observe, true), (Mode::Off, false)] {
        let mut gate = TlsGate::with(fixture::view(Rules { mode, ..Rules::default() }), |_| {}).await;
        assert_eq!(gate.outcome(&hello("nofile.cn")).await, Outcome::Passed(hello("nofile.cn")), "{mode:?}");
        let record = gate.http.records.try_recv();
        assert_eq!(record.is_ok(), reports, "{mode:?}");
        if let Ok(record) = record {
            assert_eq!((record.verdict.reason.label(), record.enforced), ("not_filed", false));
            assert_eq!(record.name, Some(fixture::name("nofile.cn")));
        }
        let stream = Sketch::new("nofile.cn").and(16, &[0, 0]).stream();
        assert_eq!(gate.outcome(&stream).await, Outcome::Alert(super::DECODE_ERROR), "what cannot be read");
    }
}

#[tokio::test]
async fn without_data_nothing_passes() {
    let mut view = fixture::view(Rules::default());
    view.faults = vec![(Fault::RegistryMissing, FaultOutcome::Block)];
    let gate = TlsGate::with(view, |_| {}).await;
    assert_eq!(gate.outcome(&hello("here.cn")).await, Outcome::Alert(INTERNAL_ERROR));
    assert_eq!(gate.counters().connections(Counted::NotReady), 1);
    assert_eq!(gate.origin.connections(), 0);
}

#[tokio::test]
async fn verdicts_are_those_of_http_and_reported_as_tls() {
    let mut gate = TlsGate::start().await;
    for (name, passes, reason) in
        [("here.cn", true, "filed"), ("nofile.cn", false, "not_filed"), ("else.com", false, "not_accessed")]
    {
        let outcome = gate.outcome(&hello(name)).await;
        assert_eq!(matches!(outcome, Outcome::Passed(_)), passes, "{name}");
        let record = gate.http.records.recv().await.expect("a record");
        assert_eq!((record.via.label(), record.verdict.reason.label()), ("tls", reason), "{name}");
        assert_eq!(gate.http.status(name).await == 200, passes, "{name}");
        assert_eq!(gate.http.records.recv().await.expect("a record").via.label(), "http");
    }
}
