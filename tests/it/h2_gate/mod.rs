//! HTTP/2 before clients, and TLS that ends at the gate: rows D-H11, D-H15 to D-H20, D-H25, D-H29 of the bypass catalogue
//! on streams, D-T17, D-Q10, D-Q12 and D-H18 where TLS ends here.
//!
//! U is an unfiled name (`nofile.cn`), F a filed one that is accessed here (`here.cn`).

mod floods;
mod hosts;
mod join;
mod limits;
mod passed;
mod property;
mod queue;
mod streams;
mod terminated;

use crate::harness::until;
