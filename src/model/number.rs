//! Filing numbers (备案号) and licence numbers (许可证号) that count as one.

use thiserror::Error;

/// Text that is no filing number.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NumberError {
    /// No known form.
    #[error("not a filing number")]
    UnknownForm,
}

/// A checked filing number in canonical spelling.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FilingNumber {
    text: String,
}

impl FilingNumber {
    /// The canonical spelling.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}
