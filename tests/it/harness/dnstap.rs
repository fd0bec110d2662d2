//! A reader of dnstap that is not the gate's: Frame Streams and protocol buffers, as far as the tests look at them.

use std::collections::BTreeMap;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::dns::PATIENCE;

const CONTENT_TYPE: &[u8] = b"protobuf:dnstap.Dnstap";
pub const ACCEPT: u32 = 1;
pub const START: u32 = 2;
pub const STOP: u32 = 3;
pub const READY: u32 = 4;
pub const FINISH: u32 = 5;

/// What stands in a stream.
#[derive(Debug, PartialEq)]
pub enum Frame {
    /// The kind, and the content types.
    Control(u32, Vec<Vec<u8>>),
    Data(Vec<u8>),
}

/// Reads one frame; `None` at the end of the stream.
pub async fn read_frame<R: AsyncRead + Unpin>(reader: &mut R) -> Option<Frame> {
    let length = timeout(PATIENCE, reader.read_u32()).await.expect("in time").ok()?;
    if length > 0 {
        let mut data = vec![0; length as usize];
        reader.read_exact(&mut data).await.expect("a whole frame");
        return Some(Frame::Data(data));
    }
    let length = reader.read_u32().await.expect("a length");
    let mut body = vec![0; length as usize];
    reader.read_exact(&mut body).await.expect("a whole control frame");
    let number = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().expect("four octets"));
    let (mut types, mut at) = (Vec::new(), 4);
    while at < body.len() {
        assert_eq!(number(at), 1, "a content type");
        let length = number(at + 4) as usize;
        types.push(body[at + 8..at + 8 + length].to_vec());
        at += 8 + length;
    }
    Some(Frame::Control(number(0), types))
}

/// A control frame as a reader writes it.
pub fn control(kind: u32, has_type: bool) -> Vec<u8> {
    let mut body = kind.to_be_bytes().to_vec();
    if has_type {
        body.extend_from_slice(&1u32.to_be_bytes());
        body.extend_from_slice(&(CONTENT_TYPE.len() as u32).to_be_bytes());
        body.extend_from_slice(CONTENT_TYPE);
    }
    [&[0; 4][..], &(body.len() as u32).to_be_bytes(), &body].concat()
}

/// Agrees with a writer, up to its START.
pub async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    let types = || vec![CONTENT_TYPE.to_vec()];
    assert_eq!(read_frame(stream).await, Some(Frame::Control(READY, types())));
    stream.write_all(&control(ACCEPT, true)).await.expect("writes");
    assert_eq!(read_frame(stream).await, Some(Frame::Control(START, types())));
}

/// The fields of a protocol buffer by number: numbers as octets, all others as they stand.
#[derive(Clone, Debug, Default)]
pub struct Fields(BTreeMap<u64, Vec<u8>>);

impl Fields {
    pub fn read(mut octets: &[u8]) -> Self {
        let mut res = BTreeMap::new();
        while !octets.is_empty() {
            let key = varint(&mut octets);
            let value = match key & 7 {
                0 => varint(&mut octets).to_be_bytes().to_vec(),
                2 => {
                    let length = varint(&mut octets) as usize;
                    take(&mut octets, length)
                }
                5 => take(&mut octets, 4),
                kind => panic!("wire type {kind}"),
            };
            assert!(res.insert(key >> 3, value).is_none(), "field {} is there once", key >> 3);
        }
        Self(res)
    }

    pub fn octets(&self, field: u64) -> Option<&[u8]> {
        self.0.get(&field).map(Vec::as_slice)
    }

    pub fn text(&self, field: u64) -> String {
        String::from_utf8(self.octets(field).unwrap_or_default().to_vec()).expect("text")
    }

    pub fn number(&self, field: u64) -> Option<u64> {
        Some(u64::from_be_bytes(self.octets(field)?.try_into().expect("a number")))
    }

    pub fn inner(&self, field: u64) -> Option<Self> {
        self.octets(field).map(Self::read)
    }
}

fn take(octets: &mut &[u8], length: usize) -> Vec<u8> {
    let (value, rest) = octets.split_at(length);
    *octets = rest;
    value.to_vec()
}

fn varint(octets: &mut &[u8]) -> u64 {
    let (mut res, mut shift) = (0, 0);
    loop {
        let octet = take(octets, 1)[0];
        res |= u64::from(octet & 0x7f) << shift;
        shift += 7;
        if octet < 0x80 {
            return res;
        }
    }
}
