//! The block page: templates and texts, compiled in or an operator's own, in each format and language.
//!
//! Rendering is a function of its arguments. What differs from one request to the next, the time and the client's address,
//! is left open as slots, so that a rendered page serves every request for the same decision. Where the template is the
//! compiled-in one, so are the name, its domain and the decision id of a name without a row: one page serves all of them,
//! and a flood of made-up names renders nothing. Every template is rendered for every cause when it is loaded: an error
//! shows there and not before a visitor.

mod advice;
mod catalogue;
mod notice;
pub mod redirect;
mod rendered;

use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, UndefinedBehavior, context};
use serde_json::json;
use thiserror::Error;

pub use self::advice::Advice;
use self::catalogue::{Catalogue, fill};
pub use self::notice::{Cause, Notice, OpenName};
pub use self::rendered::{Fill, Rendered, Slot};
use super::negotiate::{Format, Language};
use super::settings::ProviderText;
use crate::policy::{Reason, Rule};

/// Steps a template may take; the compiled-in page takes about a thousand.
const FUEL_MAX: u64 = 50_000;
/// Greatest page; a screenful of text is a tenth of it.
const PAGE_OCTETS_MAX: usize = 256 << 10;

/// The files of a page directory with what is compiled in for them.
const FILES: [(&str, &str); 4] = [
    ("page.html", include_str!("../../../conf/pages/page.html")),
    ("page.txt", include_str!("../../../conf/pages/page.txt")),
    ("zh-CN.toml", include_str!("../../../conf/pages/zh-CN.toml")),
    ("en.toml", include_str!("../../../conf/pages/en.toml")),
];

/// Why pages cannot be used. The operator is at fault.
#[derive(Debug, Error)]
pub enum PageError {
    /// A file of texts is not as it should be.
    #[error("page texts {file}: {what}")]
    Catalogue {
        /// The file.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// A file cannot be read.
    #[error("page file {file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A template does not parse, does not render, or makes too large a page.
    #[error("page template {file}: {what}")]
    Template {
        /// The file.
        file: String,
        /// What is wrong, with the line.
        what: String,
    },
}

//--- Pages -----------------------------------------------------------------------------------------------------------

/// Templates and texts, checked.
pub struct Pages {
    templates: Environment<'static>,
    /// Whether the templates for HTML and for plain text are the compiled-in ones.
    built_in: [bool; 2],
    catalogues: [Catalogue; 2],
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}

impl Pages {
    /// Loads the files of `directory`, or those compiled in; a file the directory lacks is the compiled-in one.
    pub fn load(directory: Option<&Path>) -> Result<Self, PageError> {
        let mut texts = FILES.map(|(_, built_in)| built_in.to_owned());
        if let Some(directory) = directory {
            // A missing directory is a mistake; a missing file in it is a choice.
            std::fs::read_dir(directory)
                .map_err(|source| PageError::Read { file: directory.display().to_string(), source })?;
            for ((file, _), text) in FILES.iter().zip(&mut texts) {
                if let Some(own) = read(&directory.join(file))? {
                    *text = own;
                }
            }
        }
        let built_in = std::array::from_fn(|i| texts[i] == FILES[i].1);
        let [html, plain, zh_cn, en] = texts;
        let mut templates = Environment::new();
        templates.set_fuel(Some(FUEL_MAX));
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        templates.set_syntax(syntax.expect("the delimiters are the usual ones"));
        for (file, text) in [("page.html", html), ("page.txt", plain)] {
            templates.add_template_owned(file, text).map_err(|error| template_error(file, &error))?;
        }
        let catalogues = [Catalogue::parse("en.toml", &en)?, Catalogue::parse("zh-CN.toml", &zh_cn)?];
        let res = Self { templates, built_in, catalogues };
        res.check()?;
        Ok(res)
    }

    /// True where what a page says of a name may be left open: an operator's template may look at it.
    pub fn leave_names_open(&self, format: Format) -> bool {
        match format {
            Format::Html => self.built_in[0],
            Format::Text => self.built_in[1],
            Format::Problem => true,
        }
    }

    /// Renders `notice`. An error cannot happen to a page that was loaded unless its texts explode with its input; the
    /// caller then says less.
    pub fn render(
        &self,
        notice: &Notice,
        provider: &ProviderText,
        status: u16,
        language: Language,
        format: Format,
    ) -> Result<Rendered, PageError> {
        let text = match format {
            Format::Problem => self.problem(notice, provider, status, language),
            Format::Html => self.template("page.html", notice, provider, status, language)?,
            Format::Text => self.template("page.txt", notice, provider, status, language)?,
        };
        Ok(Rendered::new(format, language, &text))
    }

    fn catalogue(&self, language: Language) -> &Catalogue {
        &self.catalogues[language as usize]
    }

    fn template(
        &self,
        file: &str,
        notice: &Notice,
        provider: &ProviderText,
        status: u16,
        language: Language,
    ) -> Result<String, PageError> {
        let template = self.templates.get_template(file).map_err(|error| template_error(file, &error))?;
        let context = self.context(notice, provider, status, language);
        let res = template.render(context).map_err(|error| template_error(file, &error))?;
        if res.len() > PAGE_OCTETS_MAX {
            let what = format!("the page has {} octets, at most {PAGE_OCTETS_MAX} are sent", res.len());
            return Err(PageError::Template { file: file.to_owned(), what });
        }
        Ok(res)
    }

