//! An origin of TLS that opens nothing: it keeps what it is sent, answers with a scripted first message, then echoes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::tls::{message, record};

/// What the origin does once it has been sent something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Answers with [`answer`], then sends back all it was ever sent.
    Answer,
    /// Asks for a second hello, and answers to whatever comes then.
    Retry,
    /// Ends without a word.
    Close,
    /// Says nothing.
    Hang,
}

/// An origin and what it was sent, by connection.
#[derive(Clone)]
pub struct TlsOrigin {
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    manner: Arc<Mutex<Manner>>,
}

/// A ServerHello, as far as anybody looks at it here.
pub fn answer() -> Vec<u8> {
    server_hello([7; 32])
}

/// A HelloRetryRequest (RFC 8446 section 4.1.3).
pub fn retry_request() -> Vec<u8> {
    let random = "cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c";
    server_hello(super::tls::octets(random).try_into().expect("32 octets"))
}

fn server_hello(random: [u8; 32]) -> Vec<u8> {
    record(22, &message(2, &[&[3, 3][..], &random, &[0, 0x13, 1, 0, 0, 0]].concat()))
}

impl TlsOrigin {
    pub async fn start() -> Self {
        Self::at("127.0.0.1:0".parse().expect("an address")).await
    }

    /// The same at a given address.
    pub async fn at(addr: SocketAddr) -> Self {
        let listener = TcpListener::bind(addr).await.expect("a socket");
        let addr = listener.local_addr().expect("an address");
        let res = Self { addr, seen: Arc::default(), manner: Arc::new(Mutex::new(Manner::Answer)) };
        let origin = res.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = {
                    let mut seen = origin.seen.lock().expect("no panic inside");
                    seen.push(Vec::new());
                    seen.len() - 1
                };
                tokio::spawn(origin.clone().serve(stream, connection));
            }
        });
        res
    }

    /// Behaves like this from now on.
    pub fn behave(&self, manner: Manner) {
        *self.manner.lock().expect("no panic inside") = manner;
    }

    /// What each connection was sent so far.
    pub fn seen(&self) -> Vec<Vec<u8>> {
        self.seen.lock().expect("no panic inside").clone()
    }

    pub fn connections(&self) -> usize {
        self.seen.lock().expect("no panic inside").len()
    }

    async fn serve(self, mut stream: TcpStream, connection: usize) {
        let mut buf = vec![0; 64 << 10];
        let mut count = self.read(&mut stream, &mut buf, connection).await;
        let manner = *self.manner.lock().expect("no panic inside");
        match manner {
            Manner::Close => return,
            Manner::Hang => {
                while self.read(&mut stream, &mut buf, connection).await > 0 {}
                return;
            }
            Manner::Retry => {
                let _ = stream.write_all(&retry_request()).await;
                let first = buf[..count].to_vec();
                count = self.read(&mut stream, &mut buf, connection).await;
                let _ = stream.write_all(&answer()).await;
                let _ = stream.write_all(&first).await;
            }
            Manner::Answer => drop(stream.write_all(&answer()).await),
        }
        while count > 0 {
            if stream.write_all(&buf[..count]).await.is_err() {
                return;
            }
            count = self.read(&mut stream, &mut buf, connection).await;
        }
        let _ = stream.shutdown().await;
    }

    async fn read(&self, stream: &mut TcpStream, buf: &mut [u8], connection: usize) -> usize {
        let count = stream.read(buf).await.unwrap_or(0);
        self.seen.lock().expect("no panic inside")[connection].extend_from_slice(&buf[..count]);
        count
    }
}
