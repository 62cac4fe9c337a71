//! What a real Iggy server wrote: every message, every batch, sliced polls, and damage to any bit of them.
#![expect(clippy::disallowed_methods, reason = "fixtures are read from disk")]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use kennel_protocol::batch::{BatchFault, BatchView, batches, inspect_chunk, peek, slice, split};
use kennel_protocol::entry::EntryKind;
use kennel_protocol::ids::{Offset, PartitionKey};
use serde_json::Value;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn read(path: &Path) -> Bytes {
    Bytes::from(std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// A partition's segments, one after another.
fn log(key: PartitionKey) -> Bytes {
    let directory =
        fixtures().join(format!("streams/{}/topics/{}/partitions/{}", key.stream, key.topic, key.partition));
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(&directory).expect("a partition").map(|file| file.expect("a file").path()).collect();
    paths.sort();
    Bytes::from(paths.iter().map(|path| read(path)).collect::<Vec<_>>().concat())
}

fn raw_poll(name: &str) -> Bytes {
    read(&fixtures().join("raw_polls").join(name)).slice(16..)
}

/// Every partition that the SDK saw, with its messages.
fn partitions() -> Vec<(PartitionKey, Vec<Value>)> {
    let text = read(&fixtures().join("messages.json"));
    let seen: Vec<Value> = serde_json::from_slice(&text).expect("a list of partitions");
    let key = |seen: &Value| {
        format!("{}/{}/{}", seen["stream_id"], seen["topic_id"], seen["partition_id"]).parse().expect("a partition")
    };
    seen.iter().map(|seen| (key(seen), seen["messages"].as_array().expect("messages").clone())).collect()
}

fn number(message: &Value, field: &str) -> u64 {
    message[field].as_u64().unwrap_or_else(|| panic!("{field} of {message}"))
}

#[test]
fn every_message_is_what_the_sdk_saw() {
    let mut compared = 0;
    for (key, expected) in partitions() {
        let log = log(key);
        let found = batches(&log).flat_map(|batch| batch.expect("a batch").messages());
        for (message, expected) in found.map(|message| message.expect("a message")).zip(&expected) {
            assert_eq!(message.offset().0, number(expected, "offset"), "{key}");
            assert_eq!(message.timestamp(), number(expected, "timestamp"));
            assert_eq!(message.origin_timestamp(), number(expected, "origin_timestamp"));
            assert_eq!(message.id().to_string(), expected["id"].as_str().expect("an id"));
            assert_eq!(format!("{:016x}", message.checksum()), expected["checksum"].as_str().expect("a checksum"));
            assert_eq!(message.payload().len() as u64, number(expected, "payload_len"));
            assert_eq!(message.user_headers().len() as u64, number(expected, "user_headers_len"));
            if let Some(text) = expected["payload_utf8"].as_str() {
                assert_eq!(message.payload(), text.as_bytes());
            }
            compared += 1;
        }
    }
    assert_eq!(compared, 1519);
}

#[test]
fn every_log_is_one_chunk() {
    for (key, expected) in partitions() {
        let body = log(key);
        let head = inspect_chunk(key, &body).unwrap_or_else(|error| panic!("{key}: {error:?}"));
        assert_eq!((head.kind, head.base, head.end), (EntryKind::Chunk, Offset(0), Offset(expected.len() as u64)));
        assert_eq!(head.sum.messages, expected.len() as u64);
        assert_eq!(head.last.expect("a last message").offset.plus(1), head.end);
        let peek = peek(&body).expect("batches");
        assert_eq!((peek.base, peek.end, peek.messages), (head.base, head.end, head.sum.messages));
        assert_eq!(split(&body).count(), peek.batches as usize);
    }
}

#[test]
fn a_chunk_of_another_partition_is_refused() {
    let body = log("0/0/1".parse().expect("a partition"));
    let error = inspect_chunk("0/0/0".parse().expect("a partition"), &body).expect_err("another partition");
    assert_eq!(error.reason, BatchFault::WrongPartition { expected: 0, found: 1 });
}

#[test]
fn a_whole_poll_is_the_log() {
    let poll = raw_poll("telemetry_default-flush_p1_offset0_count1000.bin");
    assert_eq!(poll, log("1/0/1".parse().expect("a partition")));
}

#[test]
fn a_poll_within_batches_is_sliced_as_we_slice() {
    let poll = raw_poll("orders_events_p0_offset195_count10.bin");
    let polled: Vec<_> = batches(&poll).map(|batch| batch.expect("a batch")).collect();
    let offsets: Vec<u64> = polled.iter().flat_map(BatchView::messages).map(|m| m.expect("one").offset().0).collect();
    assert_eq!(offsets, (195..205).collect::<Vec<_>>());
    let summaries: Vec<_> = polled.iter().map(|batch| batch.verify().expect("a valid slice")).collect();
    assert_eq!(summaries.len(), 2);
    assert_eq!((polled[0].is_whole(), polled[1].is_whole()), (false, true));

    let key: PartitionKey = "0/0/0".parse().expect("a partition");
    let error = inspect_chunk(key, &poll).expect_err("a slice");
    assert_eq!(error.reason, BatchFault::Sliced { base: Offset(100), first: Offset(195) });

    // The stored batches, cut by our own rules, are the server's reply byte for byte.
    let log = log(key);
    let stored: Vec<_> = batches(&log).map(|batch| batch.expect("a batch")).skip(1).take(2).collect();
    let ours = [(195, 5), (200, 5)]
        .iter()
        .zip(&stored)
        .map(|((from, count), batch)| slice(batch, Offset(*from), *count).expect("valid").expect("messages"));
    assert_eq!(ours.collect::<Vec<_>>().concat(), poll);
}

#[test]
fn every_flipped_bit_is_found() {
    let key: PartitionKey = "1/2/0".parse().expect("a partition");
    check_flips(key, &log(key), 1);
    // A log of several batches, at every seventh bit: each byte is hit, at changing places.
    let key: PartitionKey = "1/0/0".parse().expect("a partition");
    check_flips(key, &log(key), 7);
}

fn check_flips(key: PartitionKey, log: &Bytes, step: usize) {
    inspect_chunk(key, log).expect("undamaged");
    for bit in (0..log.len() * 8).step_by(step) {
        let mut damaged = log.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(inspect_chunk(key, &Bytes::from(damaged)).is_err(), "{key}: bit {bit} of byte {}", bit / 8);
    }
}

#[test]
fn a_cut_log_is_truncated_and_not_damaged() {
    let key: PartitionKey = "1/0/0".parse().expect("a partition");
    let log = log(key);
    let ends: Vec<usize> =
        batches(&log).map(|batch| batch.expect("a batch")).map(|b| b.position() + b.bytes().len()).collect();
    for length in 1..log.len() {
        let inspected = inspect_chunk(key, &log.slice(..length));
        if ends.contains(&length) {
            assert!(inspected.is_ok(), "{length}");
        } else {
            let error = inspected.expect_err("cut");
            assert!(error.is_truncated(), "{length}: {error:?}");
            let before = ends.iter().rev().find(|end| **end <= length).copied().unwrap_or(0);
            assert_eq!(error.position, before, "a torn end begins where the last whole batch ends");
        }
    }
}

#[test]
fn faults_are_told_apart() {
    let key: PartitionKey = "1/0/0".parse().expect("a partition");
    let log = log(key);
    let fault = |at: usize| {
        let mut damaged = log.to_vec();
        damaged[at] ^= 1;
        inspect_chunk(key, &Bytes::from(damaged)).expect_err("damaged").reason
    };
    assert!(matches!(fault(16), BatchFault::BatchChecksum { .. }), "a timestamp");
    assert!(matches!(fault(32), BatchFault::BadLength { .. }), "the batch length");
    assert!(matches!(fault(48), BatchFault::BadLength { .. }), "the message count");
    assert_eq!(fault(200), BatchFault::Reserved);
    assert_eq!(fault(256 + 48), BatchFault::MessageChecksum { offset: Offset(0) });
}
