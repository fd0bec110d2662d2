//! Local zones, served by hickory's `Catalog` in process: no socket of its, only its answers.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hickory_net::NetError;
use hickory_net::runtime::TokioTime;
use hickory_net::xfer::Protocol;
use hickory_server::proto::rr::{LowerName, Name, Record, RecordSet, RecordType, RrKey};
use hickory_server::proto::serialize::binary::BinEncoder;
use hickory_server::proto::serialize::txt::Parser;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, MessageResponse, ZoneHandler, ZoneType};
use thiserror::Error;

use super::question::{self, Question};
use super::settings::ZoneFile;
use super::wire::{self, MESSAGE_OCTETS_MAX};
use crate::model::{DomainName, NameRef};

/// Octets of one master file; larger zones belong on a name server of their own.
pub const ZONE_OCTETS_MAX: u64 = 64 << 20;
/// Zones of one load.
pub const ZONES_MAX: usize = 10_000;
/// Endings of zone files in a directory; the origin is the name before it.
const ENDINGS: [&str; 2] = [".zone", ".db"];

/// A zone that cannot be served.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ZoneError {
    /// The master file is unreadable or malformed.
    #[error("{file}: {message}")]
    Malformed {
        /// The file.
        file: String,
        /// What is wrong and where.
        message: String,
    },
}

impl ZoneError {
    fn new(file: &Path, message: impl Into<String>) -> Self {
        Self::Malformed { file: file.display().to_string(), message: message.into() }
    }
}

/// The zones in `path`: itself if it is a file, else each `ORIGIN.zone` or `ORIGIN.db` in it.
pub fn files_in(path: &Path) -> Result<Vec<ZoneFile>, ZoneError> {
    let paths: Vec<PathBuf> = if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(|error| ZoneError::new(path, error.to_string()))?;
        let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        found.retain(|path| origin_text(path).is_some());
        found.sort();
        found
    } else {
        vec![path.to_owned()]
    };
    if paths.len() > ZONES_MAX {
        return Err(ZoneError::new(path, format!("more than {ZONES_MAX} zones")));
    }
    let zone = |file: PathBuf| {
        let text = origin_text(&file).unwrap_or_default();
        let origin = DomainName::from_text(&text).map_err(|error| {
            ZoneError::new(
                &file,
                format!("{error}; expected the file to be named after its origin, as example.com.zone"),
            )
        })?;
        Ok(ZoneFile { origin, file })
    };
    paths.into_iter().map(zone).collect()
}

fn origin_text(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)).filter(|origin| !origin.is_empty()).map(str::to_owned)
}

/// The hosts in a zone: owners of addresses, aliases and services, each once.
pub fn hosts_in(zone: &ZoneFile) -> Result<Vec<DomainName>, ZoneError> {
    let (_, records) = parse_zone(&zone.origin, &zone.file)?;
    let is_host = |kind: RecordType| {
        matches!(kind, RecordType::A | RecordType::AAAA | RecordType::CNAME | RecordType::HTTPS | RecordType::SVCB)
    };
    let keys = records.keys().filter(|key| is_host(key.record_type)).map(|key| key.name());
    let mut res: Vec<_> = keys.filter_map(|name| DomainName::from_labels(name.iter()).ok()).collect();
    res.sort_unstable();
    res.dedup();
    Ok(res)
}

/// All local zones of one load.
pub struct Zones {
    catalog: Catalog,
    origins: HashSet<DomainName>,
}

impl Zones {
    /// Loads the master files; the first bad one fails the load.
    pub async fn load(files: &[ZoneFile]) -> Result<Self, ZoneError> {
        let files = files.to_vec();
        let loading = tokio::task::spawn_blocking(move || Self::load_blocking(&files));
        loading.await.unwrap_or_else(|error| Err(ZoneError::new(Path::new("zones"), error.to_string())))
    }

    /// As [`Zones::load`], on the calling thread.
    pub fn load_blocking(files: &[ZoneFile]) -> Result<Self, ZoneError> {
        let mut catalog = Catalog::new();
        let mut origins = HashSet::new();
        for ZoneFile { origin, file } in files {
            let zone = read_zone(origin, file)?;
            let name = hickory_name(origin.as_ref()).map_err(|message| ZoneError::new(file, message))?;
            if !origins.insert(origin.clone()) {
                return Err(ZoneError::new(file, format!("zone {origin} is there twice")));
            }
            let handler: Arc<dyn ZoneHandler> = Arc::new(zone);
            catalog.upsert(LowerName::from(name), vec![handler]);
        }
        Ok(Self { catalog, origins })
    }

