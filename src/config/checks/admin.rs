//! The meaning of `[admin]`, and of files that hold a token.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use super::{Checker, others_can_read, path};
use crate::config::spec::{AdminTlsSpec, Spec};
use crate::credentials::CertificateFiles;
use crate::model::DomainName;
use crate::ops::{AdminSettings, AdminTlsSettings};

/// Longest path of a Unix socket (108 octets with their end, unix(7)), less a process number that is put behind it.
const SOCKET_PATH_OCTETS_MAX: usize = 96;
/// Shortest admin token: 16 characters of base 64 hold 96 bits. No official reference.
const TOKEN_CHARS_MIN: usize = 16;
/// Octets of a token file; longer ones are some other file.
const TOKEN_OCTETS_MAX: u64 = 4096;

impl Checker<'_> {
    /// Where the admin listener stands, and who may use it.
    pub(super) fn admin(&mut self, spec: &Spec) -> AdminSettings {
        let text = &spec.admin;
        let token = self.token("admin.token-file", &text.token_file);
        let handover = self.socket_path("admin.handover", &text.handover);
        let socket = self.socket_path("admin.socket", &text.socket);
        if socket.is_some() && socket == handover {
            self.refuse("admin.socket", &text.socket, "is admin.handover as well; expected another path");
        }
        let mut names = Vec::new();
        for (i, name) in text.names.iter().enumerate() {
            match DomainName::from_host(name) {
                Ok(host) => names.push(host.to_string()),
                Err(error) => {
                    let expected = format!("{error}; expected a host name, without a port");
                    self.refuse(&format!("admin.names[{i}]"), name, expected);
                }
            }
        }
        let tls = self.admin_tls(&text.tls);
        if text.listen.is_empty() {
            if tls.is_some() {
                self.warn("admin.tls", "has no effect: admin.listen is empty");
            }
            return AdminSettings { listen: None, token, tls: None, socket, names, handover };
        }
        let listen = self.socket("admin.listen", &text.listen);
        let is_guarded = !text.token_file.is_empty() || !text.tls.client_ca.is_empty();
        if listen.is_some_and(|addr| !addr.ip().is_loopback()) && !is_guarded {
            self.refuse(
                "admin.listen",
                &text.listen,
                "is no loopback address: anybody could reload; expected admin.token-file or admin.tls.client-ca as well",
            );
        }
        if tls.is_some() && socket.is_none() {
            self.warn("admin.socket", "is empty: icpgate status, reload and drain do not speak TLS and need it");
        }
        AdminSettings { listen, token, tls, socket, names, handover }
    }

    fn admin_tls(&mut self, text: &AdminTlsSpec) -> Option<AdminTlsSettings> {
        let files = [("admin.tls.certificate", &text.certificate), ("admin.tls.key", &text.key)];
        if files.iter().all(|(_, file)| file.is_empty()) && text.client_ca.is_empty() {
            return None;
        }
        for (key, file) in files {
            if file.is_empty() {
                self.refuse(key, file, "is needed by admin.tls; expected the path of a PEM file");
            }
        }
        if !text.key.is_empty() && others_can_read(Path::new(&text.key)) {
            self.warn("admin.tls.key", "every user of this machine can read the key; expected mode 0600 or 0640");
        }
        let files = CertificateFiles { chain: (&text.certificate).into(), key: (&text.key).into() };
        Some(AdminTlsSettings { files, client_ca: path(&text.client_ca) })
    }

    /// The path of a Unix socket; `None` for "".
    fn socket_path(&mut self, key: &str, text: &str) -> Option<PathBuf> {
        if text.len() > SOCKET_PATH_OCTETS_MAX {
            let expected = format!("expected a path of at most {SOCKET_PATH_OCTETS_MAX} octets, as Unix sockets have");
            self.refuse(key, text, expected);
        }
        (!text.is_empty()).then(|| PathBuf::from(text))
    }

    /// The token in a file; `None` for "".
    pub(super) fn token(&mut self, key: &str, file: &str) -> Option<String> {
        if file.is_empty() {
            return None;
        }
        let text = match read_small(Path::new(file), TOKEN_OCTETS_MAX) {
            Ok(text) => text,
            Err(message) => {
                self.refuse(key, file, message);
                return None;
            }
        };
        if others_can_read(Path::new(file)) {
            self.warn(key, "every user of this machine can read the token; expected mode 0600 or 0640");
        }
        let token = text.trim();
        let is_good = token.len() >= TOKEN_CHARS_MIN && token.bytes().all(|octet| octet.is_ascii_graphic());
        if !is_good {
            // The message never shows what the file holds.
            self.refuse(key, file, "expected a file of one token: at least 16 visible ASCII characters without blanks");
            return None;
        }
        Some(token.to_owned())
    }
}

fn read_small(path: &Path, octets_max: u64) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| unreadable(&error))?.len();
    if size > octets_max {
        return Err(format!("is larger than {octets_max} octets"));
    }
    std::fs::read_to_string(path).map_err(|error| unreadable(&error))
}

fn unreadable(error: &dyn Display) -> String {
    format!("cannot be read: {error}")
}
