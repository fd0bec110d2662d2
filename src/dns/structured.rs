//! Structured errors: why a name is blocked as JSON in the extended error's text, for clients that ask for it.
//!
//! A client asks by an extended error without text in its query. Without that, and where the JSON has no room, the text stays as
//! it is. It is made for each answer and stands in no cache. Source: draft-ietf-dnsop-structured-dns-error (no RFC yet), with
//! the JSON names `c`, `j`, `s`, `o`.

use serde::Serialize;

use super::edns::{ExtendedError, info_code};
use super::gate::Judged;
use super::handler::{Client, Gate};
use super::question::Query;
use super::rewrite::Finished;
use super::settings::Structured;
use crate::policy::Verdict;

/// Sub-error "DNS Operator Policy", for code 15 alone: a code for requirements of others has none.
const DNS_OPERATOR_POLICY: u8 = 6;

/// The JSON, with the names in the order of the draft's examples.
#[derive(Serialize)]
struct Text<'a> {
    c: &'a [String],
    j: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<u8>,
    #[serde(skip_serializing_if = "str::is_empty")]
    o: &'a str,
}

impl Structured {
    /// The JSON for a block told by `code`, whose plain text is `plain`; `None` where it cannot be written.
    fn text(&self, code: u16, verdict: &Verdict, plain: &str) -> Option<String> {
        let (sentence, _) = verdict.rule.sentence();
        let s = (code == info_code::BLOCKED).then_some(DNS_OPERATOR_POLICY);
        let text = Text { c: &self.contacts, j: &format!("{sentence}; {plain}"), s, o: &self.organization };
        serde_json::to_string(&text).ok()
    }
}

impl Gate {
    /// Puts the JSON in place of the text of a block's error, for a client that asks and as far as it fits.
    pub(super) fn structure(
        &self,
        errors: &mut Vec<ExtendedError>,
        query: &Query,
        client: Client,
        finished: &Finished,
        judged: &Judged,
    ) {
        let Some(structured) = &self.settings.structured_errors else { return };
        let asks = query.edns.is_some_and(|edns| edns.asks.structured);
        let Some(verdict) = judged.verdict.filter(|verdict| asks && judged.enforced && verdict.blocks()) else {
            return;
        };
        let code = self.settings.block.ede_code;
        let text = |error: &ExtendedError| match error.code == code {
            true => structured.text(code, &verdict, &error.text).map(|text| ExtendedError::new(code, text)),
            false => Some(error.clone()),
        };
        let Some(candidate) = errors.iter().map(text).collect::<Option<Vec<_>>>() else { return };
        if self.delivery(query, client, 0, &candidate).has_room_for(finished) {
            *errors = candidate;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Action, Reason, Rule};

    #[test]
    fn the_json_is_small_and_has_a_sub_error_for_15_alone() {
        let structured =
            Structured { contacts: vec!["mailto:a@b.cn".to_owned()], organization: "某\"商\"".to_owned() };
        let verdict = Verdict {
            action: Action::Block,
            reason: Reason::NotFiled,
            rule: Rule::B1,
            enforceable: true,
            registrable_at: None,
            filing: None,
            address: None,
            range: None,
            mixed: false,
            registry_generation: 1,
            ranges_generation: 1,
        };
        let expected = r#"{"c":["mailto:a@b.cn"],"j":"请先完成备案; not_filed","o":"某\"商\""}"#;
        assert_eq!(structured.text(16, &verdict, "not_filed").as_deref(), Some(expected));
        let bare = Structured { organization: String::new(), ..structured };
        let expected = r#"{"c":["mailto:a@b.cn"],"j":"请先完成备案; x","s":6}"#;
        assert_eq!(bare.text(15, &verdict, "x").as_deref(), Some(expected));
    }
}
