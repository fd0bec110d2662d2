//! ClientHellos: recorded ones with their labels, and ones written here.

use icpgate::http::hello::{Hello, Reader, Reading};
use icpgate::http::host::HostName;
use serde::Deserialize;

use super::shared;

/// A row of recorded or crafted first octets; `tests/data/tls` holds some of each file, `shared` all of them.
#[derive(Debug, Deserialize)]
pub struct Row {
    pub id: String,
    pub expect: Expect,
    #[serde(default)]
    pub also_ok: Vec<String>,
    pub stream: Option<String>,
    pub datagrams: Option<Vec<String>>,
    pub first_flight: Option<String>,
    pub second_flight: Option<String>,
    pub second_sni: Option<String>,
    pub alpn: Option<Vec<String>>,
    pub ech: Option<bool>,
    pub hello_len: Option<usize>,
    pub versions: Option<Vec<u16>>,
}

/// The label of a row.
#[derive(Debug, Deserialize)]
pub struct Expect {
    pub action: String,
    pub sni: Option<String>,
}

impl Row {
    /// The octets of a TCP stream; `None` for a row of datagrams.
    pub fn stream(&self) -> Option<Vec<u8>> {
        self.stream.as_deref().map(octets)
    }

    /// The datagrams; `None` for a row of a stream.
    pub fn datagrams(&self) -> Option<Vec<Vec<u8>>> {
        self.datagrams.as_ref().map(|all| all.iter().map(|datagram| octets(datagram)).collect())
    }

    /// True if `found` (see [`summary`]) is the label or one that is as good.
    pub fn allows(&self, found: &str) -> bool {
        let label = match &self.expect.sni {
            Some(sni) => format!("{}:{}", self.expect.action, sni.to_ascii_lowercase()),
            None => self.expect.action.clone(),
        };
        let action = found.split(':').next().unwrap_or_default();
        found == label || self.also_ok.iter().any(|other| other == found || other == action)
    }
}

/// The rows of a file: all of them beside the checkout, or those kept here.
pub fn rows(name: &str) -> Vec<Row> {
    let text = shared::text(&format!("tls/{name}.jsonl.zst")).or_else(|| {
        let own = format!("{}/tests/data/tls/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(own).ok()
    });
    let text = text.unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a row of the documented form")).collect()
}

/// Octets from hexadecimal digits; white space means nothing.
pub fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|octet| !octet.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("two digits"))
        .collect()
}

/// What a hello names, in the words of the labels.
pub fn named(hello: &Hello<'_>) -> String {
    match &hello.server_name {
        None => "no_sni".to_owned(),
        Some(name) => match &name.host {
            HostName::Address(addr) => format!("ip_literal:{addr}"),
            HostName::Invalid => format!("sni:{}", name.text.to_ascii_lowercase()),
            HostName::Name(name) => format!("sni:{name}"),
        },
    }
}

/// A reading in the words of the labels.
pub fn summary(reading: &Reading<'_>) -> String {
    match reading {
        Reading::Hello(hello) => named(hello),
        Reading::Malformed(_) | Reading::TooLong => "reject".to_owned(),
        Reading::NeedMore => "need_more".to_owned(),
        Reading::NotTls(_) => "not_tls".to_owned(),
    }
}

/// Reads a stream that came in one piece.
pub fn summary_of(stream: &[u8]) -> String {
    summary(&Reader::default().read(stream))
}

/// A hello written field by field.
#[derive(Clone, Debug)]
pub struct Sketch {
    pub legacy_version: u16,
    pub session_id: Vec<u8>,
    pub ciphers: Vec<u8>,
    pub compressions: Vec<u8>,
    /// `None`: the hello ends before them, as before RFC 3546.
    pub extensions: Option<Vec<(u16, Vec<u8>)>>,
}

impl Sketch {
    /// What a plain client of TLS 1.3 sends for a name.
    pub fn new(name: &str) -> Self {
        Self::with(vec![server_name(&[(0, name.as_bytes())])])
    }

    /// A hello with these extensions and a version list.
    pub fn with(mut extensions: Vec<(u16, Vec<u8>)>) -> Self {
        extensions.push((43, vec![4, 3, 4, 3, 3]));
        Self {
            legacy_version: 0x0303,
            session_id: vec![7; 32],
            ciphers: vec![0x13, 0x01, 0xc0, 0x2f],
            compressions: vec![0],
            extensions: Some(extensions),
        }
    }

    /// Appends an extension.
    pub fn and(mut self, kind: u16, body: &[u8]) -> Self {
        self.extensions.get_or_insert_default().push((kind, body.to_vec()));
        self
    }

    /// Padded to a message of so many octets.
    pub fn padded_to(self, octets: usize) -> Self {
        let missing = octets - self.message().len() - 4;
        self.and(21, &vec![0; missing])
    }

    /// The handshake message.
    pub fn message(&self) -> Vec<u8> {
        let mut body = self.legacy_version.to_be_bytes().to_vec();
        body.extend_from_slice(&[0x5a; 32]);
        push8(&mut body, &self.session_id);
        push16(&mut body, &self.ciphers);
        push8(&mut body, &self.compressions);
        if let Some(extensions) = &self.extensions {
            let mut list = Vec::new();
            for (kind, extension) in extensions {
                list.extend_from_slice(&kind.to_be_bytes());
                push16(&mut list, extension);
            }
            push16(&mut body, &list);
        }
        message(1, &body)
    }

    /// The message in one record.
    pub fn stream(&self) -> Vec<u8> {
        records(&self.message(), &[])
    }
}

/// A handshake message.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a short message").to_be_bytes();
    [&[kind, length[1], length[2], length[3]], body].concat()
}

/// The server name extension.
pub fn server_name(names: &[(u8, &[u8])]) -> (u16, Vec<u8>) {
    let mut list = Vec::new();
    for (kind, name) in names {
        list.push(*kind);
        push16(&mut list, name);
    }
    let mut body = Vec::new();
    push16(&mut body, &list);
    (0, body)
}

/// A record.
pub fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut res = vec![kind, 3, 1];
    push16(&mut res, content);
    res
}

/// Handshake records that cut the message at these offsets, in order.
pub fn records(message: &[u8], cuts: &[usize]) -> Vec<u8> {
    let ends = cuts.iter().copied().chain([message.len()]);
    let mut start = 0;
    let pieces = ends.map(|end| {
        let piece = record(22, &message[start..end]);
        start = end;
        piece
    });
    pieces.collect::<Vec<Vec<u8>>>().concat()
}

fn push8(octets: &mut Vec<u8>, part: &[u8]) {
    octets.push(u8::try_from(part.len()).expect("a short part"));
    octets.extend_from_slice(part);
}

fn push16(octets: &mut Vec<u8>, part: &[u8]) {
    octets.extend_from_slice(&u16::try_from(part.len()).expect("a short part").to_be_bytes());
    octets.extend_from_slice(part);
}
