//! The filing registry.

pub mod filing;
pub mod settings;
pub mod snapshot;

pub use filing::Filing;
pub use settings::Settings;
pub use snapshot::{FilingId, Snapshot};
