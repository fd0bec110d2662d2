//! Alerts as JSON by HTTP: one POST a batch, over a connection of its own, with TLS where the URL says so.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Alert, AlertError, Failure};
use crate::credentials::client_config;
use crate::ops::process::VERSION;

/// Octets of an answer's head; the rest of an answer is not read.
const HEAD_OCTETS_MAX: usize = 16 << 10;
/// Interim answers (1xx) before the one that counts.
const INTERIM_MAX: usize = 8;

/// An HTTP server that takes alerts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Where it is.
    pub addr: SocketAddr,
    /// Path and query.
    pub path: String,
    /// What `Host` says.
    pub host: String,
    /// The name its certificate must be for; `None` for HTTP in the open.
    pub server_name: Option<String>,
    /// PEM file of roots to trust beside the public ones.
    pub roots: Option<PathBuf>,
    /// The bearer token.
    pub token: Option<String>,
}

/// The way to it.
pub struct Webhook {
    settings: WebhookSettings,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// The body of a request.
#[derive(Serialize)]
struct Body<'a> {
    /// Of this form.
    version: u32,
    /// What is told.
    event: &'static str,
    domains: &'a [Alert],
    /// Domains that could not be told since the last request that was taken.
    dropped: u64,
}

impl Webhook {
    /// The way to the server; connects to nothing.
    pub fn new(settings: &WebhookSettings) -> Result<Self, AlertError> {
        let file = settings.roots.clone().unwrap_or_default();
        let wrong = |what: String| AlertError { file: file.clone(), what };
        let tls = match &settings.server_name {
            None => None,
            Some(name) => {
                let config: Arc<ClientConfig> = client_config(settings.roots.as_deref()).map_err(wrong)?;
                let name = ServerName::try_from(name.clone()).map_err(|error| wrong(error.to_string()))?;
                Some((TlsConnector::from(config), name))
            }
        };
        Ok(Self { settings: settings.clone(), tls })
    }

    /// Sends a batch.
    pub(super) async fn send(&self, batch: &[Alert], dropped: u64) -> Result<(), Failure> {
        let addr = self.settings.addr;
        let failed = |error: std::io::Error| Failure { sent: 0, may_retry: true, text: format!("{addr}: {error}") };
        let status = self.exchange(batch, dropped).await.map_err(failed)?;
        match status {
            200..=299 => Ok(()),
            // It may do so later: RFC 9110 sections 15.5.9 and 15.6, RFC 6585 section 4.
            408 | 425 | 429 | 500..=599 => {
                Err(Failure { sent: 0, may_retry: true, text: format!("{addr} answers {status}") })
            }
            _ => Err(Failure { sent: 0, may_retry: false, text: format!("{addr} answers {status}; expected 2xx") }),
        }
    }

    async fn exchange(&self, batch: &[Alert], dropped: u64) -> std::io::Result<u16> {
        let body = Body { version: 1, event: "unfiled_domains", domains: batch, dropped };
        let body = serde_json::to_vec(&body)?;
        let WebhookSettings { path, host, token, .. } = &self.settings;
        let token = token.as_ref().map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: icpgate/{VERSION}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n{token}Connection: close\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(&body);
        let stream = TcpStream::connect(self.settings.addr).await?;
        match &self.tls {
            None => status_of(stream, &request).await,
            Some((connector, name)) => status_of(connector.connect(name.clone(), stream).await?, &request).await,
        }
    }
}

/// Sends a request and reads the status of its answer.
async fn status_of(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> std::io::Result<u16> {
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut head = Vec::new();
    let mut interim = 0;
    loop {
        while let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            let status = read_status(&head[..end]).ok_or_else(|| std::io::Error::other("the answer is not HTTP/1"))?;
            if !(100..200).contains(&status) || interim == INTERIM_MAX {
                return Ok(status);
            }
            head.drain(..end + 4);
            interim += 1;
        }
        if head.len() >= HEAD_OCTETS_MAX {
            return Err(std::io::Error::other(format!("the answer's head is longer than {HEAD_OCTETS_MAX} octets")));
        }
        if stream.read_buf(&mut head).await? == 0 {
            return Err(std::io::Error::other("ended before it answered"));
        }
    }
}

/// The code of a status line (RFC 9112 section 4).
fn read_status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.")?;
    let (minor, rest) = rest.split_first()?;
    let code = rest.strip_prefix(b" ")?.get(..3)?;
    let is_good = minor.is_ascii_digit() && code.iter().all(u8::is_ascii_digit);
    is_good.then(|| code.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_status_that_counts_is_read() {
        for (answer, expected) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", Some(204)),
            ("HTTP/1.0 500\r\nA: b\r\n\r\nrest", Some(500)),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\n\r\n", Some(202)),
            ("HTTP/2 200\r\n\r\n", None),
            ("HTTP/1.1 2x0 OK\r\n\r\n", None),
            ("HTTP/1.1 200 OK\r\n", None),
            ("", None),
        ] {
            let (client, mut server) = tokio::io::duplex(4096);
            server.write_all(answer.as_bytes()).await.expect("room");
            let answering = async {
                // Until the request is there; then nothing more comes.
                let mut request = [0; 1];
                server.read_exact(&mut request).await.expect("a request");
                server.shutdown().await.expect("ends");
                server
            };
            let (status, _server) = tokio::join!(status_of(client, b"x"), answering);
            assert_eq!(status.ok(), expected, "{answer:?}");
        }
    }
}
