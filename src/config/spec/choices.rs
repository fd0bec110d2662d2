//! Keys whose value is one of a few words, each tied to the layer's own type.
//!
//! The words are the file's, the types the layers': each may change without the other, and a variant that one side lacks
//! does not compile.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dns::settings as dns;
use crate::policy;
use crate::registry;

/// Declares the words of one key and their conversion from and to the layer's type.
macro_rules! choices {
    ($( $(#[$doc:meta])* $name:ident = $inner:path { $( $(#[$word_doc:meta])* $word:ident, )+ } )+) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $( $(#[$word_doc])* $word, )+ }

        impl From<$name> for $inner {
            fn from(word: $name) -> Self {
                match word { $( $name::$word => Self::$word, )+ }
            }
        }

        impl From<$inner> for $name {
            fn from(inner: $inner) -> Self {
                match inner { $( <$inner>::$word => Self::$word, )+ }
            }
        }
    )+ };
}

choices! {
    /// `dns.block.action`.
    BlockAction = dns::BlockAction {
        /// No answer at all.
        Drop,
        /// NOERROR without records.
        Nodata,
        /// NXDOMAIN.
        Nxdomain,
        /// The block addresses.
        Redirect,
        /// REFUSED.
        Refused,
    }
    /// `registry.encoding`.
    Encoding = registry::settings::Encoding {
        /// GB 18030, which includes GBK and GB 2312.
        Gb18030,
        /// UTF-8, with or without a byte-order mark.
        #[serde(rename = "utf-8")]
        Utf8,
    }
    /// `policy.expired`.
    Expired = policy::ExpiredPolicy {
        /// The name counts as unfiled from the day after.
        Block,
        /// A finding only.
        Report,
    }
    /// `policy.foreign-mainland`.
    ForeignMainland = policy::ForeignMainland {
        /// Not judged.
        Ignore,
        /// Reported, let through.
        Observe,
        /// A filing anywhere is required.
        RequireFiled,
    }
    /// `policy.ip-site`.
    IpSite = policy::IpSite {
        /// Let through.
        Allow,
        /// Blocked with its own prompt.
        Block,
        /// Reported, let through.
        Observe,
    }
    /// `dns.judge-families`.
    JudgeFamilies = dns::JudgeFamilies {
        /// Only the family asked for.
        Asked,
        /// A and AAAA together for names that are not filed.
        Both,
    }
    /// `policy.on-missing-registry`, `policy.on-missing-ranges`.
    Missing = crate::ops::Missing {
        /// Start, and answer nothing that needs a verdict.
        Block,
        /// Start, and carry no verdict out.
        Observe,
        /// Do not start.
        Refuse,
    }
    /// `policy.mixed-answer`.
    MixedAnswer = policy::MixedAnswer {
        /// The whole answer is blocked.
        Block,
        /// The mainland addresses are taken out.
        Strip,
    }
    /// `policy.mode`.
    Mode = policy::Mode {
        /// Verdicts are carried out.
        Enforce,
        /// Same verdicts, nothing changed on the wire.
        Observe,
        /// No verdicts.
        Off,
    }
    /// `policy.on-old-registry`, `policy.on-clock-jump`.
    Outcome = policy::Outcome {
        /// As if nothing were wrong.
        Serve,
        /// Verdicts are reached and not carried out.
        Observe,
        /// Nothing that needs a verdict is answered.
        Block,
    }
    /// `policy.on-upstream-down`.
    UpstreamDown = dns::UpstreamDown {
        /// SERVFAIL with EDE 22 at once.
        Servfail,
        /// A stale cached answer with EDE 3 if there is one.
        Stale,
    }
    /// `dns.upstream.policy`.
    UpstreamPolicy = dns::UpstreamPolicy {
        /// By measured latency.
        Fastest,
        /// The first healthy one in written order.
        Ordered,
        /// One after the other.
        RoundRobin,
    }
}
