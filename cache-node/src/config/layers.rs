//! The layers of configuration and where each value came from.

use std::collections::BTreeMap;
use std::path::Path;

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::error::ConfigError;
use super::file::File;
use super::parse;
use super::settings::Settings;

/// Environment variables with this prefix and a `__` between section and key are configuration. Others of the prefix
/// are left alone: Kubernetes sets `KENNEL_PORT` and the like for a service named kennel.
const ENVIRONMENT_PREFIX: &str = "KENNEL_";
const ENVIRONMENT_SEPARATOR: &str = "__";

/// What `check-config` prints instead of a secret.
const REDACTED: &str = "<redacted>";

/// Known keys that an error about an unknown one names.
const NEAREST_MAX: usize = 2;

/// The layers over the embedded defaults, weakest first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sources<'a> {
    /// The user's file.
    pub file: Option<&'a Path>,
    /// Environment variables, names and values.
    pub environment: &'a [(String, String)],
    /// `section.key=value`, from flags.
    pub assignments: &'a [String],
}

/// The merged text, every key known.
#[derive(Debug)]
pub struct Layers {
    figment: Figment,
    merged: Dict,
}

impl Layers {
    /// Lays the sources over the defaults and refuses keys that nobody reads.
    pub fn read(sources: Sources<'_>) -> Result<Self, ConfigError> {
        let defaults = Figment::from(Toml::string(super::DEFAULTS));
        let known = flatten(&dict(&defaults)?);
        let mut figment = defaults;
        if let Some(path) = sources.file {
            // Figment takes a missing file for an empty one.
            std::fs::File::open(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
            figment = figment.merge(Toml::file_exact(path));
        }
        for (name, text) in sources.environment {
            if let Some(key) = environment_key(name) {
                figment = figment.merge(Assignment::new(&known, &key, text, format!("environment variable {name}")));
            }
        }
        for assignment in sources.assignments {
            let (key, text) =
                assignment.split_once('=').ok_or_else(|| ConfigError::Assignment { text: assignment.clone() })?;
            figment = figment.merge(Assignment::new(&known, key.trim(), text.trim(), format!("flag --set {key}")));
        }
        let merged = dict(&figment)?;
        let layers = Self { figment, merged };
        layers.refuse_unknown(&known)?;
        Ok(layers)
    }

    /// The settings, checked one by one and against each other.
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        let file = self.figment.extract::<File>().map_err(|error| value_error(&error))?;
        parse::settings(self, file)
    }

    /// The merged text as TOML, secrets redacted.
    pub fn effective(&self) -> String {
        let mut merged = self.merged.clone();
        for section in merged.values_mut() {
            let Value::Dict(_, section) = section else { continue };
            for (key, value) in section {
                let set = value.as_str().is_some_and(|text| !text.is_empty());
                if key == "secret_access_key" && set {
                    *value = Value::from(REDACTED);
                }
            }
        }
        toml::to_string(&merged).expect("what came from TOML is TOML")
    }

    /// The error for a value of a known key, with the source that it came from.
    pub(super) fn refuse(&self, key: &str, reason: impl Into<String>) -> ConfigError {
        let source_name = self.figment.find_metadata(key).map_or_else(|| "the defaults".to_owned(), source_name);
        ConfigError::Value { key: key.to_owned(), source_name, reason: reason.into() }
    }

    fn refuse_unknown(&self, known: &BTreeMap<String, Value>) -> Result<(), ConfigError> {
        for (key, value) in flatten(&self.merged) {
            if !known.contains_key(&key) {
                let source_name =
                    self.figment.get_metadata(value.tag()).map_or_else(|| "the configuration".to_owned(), source_name);
                return Err(ConfigError::UnknownKey { nearest: nearest(known, &key), key, source_name });
            }
        }
        Ok(())
    }
}

/// One value from the environment or a flag.
struct Assignment {
    source_name: String,
    data: Dict,
}

impl Assignment {
    /// Text stays text where the default is text; elsewhere it is read as TOML is, so `8`, `true` and `["a", "b"]` work.
    fn new(known: &BTreeMap<String, Value>, key: &str, text: &str, source_name: String) -> Self {
        let value = match known.get(key) {
            Some(Value::String(..)) => Value::from(text),
            _ => text.parse().unwrap_or_else(|never: std::convert::Infallible| match never {}),
        };
        Self { source_name, data: figment::util::nest(key, value).into_dict().unwrap_or_default() }
    }
}

impl Provider for Assignment {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source_name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.data.clone()))
    }
}

/// `KENNEL_NODE__ID` is `node.id`.
fn environment_key(name: &str) -> Option<String> {
    let key = name.strip_prefix(ENVIRONMENT_PREFIX)?;
    key.contains(ENVIRONMENT_SEPARATOR).then(|| key.to_lowercase().replace(ENVIRONMENT_SEPARATOR, "."))
}

fn dict(figment: &Figment) -> Result<Dict, ConfigError> {
    figment.extract::<Dict>().map_err(|error| ConfigError::Syntax {
        source_name: error.metadata.as_ref().map_or_else(|| "the configuration".to_owned(), source_name),
        reason: error.kind.to_string(),
    })
}

/// Every leaf by its dotted key. An empty section is a leaf, so that an unknown one is noticed.
fn flatten(dict: &Dict) -> BTreeMap<String, Value> {
    let mut leaves = BTreeMap::new();
    for (key, value) in dict {
        match value {
            Value::Dict(_, inner) if !inner.is_empty() => {
                leaves.extend(flatten(inner).into_iter().map(|(rest, leaf)| (format!("{key}.{rest}"), leaf)));
            }
            leaf => {
                leaves.insert(key.clone(), leaf.clone());
            }
        }
    }
    leaves
}

fn value_error(error: &figment::Error) -> ConfigError {
    ConfigError::Value {
        key: error.path.join("."),
        source_name: error.metadata.as_ref().map_or_else(|| "the configuration".to_owned(), source_name),
        reason: error.kind.to_string(),
    }
}

fn source_name(metadata: &Metadata) -> String {
    match metadata.source.as_ref().and_then(figment::Source::file_path) {
        Some(path) => path.display().to_string(),
        None if metadata.name.starts_with("TOML") => "the defaults".to_owned(),
        None => metadata.name.to_string(),
    }
}

/// The known keys that look most like `key`: few edits away, or the same word in another section.
fn nearest(known: &BTreeMap<String, Value>, key: &str) -> Vec<String> {
    let word = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let mut ranked: Vec<(usize, &String)> = known
        .keys()
        .map(|name| (edits(name, key).min(1 + edits(&word(name), &word(key))), name))
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 4))
        .collect();
    ranked.sort();
    ranked.into_iter().take(NEAREST_MAX).map(|(_, name)| name.clone()).collect()
}

/// How many letters must be inserted, removed or changed to make one word of the other.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, letter) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, other) in to.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}
