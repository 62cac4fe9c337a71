//! Writes an Iggy data directory from a seed: the layout and bytes that a real server leaves, in any size.
//!
//! The same settings give the same bytes on every machine and with any number of threads: every partition has a
//! generator of its own. Payloads are windows into one pool of noise; ids and offsets make each frame its own.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use kennel_protocol::batch::{BATCH_HEADER_BYTES, BatchBuilder, MESSAGE_HEADER_BYTES, MessageParts};
use kennel_protocol::ids::{Offset, PartitionId};

use crate::random::Random;

/// Noise that payloads are cut from. Larger than any cache line of interest, small enough to stay in L2.
const POOL_BYTES: usize = 1 << 20;
/// Longest payload that is generated.
pub const MESSAGE_BYTES_MAX: u32 = 512 << 10;
/// 2023-11-14: any fixed time will do, as long as it is fixed.
const FIRST_TIMESTAMP: u64 = 1_700_000_000_000_000;
/// Batches that share one index entry: a flush of a real server takes several.
const BATCHES_PER_FLUSH: u64 = 4;
/// How much of a segment is kept in memory before it is written.
const WRITE_BYTES: usize = 1 << 20;

/// What to write.
#[derive(Debug, Clone)]
pub struct GenerateSettings {
    /// Where; must not hold `streams` yet.
    pub directory: PathBuf,
    /// Partitions in all.
    pub partitions: u32,
    /// They are spread over so many streams.
    pub streams: u32,
    /// And so many topics in each.
    pub topics: u32,
    /// Bytes of all segments together, about.
    pub bytes: u64,
    /// Payloads are between half and one and a half of this; one in 64 is four times as long.
    pub message_bytes: u32,
    /// Batches have between one message and twice this.
    pub batch: u32,
    /// A segment is sealed by the batch that reaches this.
    pub segment_bytes: u64,
    /// Everything follows from it.
    pub seed: u64,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Generated {
    /// Messages.
    pub messages: u64,
    /// Bytes of segments.
    pub bytes: u64,
    /// Segments.
    pub segments: u64,
}

impl Generated {
    fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.segments += other.segments;
    }
}

/// Settings that cannot be, or a directory that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// A setting is zero or too large.
    #[error("`{setting}` must be between 1 and {max}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// Largest value.
        max: u64,
    },
    /// The directory holds something already.
    #[error("{} exists already; name another directory", .0.display())]
    Exists(PathBuf),
    /// A file cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Writes the directory; `progress` is told the bytes written so far, from several threads.
pub fn generate(settings: &GenerateSettings, progress: &(impl Fn(u64) + Sync)) -> Result<Generated, GenerateError> {
    settings.check()?;
    let pool = noise(settings.seed);
    let shares = Shares::new(settings);
    let (next, written) = (AtomicU32::new(0), AtomicU64::new(0));
    let work = || {
        let mut sum = Generated::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= settings.partitions {
                return Ok(sum);
            }
            let generated = PartitionWriter::new(settings, &pool, number).write(shares.of(number))?;
            sum.add(generated);
            progress(written.fetch_add(generated.bytes, Ordering::Relaxed) + generated.bytes);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut sum = Generated::default();
        for thread in threads {
            sum.add(thread.join().expect("a generating thread does not panic")?);
        }
        Ok(sum)
    })
}

impl GenerateSettings {
    fn check(&self) -> Result<(), GenerateError> {
        let within = |setting, value: u64, max: u64| {
            if (1..=max).contains(&value) { Ok(()) } else { Err(GenerateError::Setting { setting, max }) }
        };
        within("partitions", self.partitions.into(), 1 << 20)?;
        within("streams", self.streams.into(), 1 << 10)?;
        within("topics", self.topics.into(), 1 << 10)?;
        within("bytes", self.bytes, 1 << 44)?;
        within("message-bytes", self.message_bytes.into(), u64::from(MESSAGE_BYTES_MAX / 4))?;
        within("batch", self.batch.into(), 1 << 16)?;
        within("segment-bytes", self.segment_bytes, 1 << 34)?;
        // Four times the longest payload, for every message of the longest batch, must stay below Iggy's limit.
        let longest = u64::from(self.batch) * 2 * (u64::from(self.message_bytes) * 4 + 200);
        within("batch", longest, kennel_protocol::limits::BATCH_BYTES_MAX as u64)?;
        let streams = self.directory.join("streams");
        if streams.exists() { Err(GenerateError::Exists(streams)) } else { Ok(()) }
    }

