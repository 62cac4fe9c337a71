//! What can be wrong with a configuration. Every variant is fixed by a person who edits what the message names.

use std::path::PathBuf;

/// Why a configuration was refused. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that the configuration names cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A source is not TOML.
    #[error("{source_name} is not valid TOML: {reason}")]
    Syntax {
        /// The file.
        source_name: String,
        /// Where and why.
        reason: String,
    },
    /// A flag without a value.
    #[error("`--set {text}` has no value: write --set section.key=value")]
    Assignment {
        /// What stood there.
        text: String,
    },
    /// A key that no program reads.
    #[error("unknown key `{key}` in {source_name}; {}", nearest_words(nearest))]
    UnknownKey {
        /// The key.
        key: String,
        /// Which file, variable or flag it came from.
        source_name: String,
        /// The known keys that look most alike, best first.
        nearest: Vec<String>,
    },
    /// A value that its key does not allow.
    #[error("`{key}` in {source_name}: {reason}")]
    Value {
        /// The key.
        key: String,
        /// Which file, variable or flag the value came from.
        source_name: String,
        /// What is wrong and what is allowed.
        reason: String,
    },
}

fn nearest_words(nearest: &[String]) -> String {
    match nearest {
        [] => "`cache-node check-config` prints all keys".to_owned(),
        names => format!("did you mean `{}`?", names.join("` or `")),
    }
}
