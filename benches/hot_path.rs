//! Costs of the hot path.

fn main() {}
