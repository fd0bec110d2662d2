//! Clients of HTTP/2: one that keeps the rules, and one that sends the frames it is told.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request};
use icpgate::credentials::CertificateFiles;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::http::PATIENCE;

/// An answer with what came behind it.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a text body")
    }
}

/// A request without a body.
pub fn request(method: &str, host: &str, path: &str) -> Request<()> {
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    Request::builder().method(method).uri(format!("http://{host}{path}")).body(()).expect("a request")
}

//--- A client that keeps the rules -----------------------------------------------------------------------------------

/// A connection of the `h2` library.
pub struct H2 {
    pub send: SendRequest<Bytes>,
    pub driving: JoinHandle<Result<(), h2::Error>>,
}

impl H2 {
    pub async fn connect(addr: SocketAddr) -> Self {
        Self::over(TcpStream::connect(addr).await.expect("connects")).await
    }

    pub async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (send, connection) = h2::client::handshake(io).await.expect("a handshake");
        Self { send, driving: tokio::spawn(connection) }
    }

    /// A GET.
    pub async fn get(&self, host: &str, path: &str) -> Answer {
        self.ask(request("GET", host, path), b"").await.expect("an answer")
    }

    /// One request, its body in one piece, and the whole answer.
    pub async fn ask(&self, request: Request<()>, body: &[u8]) -> Result<Answer, h2::Error> {
        let mut send = self.send.clone().ready().await?;
        let (response, mut stream) = send.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            stream.send_data(Bytes::copy_from_slice(body), true)?;
        }
        Self::whole(timeout(PATIENCE, response).await.expect("an answer in time")?).await
    }

    /// An answer with its body and trailers.
    pub async fn whole(response: http::Response<h2::RecvStream>) -> Result<Answer, h2::Error> {
        let (head, mut stream) = response.into_parts();
        let mut body = Vec::new();
        while let Some(piece) = timeout(PATIENCE, stream.data()).await.expect("octets in time") {
            let piece = piece?;
            stream.flow_control().release_capacity(piece.len())?;
            body.extend_from_slice(&piece);
        }
        let trailers = stream.trailers().await?;
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body, trailers })
    }
}

//--- A client that sends frames --------------------------------------------------------------------------------------

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
/// PROTOCOL_ERROR and ENHANCE_YOUR_CALM.
pub const PROTOCOL_ERROR: u32 = 1;
pub const CALM: u32 = 11;

/// A frame as it came; none at all by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four octets"))
    }

    /// The status of HEADERS, where it is one of the static table; without a dynamic table others are literals.
    pub fn status(&self) -> Option<u16> {
        let first = self.payload.iter().find(|octet| **octet & 0xe0 != 0x20)?;
        [200, 204, 206, 304, 400, 404, 500].get(usize::from(first.checked_sub(0x88)?)).copied()
    }
}

/// The octets of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field block of literals (RFC 7541 section 6.2.2).
pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut res = Vec::new();
    for (name, value) in fields {
        res.push(0);
        for text in [name, value] {
            let mut left = text.len();
            if left < 127 {
                res.push(u8::try_from(left).expect("short"));
            } else {
                left -= 127;
                res.push(127);
                while left >= 128 {
                    res.push(u8::try_from(left % 128 + 128).expect("an octet"));
                    left /= 128;
                }
                res.push(u8::try_from(left).expect("an octet"));
            }
            res.extend_from_slice(text.as_bytes());
        }
    }
    res
}

/// The usual fields of a GET with others.
pub fn get_fields(more: &[(&str, &str)]) -> Vec<u8> {
    fields(&[&[(":method", "GET"), (":scheme", "http"), (":path", "/")], more].concat())
}

/// A connection that sends octets.
pub struct Raw {
    pub stream: TcpStream,
    buf: Vec<u8>,
}

impl Raw {
    /// Sends the preface, and SETTINGS without a dynamic table.
    pub async fn connect(addr: SocketAddr) -> Self {
        let mut res = Self { stream: TcpStream::connect(addr).await.expect("connects"), buf: Vec::new() };
        res.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        res.send(&frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0])).await;
        res
    }

    /// Sends octets; a connection that is closed meanwhile is no error here.
    pub async fn send(&mut self, octets: &[u8]) {
        let _ = self.stream.write_all(octets).await;
    }

    /// Opens a stream and ends it.
    pub async fn ask(&mut self, stream: u32, block: &[u8]) {
        self.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, block)).await;
    }

    /// The next frame; `None` when the connection ends.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((head, rest)) = self.buf.split_at_checked(9) {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                if let Some(payload) = rest.get(..length) {
                    let stream = u32::from_be_bytes(head[5..9].try_into().expect("four octets"));
                    let res = Frame { kind: head[3], flags: head[4], stream, payload: payload.to_vec() };
                    self.buf.drain(..9 + length);
                    return Some(res);
                }
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buf)).await.expect("octets or an end in time");
            if !read.is_ok_and(|count| count > 0) {
                return None;
            }
        }
    }

    /// The first frame of these kinds.
    pub async fn first(&mut self, kinds: &[u8]) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if kinds.contains(&frame.kind) {
                return Some(frame);
            }
        }
    }

    /// The error code of the last GOAWAY; the connection must end.
    pub async fn goaway(&mut self) -> Option<u32> {
        let mut res = None;
        while let Some(frame) = self.next().await {
            if frame.kind == GOAWAY {
                res = Some(frame.code());
            }
        }
        res
    }
}

//--- TLS -------------------------------------------------------------------------------------------------------------

/// A certificate of the tests with its key: `here` is for here.cn, *.here.cn and nofile.cn, `other` for other.cn and
/// www.here.cn.
pub fn certificate(name: &str) -> CertificateFiles {
    let at = |end: &str| PathBuf::from(format!("{}/tests/data/certificates/{name}.{end}", env!("CARGO_MANIFEST_DIR")));
    CertificateFiles { chain: at("pem"), key: at("key") }
}

/// Opens TLS to a gate; trusts the certificate `here`, unless told otherwise.
pub struct TlsClient {
    pub addr: SocketAddr,
    trusted: PathBuf,
}

impl TlsClient {
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, trusted: certificate("here").chain }
    }

    /// One that trusts another certificate of the tests.
    pub fn trusting(addr: SocketAddr, name: &str) -> Self {
        Self { addr, trusted: certificate(name).chain }
    }

    /// A connection for `name` that offers these protocols.
    pub async fn connect(&self, name: &str, alpn: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        self.over(TcpStream::connect(self.addr).await?, name, alpn).await
    }

    /// The same over a stream that is there.
    pub async fn over<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        name: &str,
        alpn: &[&str],
    ) -> std::io::Result<TlsStream<S>> {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        TlsConnector::from(self.config(alpn)).connect(name, stream).await
    }

    /// What a client is configured with.
    pub fn config(&self, alpn: &[&str]) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.trusted).expect("a certificate")).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = builder.expect("versions").with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// HTTP/2 for `name`.
    pub async fn h2(&self, name: &str) -> H2 {
        let stream = self.connect(name, &["h2", "http/1.1"]).await.expect("TLS");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        H2::over(stream).await
    }
}
