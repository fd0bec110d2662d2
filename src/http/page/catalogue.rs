//! The texts of a language: a file per language, edited without touching the templates.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::PageError;
use super::notice::{Cause, Notice};
use crate::http::settings::ProviderText;

/// The texts of one cause. `{name}`, `{domain}`, `{provider}` and `{holders}` stand for the case at hand.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct CauseText {
    /// Up to four characters for the seal.
    pub seal: String,
    /// The state in a word or two.
    pub state: String,
    /// The prompt: what is to be done.
    pub title: String,
    /// What is the matter.
    pub lead: String,
    /// What the site's owner does now.
    pub steps: Vec<String>,
    /// The words on the filing link.
    pub link: String,
}

/// All texts of one language.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Catalogue {
    /// Headings and names of fields.
    pub label: BTreeMap<String, String>,
    /// By cause.
    pub cause: BTreeMap<String, CauseText>,
}

impl Catalogue {
    /// Reads a catalogue; every cause must be there.
    pub fn parse(file: &str, text: &str) -> Result<Self, PageError> {
        let bad = |what: String| PageError::Catalogue { file: file.to_owned(), what };
        let res: Self = toml::from_str(text).map_err(|error| bad(error.to_string()))?;
        match Cause::ALL.iter().find(|(_, key)| !res.cause.contains_key(*key)) {
            Some((_, key)) => Err(bad(format!("section [cause.{key}] is missing"))),
            None => Ok(res),
        }
    }

    /// The texts for a cause.
    pub fn texts(&self, cause: Cause) -> &CauseText {
        self.cause.get(cause.key()).expect("a catalogue has every cause")
    }

    /// A label; empty where the catalogue has none.
    pub fn label(&self, key: &str) -> &str {
        self.label.get(key).map_or("", String::as_str)
    }
}

/// Puts the case at hand into a text.
///
/// `nameless` stands for a provider whose name is not configured.
pub(super) fn fill(text: &str, notice: &Notice, provider: &ProviderText, nameless: &str) -> String {
    let provider = if provider.name.is_empty() { nameless } else { &provider.name };
    let domain = notice.domain.as_deref().unwrap_or(&notice.name);
    let holders = notice.holders.join(", ");
    let mut res = String::with_capacity(text.len() + 64);
    let mut rest = text;
    // One pass, so that what is put in is never read as a placeholder.
    while let Some((before, after)) = rest.split_once('{') {
        res.push_str(before);
        let (key, behind) = after.split_once('}').unwrap_or((after, ""));
        match key {
            "name" => res.push_str(&notice.name),
            "domain" => res.push_str(domain),
            "provider" => res.push_str(provider),
            "holders" => res.push_str(&holders),
            _ => {
                res.push('{');
                rest = after;
                continue;
            }
        }
        rest = behind;
    }
    res.push_str(rest);
    res
}
