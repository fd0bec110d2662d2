//! Load for whole gates, and the origin behind them: one thread, loopback only, as cheap as it can be made.
//!
//! `benches/peers/http` starts it; by hand:
//!
//! - `gate_load origin`: prints two ports. At the first every HTTP request is answered with 1 KB; at the second whatever
//!   comes is answered as a TLS server would by size, or, where the client's second flight asks for it, with so many MiB.
//! - `gate_load plain ADDR HOSTS STATUS CONNECTIONS SECONDS`: requests on kept connections, a host after the other from a file.
//! - `gate_load pass ADDR HELLOS CONNECTIONS SECONDS`: TLS connections that are passed on, with hellos from a file.
//! - `gate_load refused ADDR HELLOS CONNECTIONS SECONDS`: TLS connections that are refused.
//! - `gate_load bulk ADDR HELLOS MIB`: one connection that brings so much.
//!
//! Each prints how many units were done, and fails where an answer is not the expected one.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

/// Octets of a plain answer's body.
const BODY: usize = 1024;
/// Octets of a TLS server's first flight with a certificate chain, of the client's second, of a small answer.
const FLIGHTS: [usize; 3] = [3000, 80, 600];
/// How a client's second flight begins that asks for much.
const BULK: &[u8] = b"bulk ";

fn main() {
    // Cargo adds a flag of its own when it runs benches; without words there is nothing to measure here.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    if words.is_empty() {
        println!("gate_load: see benches/peers/http");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let done = LocalSet::new().block_on(&runtime, run(&words));
    println!("{}", done.expect("the load goes through"));
}

async fn run(words: &[String]) -> io::Result<u64> {
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    let number = |at: usize| word(at).parse::<u64>().map_err(|_| other(format!("word {at} is no number")));
    let addr = || word(1).parse::<SocketAddr>().map_err(|_| other("the first word is no address"));
    match word(0) {
        "origin" => origin().await,
        "plain" => {
            let requests: Vec<Vec<u8>> = lines(word(2))?
                .iter()
                .map(|host| {
                    format!("GET /index.html HTTP/1.1\r\nHost: {host}\r\nUser-Agent: load/1\r\nAccept: */*\r\n\r\n")
                })
                .map(String::into_bytes)
                .collect();
            let (addr, status, until) = (addr()?, word(3).to_owned(), deadline(number(5)?));
            let requests = Rc::new(requests);
            together(number(4)?, move |first| plain(addr, requests.clone(), status.clone(), first, until)).await
        }
        kind @ ("pass" | "refused") => {
            let hellos = Rc::new(hellos(word(2))?);
            let (addr, until, passes) = (addr()?, deadline(number(4)?), kind == "pass");
            together(number(3)?, move |first| connections(addr, hellos.clone(), passes, first, until)).await
        }
        "bulk" => bulk(addr()?, &hellos(word(2))?[0], number(3)?).await,
        other_word => Err(other(format!("{other_word} is no kind of load"))),
    }
}

fn other(message: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::other(message)
}

fn lines(path: &str) -> io::Result<Vec<String>> {
    Ok(std::fs::read_to_string(Path::new(path))?.lines().map(str::to_owned).collect())
}

/// Hellos, one a line in hexadecimal digits.
fn hellos(path: &str) -> io::Result<Vec<Vec<u8>>> {
    let octets = |line: &String| {
        let pair = |at: usize| line.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        (0..line.len()).step_by(2).map(pair).collect::<Option<Vec<u8>>>().ok_or_else(|| other("no hexadecimal digits"))
    };
    lines(path)?.iter().map(octets).collect()
}

fn deadline(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

/// Runs `count` tasks and sums what they did.
async fn together<F: Future<Output = io::Result<u64>> + 'static>(
    count: u64,
    task: impl Fn(usize) -> F,
) -> io::Result<u64> {
    let mut tasks = JoinSet::new();
    for first in 0..count {
        tasks.spawn_local(task(usize::try_from(first).unwrap_or(0) * 7919));
    }
    let mut sum = 0;
    while let Some(done) = tasks.join_next().await {
        sum += done.map_err(io::Error::other)??;
    }
    Ok(sum)
}

//--- Clients ---------------------------------------------------------------------------------------------------------

async fn plain(
    addr: SocketAddr,
    requests: Rc<Vec<Vec<u8>>>,
    status: String,
    first: usize,
    until: Instant,
) -> io::Result<u64> {
    let expected = format!("HTTP/1.1 {status}");
    let (mut done, mut buf) = (0, vec![0; 64 << 10]);
    let mut stream = connect(addr).await?;
    let mut uses = 0;
    while Instant::now() < until {
        // Servers bound the requests on one connection.
        if uses == 900 {
            (stream, uses) = (connect(addr).await?, 0);
        }
        stream.write_all(&requests[(first + done) % requests.len()]).await?;
        answer(&mut stream, &mut buf, expected.as_bytes()).await?;
        (done, uses) = (done + 1, uses + 1);
    }
    Ok(done as u64)
}

