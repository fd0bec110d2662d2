//! The audit: where names lead, held against the registry. What a gate sees only when somebody asks, this asks itself.
//!
//! ```text
//! registry │ lists │ zones │ logs │ certificates ─▶ targets ─▶ ask (paced) ─▶ observations ─▶ drift ─▶ report
//!                                                                 └▶ state file, read again at the next run
//! ```
//!
//! Observations are facts (what was answered, when) and are judged after they are in: the same facts under a newer registry
//! give other findings without a question being asked again. Nothing here decides: whether a name may be served is the
//! judge's word ([`crate::policy::judge()`]).
//!
//! Limits: questions a second and at a time ([`ask::Pace`]), targets ([`targets::TARGETS_MAX`]), octets of a state file
//! ([`state::STATE_OCTETS_MAX`]), which is written anew when most of it is out of date; one run at a time writes to it.

pub mod ask;
pub mod certificates;
pub mod drift;
pub mod kind;
mod lock;
pub mod progress;
pub mod report;
pub mod state;
pub mod targets;