    /// True when `name` is at or below a local origin.
    pub fn holds(&self, name: NameRef<'_>) -> bool {
        let mut at = Some(name);
        while let Some(name) = at {
            if self.origins.contains(name.wire()) {
                return true;
            }
            at = name.parent();
        }
        false
    }

    /// True when both serve the same part of the name space.
    pub fn has_same_origins(&self, other: &Self) -> bool {
        self.origins == other.origins
    }

    /// How many zones there are.
    pub fn len(&self) -> usize {
        self.origins.len()
    }

    /// True without zones.
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    /// The zone's answer message to `question`, ID 0; `None` when no zone holds the name or nothing could be encoded.
    pub async fn ask(&self, question: &Question) -> Option<Bytes> {
        if !self.holds(question.name.as_ref()) {
            return None;
        }
        let octets = question::encode(question, 0, u16::MAX);
        let source = SocketAddr::from((Ipv4Addr::LOCALHOST, 53));
        let request = Request::from_bytes(octets, source, Protocol::Tcp).ok()?;
        let capture = Capture::default();
        self.catalog.handle_request::<_, TokioTime>(&request, capture.clone()).await;
        let mut message = capture.message.lock().ok()?.take()?;
        limit_negative_ttl(&mut message)?;
        Some(Bytes::from(message))
    }
}

/// "The TTL of this record is set from the minimum of the MINIMUM field of the SOA record and the TTL of the SOA itself"
/// (RFC 2308 section 3). An SOA in the authority section stands in negative answers only.
fn limit_negative_ttl(message: &mut [u8]) -> Option<()> {
    let records = wire::records(message).ok()?;
    let is_soa =
        |record: &&wire::Record| record.section == wire::Section::Authority && record.rtype == wire::rtype::SOA;
    for soa in records.iter().filter(is_soa) {
        let minimum = wire::u32_at(message, soa.data_end.checked_sub(4)?).ok()?;
        message[soa.ttl_at..soa.ttl_at + 4].copy_from_slice(&soa.ttl.min(minimum).to_be_bytes());
    }
    Some(())
}

fn read_zone(origin: &DomainName, file: &Path) -> Result<InMemoryZoneHandler, ZoneError> {
    let (name, records) = parse_zone(origin, file)?;
    InMemoryZoneHandler::new(name, records, ZoneType::Primary, AxfrPolicy::Deny)
        .map_err(|message| ZoneError::new(file, message))
}

/// The records of a master file.
fn parse_zone(origin: &DomainName, file: &Path) -> Result<(Name, BTreeMap<RrKey, RecordSet>), ZoneError> {
    let bad = |message: String| ZoneError::new(file, message);
    let size = std::fs::metadata(file).map_err(|error| bad(error.to_string()))?.len();
    if size > ZONE_OCTETS_MAX {
        return Err(bad(format!("larger than {ZONE_OCTETS_MAX} octets")));
    }
    let text = std::fs::read_to_string(file).map_err(|error: io::Error| bad(error.to_string()))?;
    let included = text.lines().position(|line| line.trim_start().to_ascii_uppercase().starts_with("$INCLUDE"));
    if let Some(at) = included {
        return Err(bad(format!("line {}: $INCLUDE is not supported; expected all records in one file", at + 1)));
    }
    let name = hickory_name(origin.as_ref()).map_err(bad)?;
    let bad = |message: String| ZoneError::new(file, message);
    Parser::new(text, None, Some(name)).parse().map_err(|error| bad(error.to_string()))
}

fn hickory_name(name: NameRef<'_>) -> Result<Name, String> {
    let mut res = Name::from_labels(name.labels()).map_err(|error| error.to_string())?;
    res.set_fqdn(true);
    Ok(res)
}

/// Takes the encoded answer instead of sending it.
#[derive(Clone, Default)]
struct Capture {
    message: Arc<Mutex<Option<Vec<u8>>>>,
}

#[async_trait::async_trait]
impl ResponseHandler for Capture {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut octets = Vec::with_capacity(512);
        let mut encoder = BinEncoder::new(&mut octets);
        encoder.set_max_size(u16::try_from(MESSAGE_OCTETS_MAX).unwrap_or(u16::MAX));
        let info = response.destructive_emit(&mut encoder)?;
        if let Ok(mut message) = self.message.lock() {
            *message = Some(octets);
        }
        Ok(info)
    }
}
