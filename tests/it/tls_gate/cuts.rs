//! Recorded and crafted streams through the socket: the verdict is that of the whole stream, however it is cut.

use std::sync::Arc;

use icpgate::http::hello::{Reader, Reading};
use icpgate::http::host::HostName;
use icpgate::policy::Rules;
use tokio::task::JoinSet;

use super::super::harness::fixture;
use super::super::harness::tls::{records, rows};
use super::{ILLEGAL_PARAMETER, Outcome, TlsGate};

/// Connections at a time.
const BATCH: usize = 32;
/// Cuts of each stream; every offset where real peers are asked for, which have the time.
const CUTS: usize = 24;

/// Half of the recorded names are filed.
async fn gate() -> Arc<TlsGate> {
    let view = fixture::view(Rules::default());
    let gate = TlsGate::with(view, |settings| settings.connections_per_client_max = 10_000).await;
    let mut filings = fixture::filings();
    filings.push(fixture::filed("example.cn", &[fixture::PROVIDER]));
    filings.push(fixture::filed("xn--fsqu00a.xn--fiqs8s", &[fixture::PROVIDER]));
    gate.http.publish(filings);
    Arc::new(gate)
}

/// What a stream must come to: by what it is labelled with elsewhere, and by the verdict on the name.
fn expected(gate: &TlsGate, stream: &[u8]) -> Option<Outcome> {
    match Reader::default().read(stream) {
        Reading::Hello(hello) => {
            let nameless = HostName::Address(gate.addr.ip());
            let passes = gate.http.gate.still_passes(hello.host().unwrap_or(&nameless), gate.addr.ip());
            Some(if passes { Outcome::Passed(stream.to_vec()) } else { Outcome::Alert(super::UNRECOGNIZED_NAME) })
        }
        Reading::Malformed(error) => Some(Outcome::Alert(error.alert().code())),
        Reading::NeedMore => Some(Outcome::Closed),
        // Read as a request, or closed: the origin sees nothing of it in any case.
        Reading::NotTls(_) => None,
        Reading::TooLong => Some(Outcome::Alert(ILLEGAL_PARAMETER)),
    }
}

/// The streams of all files, with their names.
fn streams(files: &[&str]) -> Vec<(String, Vec<u8>)> {
    let all = files.iter().flat_map(|file| rows(file));
    all.filter_map(|row| row.stream().map(|stream| (row.id, stream))).collect()
}

/// Sends every piece-list at once, a batch at a time, and compares.
async fn compare(gate: &Arc<TlsGate>, id: &str, expected: &Outcome, all: Vec<Vec<Vec<u8>>>) {
    for batch in all.chunks(BATCH) {
        let mut running = JoinSet::new();
        for pieces in batch.iter().cloned() {
            let gate = gate.clone();
            running.spawn(async move {
                let views: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
                (gate.outcome_of(&views).await, pieces[0].len())
            });
        }
        while let Some(done) = running.join_next().await {
            let (found, at) = done.expect("no panic inside");
            assert_eq!(&found, expected, "{id}, first piece of {at}");
        }
    }
}

/// Offsets at which a stream of this length is cut.
fn offsets(length: usize) -> Vec<usize> {
    let all = std::env::var_os("ICPGATE_TEST_PEERS").is_some_and(|value| value == "1");
    let step = if all { 1 } else { (length / CUTS).max(1) };
    // The record's and the message's header whole.
    (1..length).filter(|at| *at < 12 || at % step == 0).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_stream_is_judged_alike_in_two_segments() {
    let gate = gate().await;
    let (mut passed, mut refused) = (0, 0);
    for (id, stream) in streams(&["own-tcp", "captured-tcp", "crafted"]) {
        let Some(expected) = expected(&gate, &stream) else {
            assert!(!matches!(gate.outcome(&stream).await, Outcome::Passed(_)), "{id}");
            continue;
        };
        let cuts = offsets(stream.len()).into_iter().map(|at| vec![stream[..at].to_vec(), stream[at..].to_vec()]);
        compare(&gate, &id, &expected, [vec![stream.clone()]].into_iter().chain(cuts).collect()).await;
        if matches!(expected, Outcome::Passed(_)) { passed += 1 } else { refused += 1 }
    }
    assert!(passed > 5 && refused > 40, "{passed} and {refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_hello_is_judged_alike_in_two_records() {
    let gate = gate().await;
    let mut count = 0;
    for (id, stream) in streams(&["own-tcp", "captured-tcp"]) {
        let length = match Reader::default().read(&stream) {
            Reading::Hello(hello) if stream.len() == 5 + hello.octets => hello.octets,
            _ => continue,
        };
        let message = stream[5..5 + length].to_vec();
        for at in offsets(length) {
            let stream = records(&message, &[at]);
            let expected = expected(&gate, &stream).expect("a hello");
            assert_eq!(gate.outcome(&stream).await, expected, "{id}, cut at {at}");
        }
        count += 1;
    }
    assert!(count > 5, "{count}");
}
