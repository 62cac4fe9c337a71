//! What becomes of the standing catalogue when a shipper sees something, and what is new in it.
//!
//! Pure: a shipper reads what stands, merges, offers the result, and does it again if another one was quicker (PROTOCOL
//! R29). So merging is idempotent, and whatever the order of two shippers, incarnations only rise.

use core::fmt::Display;

use crate::catalog::{Catalog, PartitionEntry, StreamEntry, TopicEntry};
use crate::ids::PartitionKey;

/// How much of the source a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything: what it does not list is gone. A live server.
    Whole,
    /// Some streams, or names that are only known in part: what it does not list stays. An import.
    Partial,
}

/// Why a picture cannot be merged into what stands. Fix: the names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// Another stream has the name.
    #[error(
        "stream {seen} is called `{name}`, as is stream {standing} in the catalogue; give one of them another name"
    )]
    StreamName {
        /// The name.
        name: String,
        /// The stream that is to be called so.
        seen: String,
        /// The stream that is called so.
        standing: String,
    },
    /// Another topic of the stream has the name.
    #[error("topic {seen} is called `{name}`, as is topic {standing} in the catalogue; give one of them another name")]
    TopicName {
        /// The name.
        name: String,
        /// The topic that is to be called so, with its stream.
        seen: String,
        /// The topic that is called so, with its stream.
        standing: String,
    },
    /// Streams, topics or partitions are too many, or the picture contradicts itself.
    #[error("the catalogue would not be valid: {what}")]
    Invalid {
        /// Why not.
        what: &'static str,
    },
}

/// What differs between two catalogues.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CatalogDiff {
    /// Partitions of ids that were not listed, in key order.
    pub appeared: Vec<PartitionKey>,
    /// Partitions of ids that are no longer listed, in key order.
    pub gone: Vec<PartitionKey>,
    /// Partitions whose ids are in another life, before and after, in key order.
    pub reborn: Vec<(PartitionKey, PartitionKey)>,
    /// Whether a name or an expiry differs, of what both list.
    pub described_anew: bool,
}

