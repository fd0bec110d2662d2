//! The decision: one pure function, its rules and reasons, and the sink that carries verdicts away.
//!
//! [`judge()`] answers for both planes, `explain`, the admin listener and audits. It does no I/O, reads no clock, takes no
//! lock and allocates nothing; `now` is an argument. A rule of the rule book stands here and nowhere else.

pub mod explain;
pub mod judge;
pub mod report;
pub mod rules;
pub mod shadow;
pub mod sink;
pub mod special;
pub mod verdict;
pub mod view;

pub use judge::judge;
pub use report::VerdictReport;
pub use rules::{ExpiredPolicy, ForeignMainland, IpSite, MixedAnswer, Mode, Rules};
pub use sink::{Interest, Sink, SinkGuest, VerdictRecord};
pub use verdict::{Action, DecisionId, Reason, Rule, Verdict};
pub use view::{Clock, Fault, Outcome, SharedView, Stance, View};
