//! Who holds a port that is taken, as far as the system tells: from `/proc/self/net` to an inode to a process.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// Lines of one socket table that are read; a host with more is too busy to be searched for a hint.
const LINES_MAX: usize = 100_000;
/// The socket tables. Not `/proc/net`, which `ProcSubset=pid` of a service hides.
const TABLES: &str = "/proc/self/net";
/// State of a listening TCP socket in its table, and of an unconnected UDP socket.
const STATES: [(&str, &str); 4] = [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")];

/// A sentence about who holds `addr`, for the end of an error message; empty when nobody can be named.
///
/// Other users' processes are named only to a privileged caller, who may not be shut in (`ProtectProc=`); of others the
/// number of the user is.
pub fn hint(addr: SocketAddr) -> String {
    let sockets: Vec<(u64, u32)> = STATES.iter().flat_map(|(table, state)| sockets_of(table, state, addr)).collect();
    let Some(&(_, user)) = sockets.first() else { return String::new() };
    match sockets.into_iter().find_map(|(inode, _)| process_of(inode)) {
        Some((pid, name)) => format!("; port {} is held by pid {pid} ({name})", addr.port()),
        None => format!("; port {} is held by another user's process (uid {user})", addr.port()),
    }
}

/// Inode and user of each socket of a table that stands in the way.
fn sockets_of(table: &str, state: &str, addr: SocketAddr) -> Vec<(u64, u32)> {
    let Ok(text) = std::fs::read_to_string(Path::new(TABLES).join(table)) else { return Vec::new() };
    text.lines().skip(1).take(LINES_MAX).filter_map(|line| socket_of(line, state, addr)).collect()
}

/// Inode and user of a table line in this state whose local address stands in the way of `addr`.
fn socket_of(line: &str, state: &str, addr: SocketAddr) -> Option<(u64, u32)> {
    let mut fields = line.split_ascii_whitespace();
    let (ip, port) = fields.nth(1)?.split_once(':')?;
    let found_state = fields.nth(1)?;
    let user = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    let ip = ip_of(ip)?;
    let is_same_ip = ip == addr.ip().to_canonical() || ip.is_unspecified() || addr.ip().is_unspecified();
    let is_same_port = u16::from_str_radix(port, 16) == Ok(addr.port());
    (is_same_ip && is_same_port && found_state == state && inode != 0).then_some((inode, user))
}

/// An address as the tables write it: words of 32 bits in hexadecimal, each in the machine's own order.
fn ip_of(text: &str) -> Option<IpAddr> {
    let word = |i: usize| u32::from_str_radix(text.get(8 * i..8 * i + 8)?, 16).ok().map(u32::to_ne_bytes);
    if text.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?).into());
    }
    let mut octets = [0; 16];
    for (i, part) in octets.chunks_exact_mut(4).enumerate() {
        part.copy_from_slice(&word(i)?);
    }
    Some(IpAddr::from(Ipv6Addr::from(octets)).to_canonical())
}

/// The process that has the socket of this inode open.
fn process_of(inode: u64) -> Option<(u32, String)> {
    let wanted = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    for process in processes {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let holds = |link: std::path::PathBuf| link.to_str() == Some(&wanted);
        if descriptors.flatten().any(|entry| std::fs::read_link(entry.path()).is_ok_and(holds)) {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some((pid, name.trim().to_owned()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_lines_are_read() {
        let line =
            "   0: 0100007F:14B4 00000000:0000 0A 00000000:00000000 00:00000000 00000000   107        0 4711 1 x";
        let addr = |text: &str| text.parse().expect("an address");
        if cfg!(target_endian = "little") {
            assert_eq!(socket_of(line, "0A", addr("127.0.0.1:5300")), Some((4711, 107)));
        }
        assert_eq!(socket_of(line, "0A", addr("0.0.0.0:5300")), Some((4711, 107)));
        assert_eq!(socket_of(line, "0A", addr("127.0.0.2:5300")), None);
        assert_eq!(socket_of(line, "0A", addr("127.0.0.1:5301")), None);
        assert_eq!(socket_of(line, "07", addr("127.0.0.1:5300")), None);
        assert_eq!(socket_of("garbage", "0A", addr("127.0.0.1:5300")), None);
        assert_eq!(ip_of("00000000000000000000000000000000"), Some(Ipv6Addr::UNSPECIFIED.into()));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn own_listener_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let text = hint(listener.local_addr().expect("an address"));
        assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");
    }
}
