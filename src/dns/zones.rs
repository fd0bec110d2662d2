//! Local zones, served by hickory's `Catalog` in process.

use bytes::Bytes;
use thiserror::Error;

use super::question::Question;
use super::settings::ZoneFile;
use crate::model::NameRef;

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

/// All local zones of one load.
pub struct Zones {}

impl Zones {
    /// Loads the master files.
    pub async fn load(_files: &[ZoneFile]) -> Result<Self, ZoneError> {
        Ok(Self {})
    }

    /// True when `name` is at or below a local origin.
    pub fn holds(&self, _name: NameRef<'_>) -> bool {
        false
    }

    /// The zone's answer message to `question`, ID 0; `None` when no zone holds the name.
    pub async fn ask(&self, _question: &Question) -> Option<Bytes> {
        None
    }
}
