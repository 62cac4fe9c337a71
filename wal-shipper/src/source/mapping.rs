//! Names for ids. The segment files know only numbers; where no server is asked, a file says what they are called.
//!
//! ```toml
//! [[stream]]
//! id = 0
//! name = "orders"
//! [[stream.topic]]
//! id = 0
//! name = "events"
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kennel_protocol::ids::{StreamId, TopicId};
use serde::Deserialize;

/// A mapping file that cannot be used. Fix: the file.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// It cannot be read.
    #[error("cannot read the mapping {}", .path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("the mapping is not valid: it holds [[stream]] with id and name, and [[stream.topic]] with id and name")]
    Invalid(#[source] Box<toml::de::Error>),
    /// Two names for one id.
    #[error("the mapping names {what} twice")]
    Twice {
        /// Which id.
        what: String,
    },
}

/// Names of streams and topics; the id is the name of whatever has none.
#[derive(Debug, Clone, Default)]
pub struct Mapping {
    streams: BTreeMap<StreamId, String>,
    topics: BTreeMap<(StreamId, TopicId), String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MappingFile {
    #[serde(default)]
    stream: Vec<StreamEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamEntry {
    id: u32,
    name: String,
    #[serde(default)]
    topic: Vec<TopicEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TopicEntry {
    id: u32,
    name: String,
}

impl Mapping {
    /// Reads a mapping file.
    pub fn load(path: &Path) -> Result<Self, MappingError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| MappingError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text)
    }

    /// Reads the text of a mapping file.
    pub fn parse(text: &str) -> Result<Self, MappingError> {
        let file: MappingFile = toml::from_str(text).map_err(|error| MappingError::Invalid(Box::new(error)))?;
        let mut mapping = Self::default();
        for stream in file.stream {
            let id = StreamId(stream.id);
            if mapping.streams.insert(id, stream.name).is_some() {
                return Err(MappingError::Twice { what: format!("stream {id}") });
            }
            for topic in stream.topic {
                if mapping.topics.insert((id, TopicId(topic.id)), topic.name).is_some() {
                    return Err(MappingError::Twice { what: format!("topic {id}/{}", topic.id) });
                }
            }
        }
        Ok(mapping)
    }

    /// The stream's name.
    pub fn stream_name(&self, stream: StreamId) -> String {
        self.streams.get(&stream).cloned().unwrap_or_else(|| stream.to_string())
    }

    /// The topic's name.
    pub fn topic_name(&self, stream: StreamId, topic: TopicId) -> String {
        self.topics.get(&(stream, topic)).cloned().unwrap_or_else(|| topic.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_where_there_are_some() {
        let text = "[[stream]]\nid = 0\nname = \"orders\"\n[[stream.topic]]\nid = 4\nname = \"events\"\n";
        let mapping = Mapping::parse(text).expect("a mapping");
        assert_eq!(mapping.stream_name(StreamId(0)), "orders");
        assert_eq!(mapping.topic_name(StreamId(0), TopicId(4)), "events");
        assert_eq!(mapping.topic_name(StreamId(1), TopicId(4)), "4");
        assert!(matches!(Mapping::parse("[[stream]]\nid = 0\nnamee = \"x\""), Err(MappingError::Invalid(_))));
        let twice = Mapping::parse(&format!("{text}{text}"));
        assert!(matches!(twice, Err(MappingError::Twice { .. })));
    }
}
