//! The integration binary: one program, so that the crate is linked once.

mod harness;
mod names;
mod registry;
