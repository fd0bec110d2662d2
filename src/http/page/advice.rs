//! What a site's owner is told to do, for operators who ask about a name: the texts of the page that is compiled in.

use std::sync::LazyLock;

use serde::Serialize;

use super::catalogue::{Catalogue, fill};
use super::{FILES, Notice};
use crate::http::host::HostName;
use crate::http::settings::ProviderText;
use crate::policy::{Verdict, View};

/// The compiled-in texts, English first.
static CATALOGUES: LazyLock<[Catalogue; 2]> = LazyLock::new(|| {
    ["en.toml", "zh-CN.toml"].map(|name| {
        let text = FILES.iter().find(|(file, _)| *file == name).map_or("", |(_, text)| text);
        Catalogue::parse(name, text).expect("the compiled-in texts are read by tests")
    })
});

/// The advice in one language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// The cause in a word or two.
    pub state: String,
    /// The prompt.
    pub title: String,
    /// What is the matter.
    pub lead: String,
    /// What the owner does now, in order.
    pub steps: Vec<String>,
}

impl Advice {
    /// The advice for a block, English then Chinese; `shown` is a host that is no name, as it was written.
    pub fn of(verdict: &Verdict, host: &HostName, shown: &str, view: &View, provider: &ProviderText) -> [Self; 2] {
        let notice = Notice::new(verdict, host, shown, view);
        CATALOGUES.each_ref().map(|catalogue| {
            let texts = catalogue.texts(notice.cause);
            let filled = |text: &str| fill(text, &notice, provider, catalogue.label("this-provider"));
            Self {
                state: texts.state.clone(),
                title: filled(&texts.title),
                lead: filled(&texts.lead),
                steps: texts.steps.iter().map(|step| filled(step)).collect(),
            }
        })
    }
}
