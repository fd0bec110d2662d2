//! Configuration: text → `Spec` → [`Config`], which is the settings of every layer.
//!
//! ```text
//! file, environment ─ tree ─▶ values with places ─ shape ─▶ Spec ─ checks ─▶ Config
//! ```
//!
//! Order of strength: default, file, environment, argument. Each problem names its place, key, value and what would have
//! been right, and all problems are told at once. Reads the file and the token file; binds nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::dns;
use crate::http;
use crate::ops::alert::AlertSettings;
use crate::ops::shadow::ShadowSettings;
use crate::ops::{AdminSettings, FaultSettings, JournalSettings};
use crate::policy;
use crate::ranges;
use crate::registry;

pub mod alert;
pub mod checks;
pub mod demo;
pub mod environment;
pub mod shape;
pub mod show;
pub mod spec;
pub mod tree;
pub mod upstream;

pub use demo::Demo;
pub use spec::Spec;
pub use tree::Place;

/// Octets of a configuration file; larger ones are some other file.
pub const FILE_OCTETS_MAX: u64 = 1 << 20;

/// The settings of every layer, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the page says of the provider.
    pub provider: http::settings::ProviderText,
    /// The policy.
    pub rules: policy::Rules,
    /// The registry.
    pub registry: registry::Settings,
    /// The ranges.
    pub ranges: ranges::Settings,
    /// The DNS plane.
    pub dns: dns::Settings,
    /// The HTTP plane.
    pub http: http::Settings,
    /// The admin listener.
    pub admin: AdminSettings,
    /// The journal.
    pub journal: JournalSettings,
    /// Where unfiled domains that are met for the first time are told of.
    pub alert: AlertSettings,
    /// What judges beside the live data, where something does.
    pub shadow: Option<ShadowSettings>,
    /// The fail-mode contract.
    pub faults: FaultSettings,
}

/// A configuration with where it came from.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// The text with all defaults filled in.
    pub spec: Spec,
    /// Where each key that is no default was written.
    pub places: BTreeMap<String, Place>,
    /// Findings that stop nothing.
    pub warnings: Vec<String>,
    /// The file it was read from; `None` for the compiled-in demo.
    pub file: Option<PathBuf>,
    /// The demo's data, where the demo runs.
    pub demo: Option<Demo>,
}

/// Something wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub place: Place,
    /// The key; empty where the text is no TOML.
    pub key: String,
    /// The value as written, where there is one to show.
    pub value: Option<String>,
    /// What is wrong and what would have been right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        match (&self.value, self.key.is_empty()) {
            (_, true) => {}
            (Some(value), false) => write!(f, "{} = {value}: ", self.key)?,
            (None, false) => write!(f, "{}: ", self.key)?,
        }
        f.write_str(&self.message)
    }
}

/// Why there is no configuration. The operator, or the file system, is at fault.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The demo's data could not be laid out.
    #[error("cannot unpack the demo data: {0}")]
    Demo(std::io::Error),
    /// What is written is wrong; one line a problem.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Problem>),
    /// The file cannot be read.
    #[error("{}: cannot be read: {error}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The file is no configuration.
    #[error("{}: is larger than {FILE_OCTETS_MAX} octets; expected a configuration", .file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
}

/// Loads `file`, or the compiled-in demo, with the process environment over it.
pub fn load(file: Option<&Path>) -> Result<Loaded, ConfigError> {
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    load_with(file, &environment)
}

/// As [`load`], with the environment as an argument.
pub fn load_with(file: Option<&Path>, environment: &[(String, String)]) -> Result<Loaded, ConfigError> {
    let Some(file) = file else {
        let demo = Demo::prepare().map_err(ConfigError::Demo)?;
        let res = parse(demo::NAME, &demo.text(), environment)?;
        return Ok(Loaded { demo: Some(demo), ..res });
    };
    let io = |error| ConfigError::Io { file: file.to_owned(), error };
    if std::fs::metadata(file).map_err(io)?.len() > FILE_OCTETS_MAX {
        return Err(ConfigError::TooLarge { file: file.to_owned() });
    }
    let text = std::fs::read_to_string(file).map_err(io)?;
    let res = parse(&file.display().to_string(), &text, environment)?;
    Ok(Loaded { file: Some(file.to_owned()), ..res })
}

/// Reads a configuration text that stands in `name`.
pub fn parse(name: &str, text: &str, environment: &[(String, String)]) -> Result<Loaded, ConfigError> {
    let mut warnings = Vec::new();
    let (spec, places) = parse_spec(name, text, environment, &mut warnings).map_err(ConfigError::Invalid)?;
    let config = checks::check(&spec, &places, &mut warnings).map_err(ConfigError::Invalid)?;
    Ok(Loaded { config, spec, places, warnings, file: None, demo: None })
}

/// The form alone: text to `Spec`, with the place of each value.
pub fn parse_spec(
    name: &str,
    text: &str,
    environment: &[(String, String)],
    warnings: &mut Vec<String>,
) -> Result<(Spec, BTreeMap<String, Place>), Vec<Problem>> {
    let schema = spec::schema();
    let mut tree = tree::parse_file(name, text)?;
    let mut problems = environment::overlay(&schema, environment, &mut tree, warnings);
    problems.extend(shape::check(&schema, &tree));
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut places = BTreeMap::new();
    tree.each_place("", &mut |path, place| drop(places.insert(path, place.clone())));
    // What the schema lets through can be read, unless the two disagree: then say so rather than stop the process.
    let spec = serde_json::from_value(tree.value.to_json()).map_err(|error| {
        let message = error.to_string();
        vec![Problem { place: tree.place.clone(), key: String::new(), value: None, message }]
    })?;
    Ok((spec, places))
}
