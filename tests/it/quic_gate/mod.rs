//! Every QUIC bypass of the catalogue (D-Q1 to D-Q14), from a client's socket to the datagrams an origin got.
//!
//! U is an unfiled name, F a filed one that is accessed here. What a passed connection says inside is not seen (D-Q10,
//! D-Q14), and other ports are gated if the gate is given them (D-Q12): pinned here, told in the README.

mod bypass;
mod life;
mod limits;
mod rows;
mod smuggled;
