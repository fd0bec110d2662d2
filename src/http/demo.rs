//! A small origin for the demo: one page that shows what arrived, so that a filed site can be seen to pass the gate.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::body::BodyReader;
use super::buffer::Buffer;
use super::head::{Field, HeadLimits, Method, Progress, RequestParser};
use super::listener::{Reach, bind};
use super::relay::persistence;
use super::reply::ReplyHead;
use crate::drain::{DrainWatch, Phase};
use crate::sockets::{SocketId, Sockets};

/// Silence after which a connection ends.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Time that connections have for their last answer once another process has the socket; the page is made at once.
const GIVEN_MAX: Duration = Duration::from_secs(20);
/// Connections at a time; the gate before it is the only client.
const CONNECTIONS_MAX: usize = 4096;
/// What a demo takes.
const LIMITS: HeadLimits = HeadLimits { octets_max: 72 << 10, lines_max: 160 };

/// The page, with places for method, target, host, client and body length.
const PAGE: &str = include_str!("demo.html");

/// The demo origin with its socket.
#[derive(Debug)]
pub struct DemoOrigin {
    listener: TcpListener,
}

impl DemoOrigin {
    /// Binds its socket.
    pub async fn bind(addr: SocketAddr, sockets: &Sockets) -> io::Result<Self> {
        let id = SocketId { plane: "demo", transport: "tcp", addr };
        let socket = sockets.inherit(id).map_or_else(|| bind(addr, Reach::Own), |socket| Ok(socket.into()))?;
        sockets.offer(id, &socket);
        TcpListener::from_std(socket).map(|listener| Self { listener })
    }

    /// The address it listens on.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the drain; the gate's last requests are answered while it drains.
    ///
    /// Where another process has the socket too, connections accepted here may be that one's: none of them is cut off.
    pub async fn run(self, mut drain: DrainWatch) {
        let (mut connections, mut given) = (JoinSet::new(), drain.clone());
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = given.handed_over() => break,
                () = drain.reached(Phase::Stopped) => return,
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok((stream, _)) if connections.len() < CONNECTIONS_MAX => {
                    connections.spawn(serve(stream, drain.clone()));
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "demo origin could not accept");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(self.listener);
        let rest = async { while connections.join_next().await.is_some() {} };
        let _ = timeout(GIVEN_MAX, rest).await;
    }
}

/// Serves a connection; whatever is not as it should be ends it, and a stop where no request is under way.
async fn serve(mut stream: TcpStream, mut drain: DrainWatch) {
    let _ = stream.set_nodelay(true);
    let mut input = Buffer::new(LIMITS.octets_max);
    let mut parser = RequestParser::new(LIMITS);
    while let Some(answer) = next(&mut stream, &mut input, &mut parser).await {
        if !matches!(timeout(IDLE_MAX, stream.write_all(&answer.octets)).await, Ok(Ok(()))) || !answer.keeps {
            return;
        }
        parser.reset();
        if input.is_empty() {
            // Between two requests a client expects an end, and asks again elsewhere.
            tokio::select! {
                filled = read_more(&mut stream, &mut input) => if filled.is_none() { return },
                () = drain.reached(Phase::Stopped) => return,
            }
        }
    }
}

/// An answer on its way.
struct Answer {
    octets: Vec<u8>,
    keeps: bool,
}

async fn next(stream: &mut TcpStream, input: &mut Buffer, parser: &mut RequestParser) -> Option<Answer> {
    while input.is_empty() || parser.advance(input.filled()).ok()? == Progress::Partial {
        read_more(stream, input).await?;
    }
    let head = parser.head();
    let octets = input.filled();
    let text = |octets: &[u8]| escape(&String::from_utf8_lossy(octets));
    let client = head.values(octets, Field::XForwardedFor).last().unwrap_or(b"-");
    let shown = PAGE
        .replace("{method}", &text(head.method_text.of(octets)))
        .replace("{host}", &text(head.host.map_or(b"-", |host| host.of(octets))))
        .replace("{target}", &text(head.path(octets)))
        .replace("{client}", &text(client));
    let length = head.octets;
    let mut body = BodyReader::new(head.framing);
    input.consume(length);
    let mut body_octets = 0;
    while !body.is_done() {
        if input.is_empty() {
            read_more(stream, input).await?;
        }
        let taken = body.take(input.filled()).ok()?;
        body_octets += taken.data.len();
        input.consume(taken.consumed);
    }
    let head = parser.head();
    let page = shown.replace("{body}", &body_octets.to_string());
    let (keeps, is_head) = (head.keeps_alive(), head.method == Method::Head);
    let mut octets = Vec::with_capacity(page.len() + 256);
    ReplyHead {
        status: 200,
        now: SystemTime::now(),
        content_type: "text/html; charset=utf-8",
        content_length: page.len(),
        fields: &[("Server", "icpgate-demo-origin".into()), ("Cache-Control", "no-store".into())],
        persistence: persistence(keeps, head.version),
    }
    .write(&mut octets);
    if !is_head {
        octets.extend_from_slice(page.as_bytes());
    }
    Some(Answer { octets, keeps })
}

async fn read_more(stream: &mut TcpStream, input: &mut Buffer) -> Option<()> {
    matches!(timeout(IDLE_MAX, input.fill(stream)).await, Ok(Ok(1..))).then_some(())
}

/// Text as HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
