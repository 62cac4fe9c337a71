//! A source that lost what it had said and gave the offsets to other messages: it is told from one that is only behind,
//! never mixed with what the ring has, and stands wherever a person may look.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use cache_node::http::DivergedReport;
use kennel_bench::verify::ExpectServed;
use kennel_bench::walk::Walk;
use kennel_client::{FetchFrom, PartitionKey};
use kennel_core::shipper::Until;
use kennel_protocol::batch::{BatchBuilder, batches};
use kennel_protocol::ids::Offset;
use wal_shipper::source::{FoundPartition, scan};

use crate::support::bucket::TestBucket;
use crate::support::cluster::{Cluster, read_back};
use crate::support::programs::{output, program};
use crate::support::source::Source;

const PARTITIONS: u32 = 12;
const BYTES: u64 = 3 << 20;
const SEED: u64 = 31;

/// What a host wrote after it had lost its newest batch `[base, end)`, as the ends of its new batches.
type Again = fn(base: u64, end: u64) -> Vec<u64>;

/// Every way in which what is issued again may lie to what the ring has.
const CASES: [(&str, Again); 4] = [
    ("shorter", |_, end| vec![end - 1]),
    ("as long", |_, end| vec![end]),
    ("longer, in batches that meet the end of the ring", |_, end| vec![end, end + 5]),
    ("longer, in one batch over the end of the ring", |_, end| vec![end + 5]),
];

/// A ring with all of a source, and the source after its host had lost and issued again what is at the end of four.
struct Forked {
    cluster: Cluster,
    source: Source,
    /// The offsets at which both have a message, and they differ.
    victims: BTreeMap<PartitionKey, (&'static str, u64)>,
}

impl Forked {
    async fn prepare(nodes: usize, bucket: TestBucket, assignments: &[&str]) -> Self {
        let cluster = Cluster::start(nodes, bucket, assignments).await;
        let source = Source::generated(PARTITIONS, BYTES, SEED);
        cluster.shipper().ship(source.path(), Until::Stored).await;
        let found = scan(source.path()).expect("a data directory");
        let (mut victims, mut cases) = (BTreeMap::new(), CASES.into_iter());
        for partition in &found {
            let (base, end) = last_batch(partition);
            match cases.next() {
                Some((what, again)) => {
                    let ends = again(base, end);
                    let differs = ends.last().expect("something is written").min(&end) - 1;
                    issue_again(partition, base, &ends);
                    victims.insert(partition.key, (what, differs));
                }
                // All others go on as they should.
                None => append(partition, end, &[end + 3]),
            }
        }
        assert_eq!(victims.len(), CASES.len(), "too few partitions");
        Self { cluster, source, victims }
    }