    /// Where a partition lies: numbers go round over streams, then topics.
    fn place(&self, number: u32) -> (u32, u32, u32) {
        let topic_number = number / self.streams;
        (number % self.streams, topic_number % self.topics, topic_number / self.topics)
    }
}

/// How the bytes are shared out: most partitions are small, one in 32 is sixteen times as large.
struct Shares {
    bytes: u64,
    weights: u64,
    seed: u64,
}

impl Shares {
    fn new(settings: &GenerateSettings) -> Self {
        let weights = (0..settings.partitions).map(|number| weight(settings.seed, number)).sum();
        Self { bytes: settings.bytes, weights, seed: settings.seed }
    }

    fn of(&self, number: u32) -> u64 {
        let share = u128::from(self.bytes) * u128::from(weight(self.seed, number)) / u128::from(self.weights);
        u64::try_from(share).expect("a share is smaller than the whole")
    }
}

fn weight(seed: u64, number: u32) -> u64 {
    let mut random = Random(seed ^ (u64::from(number) << 20) ^ 0x5eed);
    let usual = 4 + random.below(9);
    if random.below(32) == 0 { usual * 16 } else { usual }
}

struct PartitionWriter<'a> {
    settings: &'a GenerateSettings,
    pool: &'a [u8],
    random: Random,
    directory: PathBuf,
    partition: PartitionId,
    next: u64,
    timestamp: u64,
}

impl<'a> PartitionWriter<'a> {
    fn new(settings: &'a GenerateSettings, pool: &'a [u8], number: u32) -> Self {
        let (stream, topic, partition) = settings.place(number);
        let directory = format!("streams/{stream}/topics/{topic}/partitions/{partition}");
        Self {
            settings,
            pool,
            random: Random(settings.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(number)),
            directory: settings.directory.join(directory),
            partition: PartitionId(partition),
            next: 0,
            timestamp: FIRST_TIMESTAMP,
        }
    }

    fn write(mut self, bytes: u64) -> Result<Generated, GenerateError> {
        fs::create_dir_all(&self.directory).map_err(|source| fail(&self.directory, source))?;
        let mut sum = Generated::default();
        // At least one batch, so that no partition is empty.
        while sum.bytes == 0 || sum.bytes < bytes {
            let before = self.next;
            let path = self.directory.join(format!("{before:020}.log"));
            let limit = self.settings.segment_bytes.min(bytes.saturating_sub(sum.bytes)).max(1);
            let written = self.write_segment(&path, limit).map_err(|source| fail(&path, source))?;
            sum.add(Generated { messages: self.next - before, bytes: written, segments: 1 });
        }
        Ok(sum)
    }

    fn write_segment(&mut self, path: &Path, limit: u64) -> io::Result<u64> {
        let mut file = fs::File::create_new(path)?;
        let mut index = Vec::new();
        let mut waiting = Vec::with_capacity(WRITE_BYTES * 2);
        let (mut written, mut batches) = (0, 0);
        loop {
            if batches % BATCHES_PER_FLUSH == 0 {
                index.extend([self.next, self.timestamp, written].map(u64::to_le_bytes).concat());
            }
            let batch = self.batch(limit - written);
            written += batch.len() as u64;
            batches += 1;
            waiting.extend_from_slice(&batch);
            if written >= limit || waiting.len() >= WRITE_BYTES {
                file.write_all(&waiting)?;
                waiting.clear();
            }
            if written >= limit {
                fs::write(path.with_extension("index"), index)?;
                return Ok(written);
            }
        }
    }

