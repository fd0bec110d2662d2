//! What the targets share: the properties, what they begin with, and what both need of the tests' harness.

pub mod harness;
pub mod properties;
pub mod seeds;
