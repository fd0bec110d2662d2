//! The sockets that hickory's client streams use: its own, but UDP sockets are connected.
//!
//! Only a connected socket is told that nobody listens (ICMP port unreachable, RFC 1122 section 4.1.3.3); any other waits
//! out the whole timeout. The system also keeps datagrams of other senders away. A forged ICMP message must quote the random
//! port, as a forged answer must, and ends one exchange with one server, not the question.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use hickory_net::runtime::{DnsUdpSocket, RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime};
use tokio::io::{Interest, ReadBuf};
use tokio::net::UdpSocket;

/// What a socket becomes, later.
type Opening<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

/// Opens sockets and drives what uses them; clones share the driver.
#[derive(Clone, Default)]
pub struct Sockets(TokioRuntimeProvider);

impl RuntimeProvider for Sockets {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = Connected;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> Self::Handle {
        self.0.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        local: Option<SocketAddr>,
        limit: Option<Duration>,
    ) -> Opening<Self::Tcp> {
        self.0.connect_tcp(server, local, limit)
    }

    fn bind_udp(&self, local: SocketAddr, server: SocketAddr) -> Opening<Self::Udp> {
        Box::pin(async move {
            let socket = UdpSocket::bind(local).await?;
            socket.connect(server).await?;
            Ok(Connected { socket, server })
        })
    }
}

/// A UDP socket connected to one server.
pub struct Connected {
    socket: UdpSocket,
    server: SocketAddr,
}

#[async_trait]
impl DnsUdpSocket for Connected {
    type Time = TokioTime;

    fn poll_recv_from(&self, context: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut read = ReadBuf::new(buf);
        ready!(self.socket.poll_recv(context, &mut read))?;
        Poll::Ready(Ok((read.filled().len(), self.server)))
    }

    /// The system reports an error without anything to read, which wakes nobody who waits to read alone.
    async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        loop {
            let readiness = self.socket.ready(Interest::READABLE | Interest::ERROR).await?;
            if readiness.is_error() {
                if let Some(error) = self.socket.take_error()? {
                    return Err(error);
                }
                // Taken already, by a send: what was reported is forgotten until there is more.
                let forgotten = || -> io::Result<()> { Err(io::ErrorKind::WouldBlock.into()) };
                let _ = self.socket.try_io(Interest::ERROR, forgotten);
            }
            match self.socket.try_recv(buf) {
                Ok(length) => return Ok((length, self.server)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// `_target` is the server it is connected to: each exchange opens its socket for one.
    fn poll_send_to(&self, context: &mut Context<'_>, buf: &[u8], _target: SocketAddr) -> Poll<io::Result<usize>> {
        self.socket.poll_send(context, buf)
    }
}
