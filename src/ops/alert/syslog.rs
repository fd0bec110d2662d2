//! Alerts as messages of syslog (RFC 5424), one a domain, by a Unix datagram socket or UDP (RFC 5426).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use tokio::net::{UdpSocket, UnixDatagram};

use super::{Alert, Failure};

/// Facility 3 (system daemons), severity 4 (warning): RFC 5424 section 6.2.1.
const PRIORITY: u8 = 3 * 8 + 4;
/// What a receiver of UDP must at least take (RFC 5426 section 3.2); ours are shorter.
const MESSAGE_OCTETS_MAX: usize = 2048;
/// Longest HOSTNAME (RFC 5424 section 6).
const HOSTNAME_OCTETS_MAX: usize = 255;

/// Where a syslog receiver listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogPlace {
    /// At a Unix datagram socket.
    Unix(PathBuf),
    /// At a UDP port.
    Udp(SocketAddr),
}

/// The way to a syslog receiver. A socket for each batch: a receiver that was started anew is found.
pub struct Syslog {
    place: SyslogPlace,
    hostname: String,
}

impl Syslog {
    /// The way to `place`; opens nothing.
    pub fn new(place: SyslogPlace) -> Self {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self { place, hostname: printable(name.trim()) }
    }

    /// Sends a batch.
    pub(super) async fn send(&self, batch: &[Alert]) -> Result<(), Failure> {
        let mut sent = 0;
        self.send_each(batch, &mut sent).await.map_err(|error| Failure {
            sent,
            may_retry: true,
            text: match &self.place {
                SyslogPlace::Unix(path) => format!("{}: {error}", path.display()),
                SyslogPlace::Udp(addr) => format!("udp {addr}: {error}"),
            },
        })
    }

    async fn send_each(&self, batch: &[Alert], sent: &mut usize) -> io::Result<()> {
        let message = |alert: &Alert| message(&self.hostname, std::process::id(), alert);
        match &self.place {
            SyslogPlace::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                for alert in batch {
                    socket.send(message(alert).as_bytes()).await?;
                    *sent += 1;
                }
            }
            SyslogPlace::Udp(addr) => {
                let any = match addr {
                    SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                    SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                };
                let socket = UdpSocket::bind((any, 0)).await?;
                socket.connect(addr).await?;
                for alert in batch {
                    socket.send(message(alert).as_bytes()).await?;
                    *sent += 1;
                }
            }
        }
        Ok(())
    }
}

/// One message: header, no structured data (there is no number of ours for its names), and pairs for people and programs.
fn message(hostname: &str, process: u32, alert: &Alert) -> String {
    let Alert { domain, host, reason, plane, first_seen, enforced } = alert;
    let mut res = format!(
        "<{PRIORITY}>1 {first_seen} {hostname} icpgate {process} unfiled - new unfiled domain: \
         domain={domain} host={host} reason={reason} plane={plane} enforced={enforced}"
    );
    // Names are ASCII, so that a cut is at a character's end.
    res.truncate(MESSAGE_OCTETS_MAX);
    res
}

/// A header field: visible ASCII, or `-` for none (RFC 5424 section 6).
fn printable(text: &str) -> String {
    let mut res: String = text.chars().filter(char::is_ascii_graphic).take(HOSTNAME_OCTETS_MAX).collect();
    if res.is_empty() {
        res.push('-');
    }
    res
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_form_of_rfc_5424() {
        let alert = Alert {
            domain: "a.cn".into(),
            host: "www.a.cn".into(),
            reason: "not_filed".into(),
            plane: "dns".into(),
            first_seen: "2026-11-24T04:00:00.000Z".to_owned(),
            enforced: true,
        };
        assert_eq!(
            message("gate-1", 7, &alert),
            "<28>1 2026-11-24T04:00:00.000Z gate-1 icpgate 7 unfiled - new unfiled domain: domain=a.cn host=www.a.cn \
             reason=not_filed plane=dns enforced=true"
        );
        assert_eq!((printable(" a b\n").as_str(), printable("主机").as_str()), ("ab", "-"));
    }
}
