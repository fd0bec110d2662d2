//! The vocabulary of the gate: checked names, registrable domains, filing facts, products, addresses, subjects.
//!
//! Ground layer: no I/O and no clock. Everything above speaks in these types, so text is parsed once, at the edge that
//! received it. What is absent on purpose: any lookup, any policy, any format.

pub mod address;
pub mod day;
pub mod filing;
pub mod name;
pub mod number;
pub mod product;
pub mod subject;
pub mod suffix;

pub use address::{one_client, parse_ip_literal, unwrap};
pub use day::Day;
pub use filing::{Facts, OriginSide, Status};
pub use name::{DomainName, NameError, NameRef};
pub use number::{FilingNumber, NumberError, NumberKind, hint};
pub use product::{Product, Region};
pub use subject::{Hop, Host, Subject, Via};
pub use suffix::SuffixTable;
