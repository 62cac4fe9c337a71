//! Names for ids. The segment files know only numbers; where no server is asked, a file says what they are called, and
//! which partitions began a new history that their files do not tell of.
//!
//! ```toml
//! [[stream]]
//! id = 0
//! name = "orders"
//! [[stream.topic]]
//! id = 0
//! name = "events"
//!
//! [[recreated]]          # its old history stays readable as 0/0/3, the files are shipped as 0/0/3@1
//! partition = "0/0/3"
//! times = 1
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kennel_protocol::ids::{Incarnation, PartitionKey, StreamId, TopicId};
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
    #[error(
        "the mapping is not valid: it holds [[stream]] and [[stream.topic]] with id and name, \
             and [[recreated]] with partition and times"
    )]
    Invalid(#[source] Box<toml::de::Error>),
    /// Not a partition.
    #[error("`{found}` is not a partition: the mapping wants stream/topic/partition, as \"1/2/3\"")]
    NoPartition {
        /// What stands there.
        found: String,
    },
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
    recreated: BTreeMap<PartitionKey, u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MappingFile {
    #[serde(default)]
    stream: Vec<StreamEntry>,
    #[serde(default)]
    recreated: Vec<RecreatedEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecreatedEntry {
    partition: String,
    times: u32,
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
        for entry in file.recreated {
            let key = entry.partition.parse().ok().filter(|key: &PartitionKey| key.incarnation == Incarnation(0));
            let key = key.ok_or(MappingError::NoPartition { found: entry.partition })?;
            if mapping.recreated.insert(key, entry.times.into()).is_some() {
                return Err(MappingError::Twice { what: format!("partition {key}") });
            }
        }
        Ok(mapping)
    }

    /// How often a partition began a new history that its files do not tell of: an operator's word (PROTOCOL R15).
    pub fn recreated(&self, partition: PartitionKey) -> u64 {
        let plain = PartitionKey { incarnation: Incarnation(0), ..partition };
        self.recreated.get(&plain).copied().unwrap_or(0)
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
        let again = Mapping::parse("[[recreated]]\npartition = \"1/2/3\"\ntimes = 2\n").expect("a mapping");
        let partition = |text: &str| text.parse().expect("a partition");
        assert_eq!((again.recreated(partition("1/2/3@9")), again.recreated(partition("1/2/4"))), (2, 0));
        let wrong = Mapping::parse("[[recreated]]\npartition = \"1/2\"\ntimes = 2\n");
        assert!(matches!(wrong, Err(MappingError::NoPartition { .. })));
        let twice = Mapping::parse(&format!("{text}{text}"));
        assert!(matches!(twice, Err(MappingError::Twice { .. })));
    }
}
