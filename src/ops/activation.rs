//! Sockets that the service manager opened and gives to the process it starts (sd_listen_fds(3)).
//!
//! What a socket is for is told by its own address: the configuration has each address once for each transport. The name
//! that the manager has for it (`FileDescriptorName=`) is for messages.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use thiserror::Error;

use crate::sockets::Opened;

/// Sockets that one service is given: a few for each listen address.
const SOCKETS_MAX: usize = 256;

/// A descriptor that cannot be listened on. The unit is wrong.
#[derive(Debug, Error)]
#[error("socket {name:?} of the service manager: {what}")]
pub struct ActivationError {
    /// Its name, else its place among them.
    pub name: String,
    /// What is wrong.
    pub what: String,
}

/// The sockets that were given to this process; none where it was started otherwise.
///
/// Reads the environment and takes the variables out of it, so that programs which are started from here do not take the
/// sockets for theirs: call it before there is a second thread.
pub fn sockets_given() -> Result<Vec<Opened>, ActivationError> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names: Vec<&str> = names.split(':').collect();
    let mut given = ListenFd::from_env();
    let count = given.len();
    if count > SOCKETS_MAX {
        return Err(ActivationError { name: "all".into(), what: format!("{count} sockets, at most {SOCKETS_MAX}") });
    }
    (0..count)
        .map(|at| {
            let name =
                names.get(at).filter(|name| !name.is_empty()).map_or_else(|| at.to_string(), |&name| name.into());
            take(&mut given, at, &name).map_err(|what| ActivationError { name, what: what.to_string() })
        })
        .collect()
}

fn take(given: &mut ListenFd, at: usize, name: &str) -> io::Result<Opened> {
    let other =
        || io::Error::other("is neither a listening TCP nor a UDP socket; expected ListenStream= or ListenDatagram=");
    let opened = |transport, addr, fd| Opened { name: name.to_owned(), transport, addr, fd };
    if let Ok(Some(listener)) = given.take_tcp_listener(at) {
        let listener: TcpListener = listener;
        return Ok(opened("tcp", listener.local_addr()?, OwnedFd::from(listener)));
    }
    match given.take_udp_socket(at) {
        Ok(Some(socket)) => {
            let socket: UdpSocket = socket;
            Ok(opened("udp", socket.local_addr()?, OwnedFd::from(socket)))
        }
        Ok(None) | Err(_) => Err(other()),
    }
}
