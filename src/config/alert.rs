//! Receivers of alerts as text: `https://192.0.2.1/hook#hooks.example`, `udp://192.0.2.1`, `/dev/log`.

use super::upstream::{read_authority, read_server_name};
use crate::ops::alert::{SyslogPlace, WebhookSettings};

/// What a web hook looks like, for messages.
const HOOK_FORM: &str = "expected https://ADDRESS/PATH#NAME or http://ADDRESS/PATH";
/// What a syslog receiver looks like.
const SYSLOG_FORM: &str = "expected the path of a Unix socket such as \"/dev/log\", or udp://ADDRESS:PORT";
/// The port of syslog over UDP (RFC 5426 section 3.3).
const SYSLOG_PORT: u16 = 514;

/// Reads a web hook. An address, never a host name, as for upstreams: what the gate needs must not depend on a name server
/// that may be itself; `#NAME` is the name in its certificate, and the host it is asked for.
pub fn webhook(text: &str) -> Result<WebhookSettings, String> {
    let (scheme, rest) = text.split_once("://").ok_or_else(|| format!("no scheme; {HOOK_FORM}"))?;
    let port = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return Err(format!("unknown scheme {scheme:?}; {HOOK_FORM}")),
    };
    let (rest, name) = match rest.split_once('#') {
        Some((rest, name)) => (rest, Some(name)),
        None => (rest, None),
    };
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    if !path.bytes().all(|octet| octet.is_ascii_graphic()) {
        return Err(format!("its path has other than visible ASCII characters; {HOOK_FORM}"));
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let addr = read_authority(authority, port, scheme, HOOK_FORM)?;
    let server_name = read_server_name(scheme, name, addr.ip())?;
    let host = name.map_or_else(|| addr.ip().to_string(), str::to_owned);
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let host = if addr.port() == port { host } else { format!("{host}:{}", addr.port()) };
    let server_name = (scheme == "https").then_some(server_name);
    Ok(WebhookSettings { addr, path, host, server_name, roots: None, token: None })
}

/// Reads a syslog receiver.
pub fn syslog(text: &str) -> Result<SyslogPlace, String> {
    match text.split_once("://") {
        Some(("udp", rest)) => read_authority(rest, SYSLOG_PORT, "udp", SYSLOG_FORM).map(SyslogPlace::Udp),
        Some((scheme, _)) => Err(format!("unknown scheme {scheme:?}; {SYSLOG_FORM}")),
        None if text.starts_with('/') => Ok(SyslogPlace::Unix(text.into())),
        None => Err(SYSLOG_FORM.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        for (text, addr, path, host, name) in [
            (
                "https://192.0.2.1/h?k=1#hooks.example",
                "192.0.2.1:443",
                "/h?k=1",
                "hooks.example",
                Some("hooks.example"),
            ),
            ("https://192.0.2.1:8443#a.example", "192.0.2.1:8443", "/", "a.example:8443", Some("a.example")),
            ("https://[2001:db8::1]/h", "[2001:db8::1]:443", "/h", "[2001:db8::1]", Some("2001:db8::1")),
            ("http://127.0.0.1:9000/h", "127.0.0.1:9000", "/h", "127.0.0.1:9000", None),
            ("http://127.0.0.1?k=1", "127.0.0.1:80", "/?k=1", "127.0.0.1", None),
        ] {
            let found = webhook(text).expect(text);
            assert_eq!((found.addr.to_string().as_str(), found.path.as_str()), (addr, path), "{text}");
            assert_eq!((found.host.as_str(), found.server_name.as_deref()), (host, name), "{text}");
        }
        assert_eq!(syslog("/dev/log"), Ok(SyslogPlace::Unix("/dev/log".into())));
        assert_eq!(syslog("udp://192.0.2.1"), Ok(SyslogPlace::Udp("192.0.2.1:514".parse().expect("an address"))));
    }

    #[test]
    fn other_texts_are_refused_with_what_would_be_right() {
        for (text, part) in [
            ("192.0.2.1", "no scheme"),
            ("ftp://192.0.2.1", "unknown scheme"),
            ("https://hooks.example/h", "https://ADDRESS#hooks.example"),
            ("http://127.0.0.1/a b", "visible ASCII"),
            ("http://127.0.0.1#x", "no #name"),
            ("https://", "ADDRESS/PATH#NAME"),
        ] {
            let message = webhook(text).expect_err(text);
            assert!(message.contains(part), "{text}: {message}");
        }
        for (text, part) in
            [("dev/log", "/dev/log"), ("tcp://192.0.2.1", "unknown scheme"), ("udp://log.example", "udp://ADDRESS")]
        {
            let message = syslog(text).expect_err(text);
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
