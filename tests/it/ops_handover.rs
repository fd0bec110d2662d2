//! The change from one gate to the next: sockets change hands, nothing is refused or lost.

use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use icpgate::app::{Running, StartError, start_at};
use icpgate::config::Config;
use icpgate::drain::Phase;
use icpgate::policy::Clock;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::dns_secure::{Quic, listener};
use super::harness::app::{App, config, request};
use super::harness::dns::{Answer, Ask, PATIENCE, exchange, over_udp};
use super::harness::h2::TlsClient;

const HANDOVER: &str = "run.handover";

async fn first() -> App {
    App::with(|config, dir| config.admin.handover = Some(dir.path().join(HANDOVER))).await
}

/// The configuration that the first gate has.
fn same(app: &App) -> Config {
    let mut res = config(&app.dir, app.upstream.addr);
    res.admin.handover = Some(app.path(HANDOVER));
    res
}

async fn next(app: &App, config: Config) -> Result<Running, StartError> {
    start_at(config, Clock::Manual(app.clock.clone())).await
}

async fn ends_in_order(running: Running) {
    timeout(3 * PATIENCE, running.wait()).await.expect("ends in time").expect("ends in good order");
}

/// Asks and browses without a pause; how often, once told to stop. Each must be answered.
fn visit(dns: SocketAddr, http: SocketAddr, stop: &Arc<AtomicBool>) -> JoinHandle<usize> {
    let stop = stop.clone();
    tokio::spawn(async move {
        let mut rounds = 0;
        while !stop.load(Ordering::Relaxed) {
            let answer = exchange(dns, &Ask::new("www.overseas.example", "A")).await.map(Answer);
            assert!(answer.is_some(), "round {rounds}: no answer over UDP");
            let asked = "GET / HTTP/1.1\r\nHost: www.filed.example\r\nConnection: close\r\n\r\n";
            assert_eq!(request(http, asked).await.status, 200, "round {rounds}");
            rounds += 1;
        }
        rounds
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_gate_takes_the_sockets_over_and_the_first_one_ends() {
    let app = first().await;
    let (dns, http) = (app.dns(), app.http());
    let stop = Arc::new(AtomicBool::new(false));
    let visits: Vec<_> = (0..4).map(|_| visit(dns, http, &stop)).collect();
    let second = next(&app, same(&app)).await.expect("takes over");
    assert_eq!((second.addrs.dns[0], second.addrs.http[0]), (dns, http));
    assert_eq!(second.addrs.admin, Some(app.admin()));
    let App { dir, upstream, clock, running } = app;
    ends_in_order(running).await;
    // And from there to a third.
    let app = App { dir, upstream, clock, running: second };
    let third = next(&app, same(&app)).await.expect("takes over");
    let App { dir, running, .. } = app;
    ends_in_order(running).await;
    // The third one has answered some by itself.
    let answers = async {
        while third.metrics.sum("dns_queries_total") < 1.0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, answers).await.expect("it is asked in time");
    stop.store(true, Ordering::Relaxed);
    for visit in visits {
        assert!(timeout(PATIENCE, visit).await.expect("ends in time").expect("nothing was lost") > 0);
    }
    third.drain.advance(Phase::Draining);
    ends_in_order(third).await;
    assert!(!dir.path().join(HANDOVER).exists(), "the last gate takes its path along");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_listeners_of_dns_change_hands() {
    let secure = |config: &mut Config| {
        config.dns.tls = listener("here");
        config.dns.https = listener("here");
        config.dns.quic = listener("here");
        config.dns.proxy_protocol.listen = vec!["127.0.0.1:0".parse().expect("an address")];
        config.dns.proxy_protocol.from = vec!["127.0.0.1/32".parse().expect("a prefix")];
    };
    let app = App::with(|config, dir| {
        config.admin.handover = Some(dir.path().join(HANDOVER));
        secure(config);
    })
    .await;
    let (tls, https) = (app.running.addrs.dns_tls[0], app.running.addrs.dns_https[0]);
    let proxied = app.running.addrs.dns_proxied[0];
    let quic = Quic::try_connect(app.running.addrs.dns_quic[0], "here", &["doq"]).await.expect("a connection");
    let mut config = same(&app);
    secure(&mut config);
    // Connections that nobody has accepted yet, or whose handshake is done by whoever accepts them, are lost by neither.
    let stop = Arc::new(AtomicBool::new(false));
    let visits = {
        let stop = stop.clone();
        tokio::spawn(async move {
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                assert!(tokio::net::TcpStream::connect(tls).await.is_ok(), "round {rounds}: refused");
                rounds += 1;
                tokio::task::yield_now().await;
            }
            rounds
        })
    };
    let second = next(&app, config).await.expect("takes over");
    assert_eq!((second.addrs.dns_tls[0], second.addrs.dns_https[0]), (tls, https));
    assert_eq!(second.addrs.dns_proxied[0], proxied);
    let App { running, .. } = app;
    ends_in_order(running).await;
    assert_eq!(quic.closed().await, 0, "the old gate says that it ends");
    for (addr, protocol) in [(tls, "dot"), (https, "h2")] {
        assert!(TlsClient::new(addr).connect("here.cn", &[protocol]).await.is_ok(), "{protocol}");
    }
    let again = Quic::try_connect(second.addrs.dns_quic[0], "here", &["doq"]).await.expect("a connection");
    assert!(again.ask(&Ask::new("www.unfiled.example", "A").octets()).await.is_ok());
    // A proxy that asks for itself.
    let query = [&b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"[..], &Ask::new("www.unfiled.example", "A").octets()].concat();
    assert!(over_udp(proxied, &query, PATIENCE).await.is_some());
    stop.store(true, Ordering::Relaxed);
    assert!(timeout(PATIENCE, visits).await.expect("ends in time").expect("nothing was refused") > 0);
    second.drain.advance(Phase::Draining);
    ends_in_order(second).await;
}

#[tokio::test]
async fn a_gate_that_does_not_come_to_serve_changes_nothing() {
    let app = first().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut broken = same(&app);
    broken.http.listen.push(taken.local_addr().expect("an address"));
    let error = next(&app, broken).await.map(|_| ()).expect_err("the port is taken");
    assert_eq!(error.exit_status(), 3, "{error}");
    assert_eq!(app.browse("www.filed.example").await.status, 200);
    assert!(!app.ask("www.overseas.example", "A").await.0.is_empty());
    let second = next(&app, same(&app)).await.expect("takes over");
    let App { running, .. } = app;
    ends_in_order(running).await;
    second.drain.advance(Phase::Draining);
    ends_in_order(second).await;
}

#[tokio::test]
async fn sockets_that_are_configured_no_more_are_closed_and_new_ones_bound() {
    let app = first().await;
    let old_admin = app.admin();
    let mut other = same(&app);
    other.admin.listen = None;
    other.http.tls_listen = vec!["127.0.0.1:0".parse().expect("an address")];
    other.http.fixed_tls = Some("127.0.0.1:9".parse().expect("an address"));
    let second = next(&app, other).await.expect("takes over");
    assert_eq!((second.addrs.admin, second.addrs.tls.len()), (None, 1));
    let App { dir: _dir, running, .. } = app;
    ends_in_order(running).await;
    assert!(tokio::net::TcpStream::connect(old_admin).await.is_err(), "nobody listens there any more");
    second.drain.advance(Phase::Draining);
    ends_in_order(second).await;
}

#[tokio::test]
async fn who_asks_for_sockets_must_know_how() {
    let app = first().await;
    let path = app.path(HANDOVER);
    let file = std::fs::symlink_metadata(&path).expect("a socket");
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let mut asker = UnixStream::connect(&path).await.expect("connects");
    asker.write_all(b"icpgate handover 9\n").await.expect("writes");
    let mut said = Vec::new();
    timeout(PATIENCE, asker.read_to_end(&mut said)).await.expect("ends in time").expect("reads");
    assert!(said.is_empty());
    // One that asks rightly and goes away has changed nothing either.
    drop(icpgate::ops::handover::take(&path).await.expect("sockets"));
    assert_eq!(app.browse("www.filed.example").await.status, 200);
    app.drain().await;
}

#[tokio::test]
async fn a_gate_that_serves_goes_on_when_the_one_before_is_gone() {
    let dir = TempDir::new().expect("a scratch directory");
    let path = dir.path().join("run");
    let old = tokio::net::UnixListener::bind(&path).expect("a socket");
    // It has no sockets to give, and ends before it is told.
    let giving = tokio::spawn(async move {
        let (mut asker, _) = old.accept().await.expect("an asker");
        let mut greeting = [0; 19];
        asker.read_exact(&mut greeting).await.expect("a greeting");
        asker.write_all(b"end\n").await.expect("writes");
        greeting
    });
    let app = App::with(|config, _| config.admin.handover = Some(path.clone())).await;
    assert_eq!(&giving.await.expect("no panic"), b"icpgate handover 1\n");
    assert_eq!(app.browse("www.filed.example").await.status, 200);
    // The next one finds it there.
    let (sockets, taken) = icpgate::ops::handover::take(&path).await.expect("sockets");
    assert!(!sockets.is_empty() && taken.is_some());
    app.drain().await;
}

#[tokio::test]
async fn a_path_that_nobody_serves_is_taken() {
    let dir = TempDir::new().expect("a scratch directory");
    let path = dir.path().join("left");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    let (sockets, taken) = icpgate::ops::handover::take(&path).await.expect("nobody there");
    assert!(sockets.is_empty() && taken.is_none());
    let app = App::with(|config, _| config.admin.handover = Some(path.clone())).await;
    assert_eq!(app.browse("www.filed.example").await.status, 200);
    app.drain().await;
    assert!(!Path::new(&path).exists());
}

//--- The answer cache ------------------------------------------------------------------------------------------------

/// A name that the upstream answers for.
const ASKED: &str = "host.example.org";

async fn keeping(file: &Path) -> App {
    let file = file.to_owned();
    let res = App::with(|config, dir| {
        config.dns.cache_file = Some(file);
        config.admin.handover = Some(dir.path().join(HANDOVER));
    })
    .await;
    res.upstream.addresses(ASKED, &["192.0.2.10"]);
    res
}

/// The gate ends, and begins anew before the same upstream.
async fn restarted(app: App, file: &Path) -> App {
    let App { dir, upstream, clock, running } = app;
    running.drain.advance(Phase::Draining);
    ends_in_order(running).await;
    let mut config = config(&dir, upstream.addr);
    config.dns.cache_file = Some(file.to_owned());
    let running = start_at(config, Clock::Manual(clock.clone())).await.expect("the gate starts");
    App { dir, upstream, clock, running }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_cache_outlives_a_restart_and_damage_costs_no_more_than_it() {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("answers");
    let app = keeping(&file).await;
    let first = app.ask(ASKED, "A").await.addresses();
    assert_eq!(first, ["192.0.2.10"]);
    let asked = app.upstream.log().len();
    let app = restarted(app, &file).await;
    assert_eq!(app.ask(ASKED, "A").await.addresses(), first);
    assert_eq!(app.upstream.log().len(), asked, "nobody was asked");
    app.drain().await;
    // Damaged, and of another upstream.
    for text in ["icpgate cache 1\nhalf of", ""] {
        if !text.is_empty() {
            std::fs::write(&file, text).expect("a writable directory");
        }
        let app = keeping(&file).await;
        assert_eq!(app.ask(ASKED, "A").await.addresses(), first);
        assert!(app.upstream.count(ASKED, "A") > 0, "it began with none");
        app.drain().await;
        assert!(std::fs::read(&file).expect("the file").len() > 100, "and is whole again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_cache_goes_to_the_next_gate() {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("answers");
    let app = keeping(&file).await;
    let first = app.ask(ASKED, "A").await.addresses();
    let before = app.upstream.count(ASKED, "A");
    let mut config = same(&app);
    config.dns.cache_file = Some(file);
    let second = next(&app, config).await.expect("takes over");
    let App { dir, upstream, clock, running } = app;
    ends_in_order(running).await;
    let app = App { dir, upstream, clock, running: second };
    assert_eq!(app.ask(ASKED, "A").await.addresses(), first);
    assert_eq!(app.upstream.count(ASKED, "A"), before);
    app.drain().await;
}