impl CatalogDiff {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The catalogue that is to follow `standing` now that `seen` was seen; `None` if nothing is new.
///
/// What both list keeps the higher incarnation. A partial picture adds and updates; where it knows no name (its name for
/// something is its id) or no expiry, what stands is kept.
pub fn merge(standing: Option<&Catalog>, seen: &Catalog, scope: Scope) -> Result<Option<Catalog>, MergeError> {
    let empty = Catalog::default();
    let standing_streams = &standing.unwrap_or(&empty).streams;
    let streams = merge_lists(standing_streams, &seen.streams, scope, |stream| stream.id, merge_stream);
    let merged = Catalog { revision: standing.unwrap_or(&empty).next_revision(), streams };
    check_names(&merged)?;
    merged.check().map_err(|what| MergeError::Invalid { what })?;
    let same = standing.is_some_and(|standing| standing.lists_the_same(&merged));
    Ok((!same).then_some(merged))
}

/// What is different in `newer`.
pub fn diff(older: &Catalog, newer: &Catalog) -> CatalogDiff {
    let mut diff = CatalogDiff::default();
    let ids = |key: &PartitionKey| (key.stream, key.topic, key.partition);
    let (mut before, mut after) = (older.partitions().peekable(), newer.partitions().peekable());
    loop {
        match (before.peek().copied(), after.peek().copied()) {
            (None, None) => break,
            (Some(gone), next) if next.is_none_or(|next| ids(&gone) < ids(&next)) => {
                diff.gone.push(gone);
                before.next();
            }
            (earlier, Some(came)) if earlier.is_none_or(|earlier| ids(&came) < ids(&earlier)) => {
                diff.appeared.push(came);
                after.next();
            }
            (Some(earlier), Some(later)) => {
                if earlier != later {
                    diff.reborn.push((earlier, later));
                }
                before.next();
                after.next();
            }
            (Some(_), None) | (None, Some(_)) => unreachable!("one of the guards holds where a side has ended"),
        }
    }
    diff.described_anew = described_anew(older, newer);
    diff
}

fn described_anew(older: &Catalog, newer: &Catalog) -> bool {
    older.streams.iter().filter_map(|before| Some((before, newer.stream_by_id(before.id)?))).any(|(before, after)| {
        let topics = before.topics.iter().filter_map(|topic| Some((topic, after.topic_by_id(topic.id)?)));
        let mut topics = topics.map(|(before, after)| {
            before.name != after.name || before.message_expiry_micros != after.message_expiry_micros
        });
        before.name != after.name || topics.any(|differs| differs)
    })
}

/// Two lists in id order as one.
fn merge_lists<T: Clone, I: Ord>(
    standing: &[T],
    seen: &[T],
    scope: Scope,
    id: impl Fn(&T) -> I,
    both: impl Fn(&T, &T, Scope) -> T,
) -> Vec<T> {
    let mut merged = Vec::with_capacity(seen.len());
    let mut rest = standing.iter().peekable();
    for seen in seen {
        while let Some(other) = rest.next_if(|standing| id(standing) < id(seen)) {
            merged.extend((scope == Scope::Partial).then(|| other.clone()));
        }
        let same = rest.next_if(|standing| id(standing) == id(seen));
        merged.push(same.map_or_else(|| seen.clone(), |standing| both(standing, seen, scope)));
    }
    if scope == Scope::Partial {
        merged.extend(rest.cloned());
    }
    merged
}

fn merge_stream(standing: &StreamEntry, seen: &StreamEntry, scope: Scope) -> StreamEntry {
    let topics = merge_lists(&standing.topics, &seen.topics, scope, |topic| topic.id, merge_topic);
    StreamEntry { id: seen.id, name: name(&standing.name, &seen.name, seen.id, scope), topics }
}

fn merge_topic(standing: &TopicEntry, seen: &TopicEntry, scope: Scope) -> TopicEntry {
    let expiry = match scope {
        Scope::Whole => seen.message_expiry_micros,
        Scope::Partial => seen.message_expiry_micros.or(standing.message_expiry_micros),
    };
    TopicEntry {
        id: seen.id,
        name: name(&standing.name, &seen.name, seen.id, scope),
        partitions: merge_lists(&standing.partitions, &seen.partitions, scope, |entry| entry.id, merge_partition),
        message_expiry_micros: expiry,
    }
}

fn merge_partition(standing: &PartitionEntry, seen: &PartitionEntry, _scope: Scope) -> PartitionEntry {
    PartitionEntry { id: seen.id, incarnation: seen.incarnation.max(standing.incarnation) }
}

fn name(standing: &str, seen: &str, id: impl Display, scope: Scope) -> String {
    let nameless = scope == Scope::Partial && seen == id.to_string();
    if nameless { standing.to_owned() } else { seen.to_owned() }
}

/// Says which names collide; that the whole is valid is checked by the catalogue itself.
fn check_names(catalog: &Catalog) -> Result<(), MergeError> {
    let streams = catalog.streams.iter().map(|stream| (stream.name.as_str(), stream.id));
    if let Some((name, standing, seen)) = twice(streams) {
        return Err(MergeError::StreamName { name, seen: seen.to_string(), standing: standing.to_string() });
    }
    for stream in &catalog.streams {
        if let Some((name, standing, seen)) = twice(stream.topics.iter().map(|topic| (topic.name.as_str(), topic.id))) {
            let [seen, standing] = [seen, standing].map(|topic| format!("{}/{topic}", stream.id));
            return Err(MergeError::TopicName { name, seen, standing });
        }
    }
    Ok(())
}

/// The first name that two have.
fn twice<'a, I: Ord + Copy>(named: impl Iterator<Item = (&'a str, I)>) -> Option<(String, I, I)> {
    let mut sorted: Vec<(&str, I)> = named.collect();
    sorted.sort_unstable();
    let pair = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0)?;
    Some((pair[0].0.to_owned(), pair[0].1, pair[1].1))
}

#[cfg(test)]
mod tests;
