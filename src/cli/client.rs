//! A small HTTP/1.1 client for the admin listener: one request, one connection, everything bounded.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::ops::AdminSettings;

/// Octets of an answer; a status has a few thousand.
const ANSWER_OCTETS_MAX: u64 = 16 << 20;
/// Time to connect: the listener is on this machine or near.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between octets; a reload of millions of rows takes a while to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// What the gate answered.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, as JSON where it is some.
    pub body: serde_json::Value,
}

/// Asks the admin listener of a running gate: by its Unix socket where it has one, else at its address.
pub fn ask(settings: &AdminSettings, method: &str, path: &str) -> anyhow::Result<Answer> {
    let (token, host) = (settings.token.as_ref(), settings.listen.map(reachable));
    let token = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    let host = host.map_or_else(|| "localhost".to_owned(), |addr| addr.to_string());
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n{token}Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    if let Some(socket) = &settings.socket {
        let place = socket.display();
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("no gate answers on {place} (admin.socket); is it running, as this user?"))?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(CONNECT_TIMEOUT))?;
        return exchange(stream, &request).with_context(|| format!("{method} {path} on {place}"));
    }
    let Some(listen) = settings.listen else {
        bail!("admin.listen and admin.socket are empty: a gate so configured cannot be asked")
    };
    let addr = reachable(listen);
    if settings.tls.is_some() {
        bail!("the admin listener on {addr} speaks TLS, this command does not; expected admin.socket")
    }
    let stream = TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT)
        .with_context(|| format!("no gate answers on {addr} (admin.listen); is it running?"))?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(CONNECT_TIMEOUT))?;
    exchange(stream, &request).with_context(|| format!("{method} {path} on {addr}"))
}

fn exchange(mut stream: impl Read + Write, request: &str) -> anyhow::Result<Answer> {
    stream.write_all(request.as_bytes())?;
    let mut octets = Vec::new();
    stream.take(ANSWER_OCTETS_MAX).read_to_end(&mut octets)?;
    parse(&octets)
}

/// A listener on every address is asked on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn parse(octets: &[u8]) -> anyhow::Result<Answer> {
    const MALFORMED: &str = "the answer is not HTTP; does another program listen there?";
    let end = octets.windows(4).position(|window| window == b"\r\n\r\n").context(MALFORMED)?;
    let head = std::str::from_utf8(&octets[..end]).context(MALFORMED)?;
    let body = &octets[end + 4..];
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or("");
    let code = status_line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    let status: u16 = code.and_then(|code| code.parse().ok()).context(MALFORMED)?;
    let is_chunked = lines.any(|line| {
        let line = line.to_ascii_lowercase();
        line.starts_with("transfer-encoding:") && line.contains("chunked")
    });
    let body = if is_chunked { join_chunks(body).context(MALFORMED)? } else { body.to_vec() };
    let text = String::from_utf8_lossy(&body);
    let body = serde_json::from_str(&text).unwrap_or_else(|_| text.trim().into());
    Ok(Answer { status, body })
}

/// The body of a chunked message (RFC 9112 section 7.1); `None` where it is malformed or cut.
fn join_chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut res = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..end]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        rest = rest.get(end + 2..)?;
        if size == 0 {
            return Some(res);
        }
        res.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_with_and_without_chunks() {
        let plain = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"ok\":true}").expect("plain");
        assert_eq!((plain.status, &plain.body["ok"]), (200, &true.into()));
        let chunked =
            b"HTTP/1.1 409 Conflict\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"ok\"\r\n7;x=1\r\n:false}\r\n0\r\n\r\n";
        let chunked = parse(chunked).expect("chunked");
        assert_eq!((chunked.status, &chunked.body["ok"]), (409, &false.into()));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\nok\n").expect("text").body, "ok");
    }

    #[test]
    fn other_octets_are_errors() {
        for octets in [
            &b""[..],
            b"SSH-2.0\r\n\r\n",
            b"HTTP/1.1 x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nx",
        ] {
            assert!(parse(octets).is_err());
        }
    }
}
