//! Address ranges: what stands where, whose it is, and the CNAME suffixes of products.

pub mod settings;
pub mod table;

pub use settings::Settings;
pub use table::{CnameMatch, CnameRow, RangeMatch, RangeRow, Ranges, TagId};