    /// A batch of at most about `bytes_max` bytes, but at least one message.
    fn batch(&mut self, bytes_max: u64) -> bytes::Bytes {
        let messages = 1 + self.random.below(u64::from(self.settings.batch) * 2 - 1);
        self.timestamp += 1 + self.random.below(1_000);
        let mut batch = BatchBuilder::new(self.partition, Offset(self.next), self.timestamp);
        let (mut bytes, before) = (BATCH_HEADER_BYTES, self.next);
        while self.next - before < messages && (self.next == before || (bytes as u64) < bytes_max) {
            let length = self.payload_bytes();
            let start = usize::try_from(self.random.below((POOL_BYTES - length) as u64)).expect("within the pool");
            let id = u128::from(self.random.next()) << 64 | u128::from(self.next + 1);
            let headers = if self.random.below(8) == 0 { user_headers(self.next) } else { Vec::new() };
            batch = batch.message(MessageParts {
                id,
                timestamp_delta: u32::try_from(self.random.below(500)).expect("small"),
                payload: &self.pool[start..start + length],
                user_headers: &headers,
            });
            bytes += MESSAGE_HEADER_BYTES + length + headers.len();
            self.next += 1;
        }
        batch.build()
    }

    fn payload_bytes(&mut self) -> usize {
        let usual = u64::from(self.settings.message_bytes);
        let length = if self.random.below(64) == 0 { usual * 4 } else { usual / 2 + self.random.below(usual + 1) };
        usize::try_from(length.max(1)).expect("a payload's length is a usize")
    }
}

fn fail(path: &Path, source: io::Error) -> GenerateError {
    GenerateError::Write { path: path.to_owned(), source }
}

/// Two headers as Iggy encodes them: `[key kind][length u32][key][value kind][length u32][value]`.
fn user_headers(number: u64) -> Vec<u8> {
    const STRING: u8 = 2;
    const U64: u8 = 12;
    let mut headers = Vec::new();
    let mut push = |kind: u8, bytes: &[u8]| {
        headers.push(kind);
        headers.extend(u32::try_from(bytes.len()).expect("short").to_le_bytes());
        headers.extend_from_slice(bytes);
    };
    push(STRING, b"source");
    push(STRING, b"bench");
    push(STRING, b"number");
    push(U64, &number.to_le_bytes());
    headers
}

fn noise(seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    (0..POOL_BYTES / 8).flat_map(|_| random.next().to_le_bytes()).collect()
}

const _: () = {
    assert!(MESSAGE_BYTES_MAX as usize <= POOL_BYTES / 2);
};

#[cfg(test)]
mod tests {
    use kennel_core::shipper::SourceRest;
    use wal_shipper::source::{PartitionReader, scan};

    use super::*;

    fn settings(directory: &Path) -> GenerateSettings {
        GenerateSettings {
            directory: directory.to_owned(),
            partitions: 30,
            streams: 3,
            topics: 2,
            bytes: 2 << 20,
            message_bytes: 100,
            batch: 20,
            segment_bytes: 64 << 10,
            seed: 7,
        }
    }

    #[test]
    fn what_is_generated_reads_back_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let generated = generate(&settings(directory.path()), &|_| {}).expect("written");
        let found = scan(directory.path()).expect("a listing");
        assert_eq!(found.len(), 30);
        assert!(found.iter().any(|partition| partition.segments.len() > 1), "some rotate");
        let (mut messages, mut bytes) = (0, 0);
        for partition in found {
            let mut reader = PartitionReader::new(partition.clone());
            let mut next = partition.start();
            loop {
                let read = reader.read(next, 1 << 20);
                for chunk in &read.chunks {
                    messages += chunk.head.sum.messages;
                    bytes += chunk.body.len() as u64;
                    next = chunk.head.end;
                }
                match read.rest {
                    SourceRest::More => {}
                    SourceRest::Exhausted { .. } => break,
                    SourceRest::Damaged(damage) => panic!("{damage}"),
                }
            }
            assert_eq!(reader.read(next, 1).torn_bytes, 0);
        }
        assert_eq!((messages, bytes), (generated.messages, generated.bytes));
        assert!(generated.bytes >= 2 << 20 && generated.bytes < 3 << 20, "{} bytes", generated.bytes);
    }

    #[test]
    fn one_seed_gives_one_directory() {
        let [one, two] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
        for directory in [&one, &two] {
            generate(&settings(directory.path()), &|_| {}).expect("written");
        }
        let read = |root: &Path| fs::read(root.join("streams/1/topics/1/partitions/2/00000000000000000000.log"));
        assert_eq!(read(one.path()).expect("a segment"), read(two.path()).expect("a segment"));
        assert!(matches!(generate(&settings(one.path()), &|_| {}), Err(GenerateError::Exists(_))));
    }
}