/// Reads one answer with a length.
async fn answer(stream: &mut TcpStream, buf: &mut [u8], expected: &[u8]) -> io::Result<()> {
    let mut end = 0;
    let mut whole = None;
    loop {
        let count = stream.read(&mut buf[end..]).await?;
        if count == 0 {
            return Err(other("the connection ended within an answer"));
        }
        end += count;
        if whole.is_none()
            && let Some(head) = buf[..end].windows(4).position(|four| four == b"\r\n\r\n")
        {
            let text = String::from_utf8_lossy(&buf[..head]).to_ascii_lowercase();
            if !buf.starts_with(expected) {
                return Err(other(format!("expected {}: {text}", String::from_utf8_lossy(expected))));
            }
            let length = text
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.lines().next()?.trim().parse::<usize>().ok());
            whole = Some(head + 4 + length.ok_or_else(|| other("an answer without length"))?);
        }
        if whole.is_some_and(|whole| end >= whole) {
            return Ok(());
        }
    }
}

async fn connections(
    addr: SocketAddr,
    hellos: Rc<Vec<Vec<u8>>>,
    passes: bool,
    first: usize,
    until: Instant,
) -> io::Result<u64> {
    let (mut done, mut buf) = (0, vec![0; 64 << 10]);
    while Instant::now() < until {
        let mut stream = connect(addr).await?;
        stream.write_all(&hellos[(first + done) % hellos.len()]).await?;
        if passes {
            stream.read_exact(&mut buf[..FLIGHTS[0]]).await?;
            stream.write_all(&[b'x'; FLIGHTS[1]]).await?;
            stream.read_exact(&mut buf[..FLIGHTS[2]]).await?;
        } else {
            // An alert, an end or a reset: anything but a server's flight.
            let mut count = 0;
            while let Ok(more @ 1..) = stream.read(&mut buf).await {
                count += more;
            }
            if count > 64 {
                return Err(other("a connection was passed on"));
            }
        }
        done += 1;
    }
    Ok(done as u64)
}

async fn bulk(addr: SocketAddr, hello: &[u8], mib: u64) -> io::Result<u64> {
    let mut stream = connect(addr).await?;
    let (mut left, mut buf) = (mib << 20, vec![0; 256 << 10]);
    stream.write_all(hello).await?;
    stream.read_exact(&mut buf[..FLIGHTS[0]]).await?;
    let mut second = [0; FLIGHTS[1]];
    second[..BULK.len()].copy_from_slice(BULK);
    second[BULK.len()..][..8].copy_from_slice(&mib.to_be_bytes());
    stream.write_all(&second).await?;
    while left > 0 {
        let count = stream.read(&mut buf).await? as u64;
        if count == 0 {
            return Err(other("the connection ended early"));
        }
        left = left.saturating_sub(count);
    }
    Ok(mib)
}

async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

//--- Origin ----------------------------------------------------------------------------------------------------------

async fn origin() -> io::Result<u64> {
    let (plain, tls) = (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
    println!("{} {}", plain.local_addr()?.port(), tls.local_addr()?.port());
    let answer: Rc<[u8]> = format!(
        "HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: text/html\r\nContent-Length: {BODY}\r\n\r\n{}",
        "x".repeat(BODY)
    )
    .into_bytes()
    .into();
    loop {
        tokio::select! {
            accepted = plain.accept() => drop(tokio::task::spawn_local(serve_plain(accepted?.0, answer.clone()))),
            accepted = tls.accept() => drop(tokio::task::spawn_local(serve_tls(accepted?.0))),
        }
    }
}

async fn serve_plain(mut stream: TcpStream, answer: Rc<[u8]>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buf = vec![0; 16 << 10];
    let mut end = 0;
    loop {
        let count = stream.read(&mut buf[end..]).await?;
        if count == 0 {
            return Ok(());
        }
        end += count;
        // Clients here send one request at a time and no body.
        if buf[..end].ends_with(b"\r\n\r\n") {
            stream.write_all(&answer).await?;
            end = 0;
        }
    }
}

async fn serve_tls(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buf = vec![0; 16 << 10];
    let mut end = 0;
    // A hello of one record: its length stands in its head.
    while end < 5 || end < 5 + usize::from(u16::from_be_bytes([buf[3], buf[4]])) {
        let count = stream.read(&mut buf[end..]).await?;
        if count == 0 {
            return Ok(());
        }
        end += count;
    }
    stream.write_all(&[b'x'; FLIGHTS[0]]).await?;
    stream.read_exact(&mut buf[..FLIGHTS[1]]).await?;
    if let Some(mib) = buf.strip_prefix(BULK).and_then(|octets| octets.first_chunk::<8>()) {
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..u64::from_be_bytes(*mib) {
            stream.write_all(&piece).await?;
        }
        return Ok(());
    }
    stream.write_all(&[b'x'; FLIGHTS[2]]).await?;
    while stream.read(&mut buf).await? > 0 {}
    Ok(())
}
