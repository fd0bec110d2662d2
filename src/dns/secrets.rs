//! The file of secrets for cookies: 32 hexadecimal digits a line, the first for new cookies, all for those that come back.
//!
//! Read at the start and again when it changes; one that is wrong is refused whole. No error holds what the file says.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::cookies::{SECRET_OCTETS, Secret};

/// Octets of a file of secrets: a hundred of them.
const FILE_OCTETS_MAX: u64 = 4096;

/// Why secrets cannot be used. The operator is at fault.
#[derive(Debug, Error)]
pub enum SecretsError {
    /// There is none in the file.
    #[error("{}: holds no secret; expected 32 hexadecimal digits a line", .file.display())]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A line is no secret.
    #[error("{}: line {line}: expected 32 hexadecimal digits", .file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
    },
}

/// Reads the secrets of a file, of which there is at least one.
pub fn read(file: &Path) -> Result<Vec<Secret>, SecretsError> {
    let failed = |source| SecretsError::Io { file: file.to_owned(), source };
    if std::fs::metadata(file).map_err(failed)?.len() > FILE_OCTETS_MAX {
        return Err(failed(std::io::Error::other(format!("is larger than {FILE_OCTETS_MAX} octets"))));
    }
    let text = std::fs::read_to_string(file).map_err(failed)?;
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    let secret = |(text, line): (&str, usize)| {
        secret(text.trim()).ok_or_else(|| SecretsError::Line { file: file.to_owned(), line })
    };
    let res: Vec<Secret> = lines.map(secret).collect::<Result<_, _>>()?;
    if res.is_empty() { Err(SecretsError::Empty { file: file.to_owned() }) } else { Ok(res) }
}

/// A secret in hexadecimal.
fn secret(text: &str) -> Option<Secret> {
    let mut res = [0; SECRET_OCTETS];
    if text.len() != 2 * SECRET_OCTETS || !text.bytes().all(|octet| octet.is_ascii_hexdigit()) {
        return None;
    }
    for (octet, pair) in res.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *octet = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(res)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_hold_secrets_or_say_where_they_do_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("secrets");
        let found = |text: &str| {
            std::fs::write(&file, text).expect("writes");
            read(&file).map_err(|error| error.to_string())
        };
        let (one, other) = ("00112233445566778899aabbccddeeff", "FFEEDDCCBBAA99887766554433221100");
        let secrets = found(&format!("{one}\n\n {other} \n")).expect("two");
        assert_eq!(secrets, [std::array::from_fn(|n| n as u8 * 0x11), std::array::from_fn(|n| 0xff - n as u8 * 0x11)]);
        for (text, part) in [
            (String::new(), "holds no secret"),
            (format!("{one}\n{}\n", &one[1..]), "line 2: expected 32 hexadecimal digits"),
            (format!("{}é\n", &one[2..]), "line 1: expected"),
            (format!("{one}\n").repeat(200), "is larger than 4096 octets"),
        ] {
            let error = found(&text).expect_err(part);
            assert!(error.contains(part) && !error.contains(&one[2..]), "{error}");
        }
        assert!(read(&dir.path().join("none")).expect_err("no file").to_string().contains("cannot be read"));
    }
}
