//! Damaged segment files: their partitions stop with file, position and reason, and all others are shipped whole.

use std::path::{Path, PathBuf};

use kennel_protocol::batch::{BATCH_HEADER_BYTES, BatchHeader};
use wal_shipper::source::scan;

use crate::support::bucket::TestBucket;
use crate::support::cluster::{Cluster, read_back};
use crate::support::programs::{output, program};
use crate::support::source::Source;

/// Where a batch header keeps the batch's length (Iggy's format, little-endian).
const LENGTH_AT: usize = 32;

/// What is done to a segment file, given where its second batch begins.
type Damage = fn(&mut Vec<u8>, usize);

#[tokio::test(flavor = "multi_thread")]
async fn damaged_partitions_stop_and_the_others_go_on() {
    let cluster = Cluster::start(1, TestBucket::memory(), &["cluster.copies=1", "cluster.min_copies=1"]).await;
    let source = Source::generated(24, 8 << 20, 77);
    let mut found = scan(source.path()).expect("a data directory");
    // Only a segment with another after it is whole for certain: the last one may still be written to.
    found.retain(|partition| partition.segments.len() > 1);
    let damages: [(&str, Damage); 3] = [
        ("a flipped bit", |bytes, second| bytes[second + BATCH_HEADER_BYTES + 60] ^= 1),
        ("cut short", |bytes, _| bytes.truncate(bytes.len() - 100)),
        ("a wrong length", |bytes, second| bytes[second + LENGTH_AT] ^= 0xff),
    ];
    let mut damaged = Vec::new();
    for ((what, damage), partition) in damages.into_iter().zip(found) {
        let file = partition.segments[0].log_path(&partition.directory);
        let mut bytes = std::fs::read(&file).expect("a segment");
        let second = second_batch(&bytes);
        damage(&mut bytes, second);
        std::fs::write(&file, bytes).expect("a segment");
        damaged.push((what, partition, file, second));
    }
    assert_eq!(damaged.len(), 3, "too few partitions rotate");

    let report = import(&cluster, source.path()).await;
    for (what, partition, file, second) in &damaged {
        let line = report.lines().find(|line| line.starts_with(&format!("partition {}: stopped", partition.key)));
        let line = line.unwrap_or_else(|| panic!("{what}: nothing is said of partition {}:\n{report}", partition.key));
        assert!(line.contains(&file.display().to_string()), "{what}: no file: {line}");
        let position = position(line).unwrap_or_else(|| panic!("{what}: no position: {line}"));
        assert!(position >= *second, "{what} at {second}: another position: {line}");
    }
    let directories: Vec<_> = damaged.into_iter().map(|(_, partition, ..)| partition.directory).collect();
    the_rest_is_whole(&cluster, &source, &directories).await;
}

/// The byte in the file that a report's line names.
fn position(line: &str) -> Option<usize> {
    line.split_once("at byte ")?.1.split_once(':')?.0.parse().ok()
}

/// Runs the program, which must say that some partitions stopped; answers its report.
async fn import(cluster: &Cluster, data_dir: &Path) -> String {
    let mut import = program("wal-shipper");
    import.args(["import", "--ring", &cluster.addresses()[0].to_string()]).arg("--data-dir").arg(data_dir);
    import.arg("--tls-dir").arg(cluster.certificates());
    let output = output(import).await;
    let (report, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "{report}{errors}");
    assert!(report.contains("24 (3 stopped,"), "{report}");
    report.into_owned()
}

async fn the_rest_is_whole(cluster: &Cluster, source: &Source, damaged: &[PathBuf]) {
    for directory in damaged {
        std::fs::remove_dir_all(directory).expect("a partition");
    }
    let verified = read_back(&cluster.client().await, source.path(), None).await;
    assert!(verified.is_clean() && verified.partitions == 21 && verified.messages > 0, "{verified:#?}");
}

fn second_batch(segment: &[u8]) -> usize {
    let header = BatchHeader::decode(segment).expect("a whole batch");
    usize::try_from(header.batch_length).expect("small")
}
