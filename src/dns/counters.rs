//! What the DNS plane counts.

use crate::count::{Labels, Observe, Sample};

/// The DNS plane's counters; shared by its listeners, read by `ops`.
#[derive(Debug, Default)]
pub struct Counters {}

impl Observe for Counters {
    fn observe(&self, _show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {}
}
