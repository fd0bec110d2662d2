//! The admin listener with every place taken.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::harness::app::App;
use super::harness::dns::PATIENCE;

/// As many connections as the admin listener has places.
const PLACES: usize = 256;

/// Opens a connection and sends `text`.
async fn open(app: &App, text: &str) -> TcpStream {
    let mut res = TcpStream::connect(app.admin()).await.expect("connects");
    res.write_all(text.as_bytes()).await.expect("writes");
    res
}

#[tokio::test]
async fn a_full_house_closes_the_longest_idle_connection() {
    let app = App::start().await;
    let mut stream = open(&app, "GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await;
    let mut buf = [0; 4096];
    let length = timeout(PATIENCE, stream.read(&mut buf)).await.expect("in time").expect("reads");
    assert!(buf[..length].starts_with(b"HTTP/1.1 200 "));
    let mut idle = Vec::new();
    // Half of them begin a head and do not end it.
    for i in 0..PLACES {
        idle.push(open(&app, if i % 2 == 0 { "GET / HT" } else { "" }).await);
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(app.get(path).await.status, 200, "{path}");
    }
    // The first to come was idle for longest; closed with octets unread it may be reset.
    let closed = timeout(PATIENCE, idle[0].read(&mut buf)).await.expect("closed in time");
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    // A stream is at work, however old it is.
    app.ask("www.unfiled.example", "A").await;
    let length = timeout(PATIENCE, stream.read(&mut buf)).await.expect("in time").expect("reads");
    assert!(length > 0, "the stream goes on");
    // The last to come still has its place.
    let last = idle.last_mut().expect("connections");
    last.write_all(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await.expect("writes");
    let length = timeout(PATIENCE, last.read(&mut buf)).await.expect("in time").expect("reads");
    assert!(buf[..length].starts_with(b"HTTP/1.1 200 "));
}
