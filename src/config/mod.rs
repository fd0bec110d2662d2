//! Configuration: text → `Spec` → `Config`.
