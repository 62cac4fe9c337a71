//! The bodies that a real server sent, from the segments that it wrote.

use std::path::{Path, PathBuf};

use super::*;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/tests/fixtures")
}

fn read(path: &Path) -> Bytes {
    Bytes::from(std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// A ring that holds the segments of a partition.
fn shipped(partition: &str) -> MemoryRing {
    let key: PartitionKey = partition.parse().expect("a partition");
    let directory =
        fixtures().join(format!("streams/{}/topics/{}/partitions/{}", key.stream, key.topic, key.partition));
    let mut segments: Vec<PathBuf> =
        std::fs::read_dir(&directory).expect("a partition").map(|file| file.expect("a file").path()).collect();
    segments.sort();
    let ring = MemoryRing::default();
    for segment in segments {
        ring.append(key, read(&segment));
    }
    ring.name("a stream", "a topic", key);
    ring
}

fn check(partition: &str, poll: &Poll, recorded: &str) {
    let expected = read(&fixtures().join("raw_polls").join(recorded));
    for bytes_max in [0, 1, 5_000] {
        let ring = shipped(partition);
        ring.limit(bytes_max);
        assert_eq!(served(&ring, poll).0, expected, "{recorded}, with reads of {bytes_max} bytes");
    }
}

#[test]
fn recorded_polls_are_reproduced_byte_for_byte() {
    let (stream, topic) = (WireIdentifier::numeric(0), WireIdentifier::numeric(0));
    let sliced = Poll { stream, topic, partition: 0, start: PollStart::Offset(Offset(195)), count: 10 };
    check("0/0/0", &sliced, "orders_events_p0_offset195_count10.bin");
    let (stream, topic) = (WireIdentifier::named("a stream"), WireIdentifier::named("a topic"));
    let (stream, topic) = (stream.expect("a name"), topic.expect("a name"));
    let whole = Poll { stream, topic, partition: 1, start: PollStart::Offset(Offset(0)), count: 1000 };
    check("1/0/1", &whole, "telemetry_default-flush_p1_offset0_count1000.bin");
    check("1/0/1", &Poll { start: PollStart::First, ..whole }, "telemetry_default-flush_p1_offset0_count1000.bin");
}
