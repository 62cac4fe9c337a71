//! Merging pictures: what stays, what goes, what rises, and that order and repetition do not matter.

use super::*;
use crate::ids::{Incarnation, PartitionId, StreamId, TopicId};

/// A catalogue of lines `stream-id stream-name topic-id topic-name partition@incarnation...`, in id order.
fn catalog(revision: u64, lines: &[&str]) -> Catalog {
    let mut catalog = Catalog { revision, streams: Vec::new() };
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let id = StreamId(words[0].parse().expect("an id"));
        if catalog.streams.last().is_none_or(|stream| stream.id != id) {
            catalog.streams.push(StreamEntry { id, name: words[1].to_owned(), topics: Vec::new() });
        }
        let partition = |word: &&str| {
            let (id, incarnation) = word.split_once('@').expect("an incarnation");
            PartitionEntry {
                id: PartitionId(id.parse().expect("an id")),
                incarnation: Incarnation(incarnation.parse().expect("a number")),
            }
        };
        let topic = TopicEntry {
            id: TopicId(words[2].parse().expect("an id")),
            name: words[3].to_owned(),
            partitions: words[4..].iter().map(partition).collect(),
            message_expiry_micros: None,
        };
        catalog.streams.last_mut().expect("one was pushed").topics.push(topic);
    }
    catalog
}

fn merged(standing: &Catalog, seen: &Catalog, scope: Scope) -> Catalog {
    merge(Some(standing), seen, scope).expect("they go together").expect("something is new")
}

fn keys(keys: &[&str]) -> Vec<PartitionKey> {
    keys.iter().map(|key| key.parse().expect("a partition")).collect()
}

#[test]
fn the_first_picture_stands_as_it_is() {
    let seen = catalog(77, &["0 shop 0 events 0@5 1@5"]);
    for scope in [Scope::Whole, Scope::Partial] {
        let first = merge(None, &seen, scope).expect("valid").expect("new");
        assert_eq!((first.revision, &first.streams), (1, &seen.streams));
    }
    assert!(merge(None, &Catalog::default(), Scope::Whole).expect("valid").is_some(), "that there is nothing is news");
}

#[test]
fn a_partial_picture_adds_and_updates_and_never_removes() {
    let standing = catalog(9, &["0 shop 0 events 0@5 1@5", "2 audit 0 log 0@1"]);
    let seen = catalog(0, &["0 shop 0 clicks 1@6 2@1", "0 shop 1 orders 0@1", "3 new 0 log 0@2"]);
    let expected = ["0 shop 0 clicks 0@5 1@6 2@1", "0 shop 1 orders 0@1", "2 audit 0 log 0@1", "3 new 0 log 0@2"];
    let together = merged(&standing, &seen, Scope::Partial);
    assert_eq!(together, catalog(10, &expected));
    assert_eq!(merge(Some(&together), &seen, Scope::Partial), Ok(None), "again is nothing new");
    let back = merged(&together, &standing, Scope::Partial);
    assert_eq!(back.streams[0].topics[0].name, "events", "who comes last names it");
}

#[test]
fn a_whole_picture_replaces() {
    let standing = catalog(9, &["0 shop 0 events 0@5 1@5", "2 audit 0 log 0@1"]);
    let seen = catalog(0, &["0 store 0 events 0@5", "3 new 0 log 0@2"]);
    assert_eq!(merged(&standing, &seen, Scope::Whole), catalog(10, &["0 store 0 events 0@5", "3 new 0 log 0@2"]));
    assert_eq!(merge(Some(&seen), &seen, Scope::Whole), Ok(None));
    let swapped = catalog(0, &["0 audit 0 events 0@5", "2 shop 0 log 0@1"]);
    assert_eq!(merged(&standing, &swapped, Scope::Whole).streams, swapped.streams, "names may change places");
}

#[test]
fn incarnations_only_rise() {
    let standing = catalog(9, &["0 shop 0 events 0@50 1@5"]);
    let seen = catalog(0, &["0 shop 0 events 0@4 1@6"]);
    for scope in [Scope::Whole, Scope::Partial] {
        assert_eq!(merged(&standing, &seen, scope), catalog(10, &["0 shop 0 events 0@50 1@6"]));
    }
}

#[test]
fn what_has_no_name_keeps_the_one_that_stands() {
    let mut standing = catalog(9, &["4 shop 7 events 0@1"]);
    standing.streams[0].topics[0].message_expiry_micros = Some(60);
    let nameless = catalog(0, &["4 4 7 7 0@1 1@1"]);
    let together = merged(&standing, &nameless, Scope::Partial);
    let topic = &together.streams[0].topics[0];
    assert_eq!((together.streams[0].name.as_str(), topic.name.as_str()), ("shop", "events"));
    assert_eq!((topic.message_expiry_micros, topic.partitions.len()), (Some(60), 2));
    let whole = merged(&standing, &nameless, Scope::Whole);
    assert_eq!((whole.streams[0].name.as_str(), whole.streams[0].topics[0].message_expiry_micros), ("4", None));
}

#[test]
fn colliding_names_are_named() {
    let standing = catalog(9, &["0 shop 0 events 0@1"]);
    let stream = merge(Some(&standing), &catalog(0, &["1 shop 0 x 0@1"]), Scope::Partial);
    assert!(matches!(stream, Err(MergeError::StreamName { name, .. }) if name == "shop"));
    let topic = merge(Some(&standing), &catalog(0, &["0 shop 1 events 0@1"]), Scope::Partial);
    assert!(matches!(topic, Err(MergeError::TopicName { seen, .. }) if seen == "0/1"));
    let empty = merge(None, &catalog(0, &["0  0 x 0@1"]), Scope::Partial);
    assert!(matches!(empty, Err(MergeError::Invalid { .. })));
}

#[test]
fn two_shippers_come_to_the_same_in_either_order() {
    let standing = catalog(9, &["0 shop 0 events 0@1"]);
    let one = catalog(0, &["0 shop 0 events 0@1 1@3", "1 a 0 t 0@1"]);
    let other = catalog(0, &["0 shop 0 events 0@2", "2 b 0 t 0@1"]);
    let first = merged(&merged(&standing, &one, Scope::Partial), &other, Scope::Partial);
    let second = merged(&merged(&standing, &other, Scope::Partial), &one, Scope::Partial);
    assert_eq!(first, second);
}

#[test]
fn differences_are_told_apart() {
    let older = catalog(1, &["0 shop 0 events 0@1 1@1", "2 audit 0 log 0@1"]);
    let newer = catalog(2, &["0 shop 0 clicks 1@2 2@1", "3 new 0 log 0@1"]);
    let found = diff(&older, &newer);
    assert_eq!(found.appeared, keys(&["0/0/2@1", "3/0/0@1"]));
    assert_eq!(found.gone, keys(&["0/0/0@1", "2/0/0@1"]));
    assert_eq!(found.reborn, [(keys(&["0/0/1@1"])[0], keys(&["0/0/1@2"])[0])]);
    assert!(found.described_anew && !found.is_empty());
    assert!(diff(&older, &Catalog { revision: 5, ..older.clone() }).is_empty());
    assert_eq!(diff(&Catalog::default(), &older).appeared.len(), 3);
    assert_eq!(diff(&older, &Catalog::default()).gone.len(), 3);
}