    /// What must be seen of it, however often, and whatever the ring has in memory.
    async fn check(&self) {
        let import = self.import(&[]).await;
        let (report, log) = (text(&import.stdout), text(&import.stderr));
        assert_eq!(import.status.code(), Some(3), "{report}{log}");
        assert!(report.contains("(4 stopped, 0 behind the ring)"), "{report}");
        let statuses = self.cluster.statuses().await;
        let listed = statuses.iter().flat_map(|status| &status.shards).flat_map(|shard| &shard.diverged);
        let listed: BTreeMap<PartitionKey, &DivergedReport> =
            listed.map(|diverged| (diverged.partition.parse().expect("a partition"), diverged)).collect();
        assert_eq!(listed.keys().collect::<Vec<_>>(), self.victims.keys().collect::<Vec<_>>());
        let metrics = self.cluster.metrics().await;
        for (partition, (what, offset)) in &self.victims {
            let diverged = listed[partition];
            assert_eq!(diverged.offset, *offset, "{what}: {diverged:?}");
            assert_ne!(diverged.ring, diverged.source, "{what}");
            for message in [&diverged.ring, &diverged.source] {
                for said in [&report, &log] {
                    assert!(said.contains(&message.checksum), "{what}: {message:?} is not in\n{said}");
                    assert!(said.contains(&message.timestamp.to_string()), "{what}: {message:?} is not in\n{said}");
                }
            }
        }
        assert!(statuses.iter().any(|status| status.reason.as_ref().is_some_and(|why| why.contains("differs"))));
        let value = |name: &str| -> f64 {
            let lines = metrics.lines().filter(|line| line.starts_with(name));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        assert!(value("kennel_divergences_total") >= 4.0, "{metrics}");
        assert!((value("kennel_diverged_partitions") - 4.0).abs() < 0.1 || statuses.len() > 1, "{metrics}");
        self.nothing_is_mixed().await;
    }

    /// The old history where two were found, the source where it only went on.
    async fn nothing_is_mixed(&self) {
        let client = self.cluster.client().await;
        let was = Source::generated(PARTITIONS, BYTES, SEED);
        let verified = read_back(&client, was.path(), None).await;
        // What went on is longer than it was; that is all there may be.
        assert_eq!((verified.lost, verified.duplicated), (0, 0), "{verified:#?}");
        for partition in scan(self.source.path()).expect("a data directory") {
            if !self.victims.contains_key(&partition.key) {
                self.is_served(&client, &partition, partition.key).await;
            }
        }
        for partition in scan(was.path()).expect("a data directory") {
            if self.victims.contains_key(&partition.key) {
                self.is_served(&client, &partition, partition.key).await;
            }
        }
    }

    /// Reads all of a partition and compares it with the files, to the last message.
    async fn is_served(&self, client: &kennel_client::Client, files: &FoundPartition, key: PartitionKey) {
        let mut walk = Walk::open(&files.directory).expect("a partition");
        let mut follower = client.follow(key, FetchFrom::First);
        let end = last_batch(files).1;
        let mut next = files.start().0;
        while next < end {
            for message in follower.next().await.expect("it is there").messages() {
                let ours = walk.peek().expect("readable").expect("nothing beyond the files is served").clone();
                assert_eq!((message.offset.0, message.checksum), (ours.offset, ours.checksum), "{key}");
                assert_eq!((message.timestamp, message.payload), (ours.timestamp, ours.payload), "{key}");
                next = message.offset.0 + 1;
                walk.advance();
            }
        }
        let reports = client.partitions().await.expect("the ring is up");
        let report = reports.iter().find(|report| report.partition == key).expect("it is known");
        assert_eq!(report.committed, Offset(end), "{key}");
    }

    async fn import(&self, more: &[&str]) -> Output {
        let mut import = program("wal-shipper");
        import.args(["import", "--ring", &self.cluster.addresses()[0].to_string()]);
        import.arg("--data-dir").arg(self.source.path());
        import.arg("--tls-dir").arg(self.cluster.certificates()).args(more);
        output(import).await
    }
}

/// F21, F22, PROTOCOL R15: seen while the ring has all of it in memory, by every shipper that comes, and by an owner
/// that has to read the bucket for it.
#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_are_issued_again_stop_their_partitions_alone() {
    let alone = ["cluster.copies=1", "cluster.min_copies=1"];
    let mut forked = Forked::prepare(1, TestBucket::directory(), &alone).await;
    forked.check().await;
    forked.check().await;
    forked.cluster.stop_all().await;
    forked.cluster.start_all().await;
    forked.cluster.owned().await;
    forked.check().await;
}

/// F22: the way out that loses nothing: the files are shipped as a new history, the old one stays readable.
#[tokio::test(flavor = "multi_thread")]
async fn a_diverged_partition_goes_on_under_a_new_incarnation() {
    let forked = Forked::prepare(3, TestBucket::memory(), &[]).await;
    forked.check().await;
    let mapping = forked.source.path().join("mapping.toml");
    let entries = forked.victims.keys().map(|key| format!("[[recreated]]\npartition = \"{key}\"\ntimes = 1\n"));
    std::fs::write(&mapping, entries.collect::<String>()).expect("a file");
    let import = forked.import(&["--mapping", &mapping.display().to_string()]).await;
    assert_eq!(import.status.code(), Some(0), "{}{}", text(&import.stdout), text(&import.stderr));
    forked.nothing_is_mixed().await;
    let client = forked.cluster.client().await;
    for partition in scan(forked.source.path()).expect("a data directory") {
        if forked.victims.contains_key(&partition.key) {
            let key = partition.clone().recreated(1).key;
            assert_eq!(key.to_string(), partition.key.to_string().replace("@0", "@1"));
            forked.is_served(&client, &partition, key).await;
        }
    }
}

/// F21: what was lost and not issued again is only behind, and is not taken for more.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_only_lost_its_end_is_behind() {
    let alone = ["cluster.copies=1", "cluster.min_copies=1"];
    let cluster = Cluster::start(1, TestBucket::memory(), &alone).await;
    let source = Source::generated(PARTITIONS, BYTES, SEED);
    cluster.shipper().ship(source.path(), Until::Stored).await;
    let lost = scan(source.path()).expect("a data directory").remove(0);
    let (base, _) = last_batch(&lost);
    issue_again(&lost, base, &[]);
    let forked = Forked { cluster, source, victims: BTreeMap::new() };
    let import = forked.import(&[]).await;
    let report = text(&import.stdout);
    assert_eq!(import.status.code(), Some(2), "{report}");
    assert!(report.contains("(0 stopped, 1 behind the ring)") && report.contains("is the same there"), "{report}");
    let was = Source::generated(PARTITIONS, BYTES, SEED);
    forked.cluster.check(was.path(), was.messages, None::<ExpectServed>).await;
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The newest segment of a partition.
fn newest(partition: &FoundPartition) -> std::path::PathBuf {
    partition.segments.last().expect("it has messages").log_path(&partition.directory)
}

/// First offset and end of a partition's newest batch.
fn last_batch(partition: &FoundPartition) -> (u64, u64) {
    let bytes = std::fs::read(newest(partition)).expect("a segment");
    let last = batches(&bytes).last().expect("it is not empty").expect("a whole batch");
    (last.first_offset().0, last.end_if_dense().0)
}

/// Loses the newest batch, and writes others from `base` on.
fn issue_again(partition: &FoundPartition, base: u64, ends: &[u64]) {
    let path = newest(partition);
    let bytes = std::fs::read(&path).expect("a segment");
    let last = batches(&bytes).last().expect("it is not empty").expect("a whole batch");
    assert!(last.position() > 0 && last.first_offset().0 == base, "{}: the only batch", path.display());
    cut(&path, last.position());
    append(partition, base, ends);
}

fn cut(path: &Path, length: usize) {
    let file = std::fs::File::options().write(true).open(path).expect("a segment");
    file.set_len(length as u64).expect("it becomes shorter");
}

/// Writes batches that end at `ends`, the first from `base` on.
fn append(partition: &FoundPartition, base: u64, ends: &[u64]) {
    let path = newest(partition);
    let mut bytes = std::fs::read(&path).expect("a segment");
    let mut next = base;
    for &end in ends {
        let mut batch = BatchBuilder::new(partition.key.partition, Offset(next), 4_000_000_000_000_000 + next);
        for offset in next..end {
            batch = batch.payload(format!("said again at {offset}").as_bytes());
        }
        bytes.extend_from_slice(&batch.build());
        next = end;
    }
    std::fs::write(&path, bytes).expect("a segment");
}
