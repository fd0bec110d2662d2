//! ClientHellos over TCP and in QUIC Initials (D-T1 to D-T16, D-Q2 to D-Q11), as functions of octets.

mod cuts;
mod faults;
mod flights;
mod initials;
mod oracle;
mod recorded;
mod retry;
