//! The client's end of a connection: plain TCP, or TLS that ends here. One kind a connection, told at compile time.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp;

use super::buffer::Buffer;

/// A stream that requests come over.
pub trait ClientStream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// What reads while the other half writes.
    type Reader<'a>: AsyncRead + Unpin + Send;
    /// What writes while the other half reads.
    type Writer<'a>: AsyncWrite + Unpin + Send;

    /// Both directions, to be used at the same time.
    fn halves(&mut self) -> (Self::Reader<'_>, Self::Writer<'_>);
}

impl ClientStream for TcpStream {
    type Reader<'a> = tcp::ReadHalf<'a>;
    type Writer<'a> = tcp::WriteHalf<'a>;

    fn halves(&mut self) -> (Self::Reader<'_>, Self::Writer<'_>) {
        self.split()
    }
}

/// A TLS stream whose first octets were read before it was known to end here.
pub type TlsStream = tokio_rustls::server::TlsStream<Ahead<TcpStream>>;

impl ClientStream for TlsStream {
    type Reader<'a> = ReadHalf<&'a mut TlsStream>;
    type Writer<'a> = WriteHalf<&'a mut TlsStream>;

    fn halves(&mut self) -> (Self::Reader<'_>, Self::Writer<'_>) {
        tokio::io::split(self)
    }
}

/// Writes all of `octets` and sees them off: a TLS stream keeps the last of them until it is flushed.
pub async fn send_all(stream: &mut (impl AsyncWrite + Unpin), octets: &[u8]) -> io::Result<()> {
    stream.write_all(octets).await?;
    stream.flush().await
}

/// Writes what is taken without a wait; how many octets that was.
pub async fn write_now(stream: &mut (impl AsyncWrite + Unpin), octets: &[u8]) -> io::Result<usize> {
    poll_fn(|context| match Pin::new(&mut *stream).poll_write(context, octets) {
        Poll::Ready(taken) => Poll::Ready(taken),
        Poll::Pending => Poll::Ready(Ok(0)),
    })
    .await
}

//--- Ahead -----------------------------------------------------------------------------------------------------------

/// A stream with octets that were read from it already, which come first.
#[derive(Debug)]
pub struct Ahead<S> {
    input: Buffer,
    stream: S,
}

impl<S> Ahead<S> {
    /// `input` was read from `stream`.
    pub fn new(stream: S, input: Buffer) -> Self {
        Self { input, stream }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ahead<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.input.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buf);
        }
        let count = self.input.filled().len().min(buf.remaining());
        buf.put_slice(&self.input.filled()[..count]);
        self.input.consume(count);
        if self.input.is_empty() {
            // Nothing is put in again.
            self.input = Buffer::empty();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ahead<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn what_was_read_ahead_comes_first() {
        let mut input = Buffer::new(100);
        input.fill(&mut &b"early "[..]).await.expect("reads");
        let mut ahead = Ahead::new(&b"and late"[..], input);
        let mut text = String::new();
        ahead.read_to_string(&mut text).await.expect("reads");
        assert_eq!(text, "early and late");
    }
}