    /// What templates see; `conf/pages/README.md` lists it for operators.
    fn context(&self, notice: &Notice, provider: &ProviderText, status: u16, language: Language) -> Value {
        let catalogue = self.catalogue(language);
        let texts = catalogue.texts(notice.cause);
        let filled = |text: &str| fill(text, notice, provider, catalogue.label("this-provider"));
        let (rule_zh, rule_en) = notice.rule.sentence();
        let optional = |text: &Option<String>| text.clone().unwrap_or_default();
        context! {
            language => language.tag(),
            status => u32::from(status),
            cause => notice.cause.key(),
            reason => notice.reason.label(),
            rule => notice.rule.id(),
            rule_text => if language == Language::En { rule_en } else { rule_zh },
            seal => texts.seal.chars().take(4).map(String::from).collect::<Vec<_>>(),
            state => texts.state.as_str(),
            title => filled(&texts.title),
            lead => filled(&texts.lead),
            steps => texts.steps.iter().map(|step| filled(step)).collect::<Vec<_>>(),
            link => texts.link.as_str(),
            label => catalogue.label.clone(),
            name => notice.name.as_str(),
            name_ascii => optional(&notice.name_ascii),
            domain => optional(&notice.domain),
            id => optional(&notice.id),
            site_no => optional(&notice.site_no),
            holders => notice.holders.join(", "),
            provider => provider.name.as_str(),
            contact => provider.contact.as_str(),
            contact_url => contact_url(&provider.contact),
            filing_url => if is_web_url(&provider.filing_url) { provider.filing_url.as_str() } else { "" },
            time => Slot::Time.mark().to_string(),
            client => Slot::Client.mark().to_string(),
        }
    }

    /// RFC 9457: the standard members, then ours.
    fn problem(&self, notice: &Notice, provider: &ProviderText, status: u16, language: Language) -> String {
        let catalogue = self.catalogue(language);
        let texts = catalogue.texts(notice.cause);
        let filled = |text: &str| fill(text, notice, provider, catalogue.label("this-provider"));
        let mut res = json!({
            "type": "about:blank",
            "title": filled(&texts.title),
            "status": status,
            "detail": filled(&texts.lead),
            "reason": notice.reason.label(),
            "cause": notice.cause.key(),
            "rule": notice.rule.id(),
            "name": notice.name_ascii.as_deref().unwrap_or(&notice.name),
            "time": Slot::Time.mark().to_string(),
            "client": Slot::Client.mark().to_string(),
        });
        let optional = [
            ("domain", notice.domain_ascii.clone()),
            ("id", notice.id.clone()),
            ("site_no", notice.site_no.clone()),
            ("provider", Some(provider.name.clone())),
            ("contact", Some(provider.contact.clone())),
            ("filing_url", Some(provider.filing_url.clone())),
        ];
        for (key, value) in optional {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                res[key] = value.into();
            }
        }
        if !notice.holders.is_empty() {
            res["holders"] = notice.holders.clone().into();
        }
        let mut text = res.to_string();
        text.push('\n');
        text
    }

    /// Renders everything once.
    fn check(&self) -> Result<(), PageError> {
        let provider = ProviderText {
            id: "self".to_owned(),
            name: "provider".to_owned(),
            url: String::new(),
            filing_url: "https://beian.example/".to_owned(),
            contact: "icp@beian.example".to_owned(),
        };
        for (cause, _) in Cause::ALL {
            for language in Language::ALL {
                for format in Format::ALL {
                    self.render(&sample(cause), &provider, 451, language, format)?;
                    self.render(&bare(cause), &ProviderText::default(), 451, language, format)?;
                }
            }
        }
        Ok(())
    }
}

/// A case with everything known.
fn sample(cause: Cause) -> Notice {
    Notice {
        cause,
        reason: Reason::NotFiled,
        rule: Rule::B1,
        name: "www.例子.中国".to_owned(),
        name_ascii: Some("www.xn--fsqu00a.xn--fiqs8s".to_owned()),
        domain: Some("例子.中国".to_owned()),
        domain_ascii: Some("xn--fsqu00a.xn--fiqs8s".to_owned()),
        id: Some("0000000000000".to_owned()),
        site_no: Some("京ICP备2021000001号-1".to_owned()),
        holders: vec!["other".to_owned()],
    }
}

/// A case with nothing known.
fn bare(cause: Cause) -> Notice {
    Notice {
        name_ascii: None,
        domain: None,
        domain_ascii: None,
        id: None,
        site_no: None,
        holders: Vec::new(),
        ..sample(cause)
    }
}

/// A link for a contact: a URL as it is, a mail address or telephone number with its scheme, else none.
fn contact_url(contact: &str) -> String {
    let is_number = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | ' ');
    match contact {
        c if c.is_empty() || c.contains(['"', '<', '>']) => String::new(),
        c if is_web_url(c) => c.to_owned(),
        c if c.contains('@') && !c.contains(char::is_whitespace) => format!("mailto:{c}"),
        c if c.chars().all(is_number) => format!("tel:{}", c.replace(' ', "")),
        _ => String::new(),
    }
}

/// True for what may stand in a link and in a header: `http(s)://` and visible ASCII without delimiters.
pub fn is_web_url(text: &str) -> bool {
    let is_web = text.starts_with("https://") || text.starts_with("http://");
    is_web && text.bytes().all(|octet| octet.is_ascii_graphic() && !matches!(octet, b'<' | b'>' | b'"' | b'\\'))
}

fn template_error(file: &str, error: &minijinja::Error) -> PageError {
    let line = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
    PageError::Template { file: file.to_owned(), what: format!("{line}{error}") }
}

/// The text of a file; `None` if there is none. Longer than a page is an error.
fn read(path: &Path) -> Result<Option<String>, PageError> {
    let file = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) if text.len() > PAGE_OCTETS_MAX => {
            let what = format!("the file has {} octets, at most {PAGE_OCTETS_MAX} are read", text.len());
            Err(PageError::Template { file, what })
        }
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PageError::Read { file, source }),
    }
}
