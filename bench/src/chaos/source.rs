//! The source of a run: segment files that grow, of messages that prove their own place.
//!
//! Every payload begins with its partition, its offset and the hash of the payload before it. So whoever reads a
//! partition can tell by itself that nothing is missing, doubled or exchanged. What was written, by hash, is remembered
//! beside the files: a reader's bytes are compared with that, not with a file that could have been damaged together.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kennel_protocol::batch::{BatchBuilder, MessageParts};
use kennel_protocol::checksum::checksum;
use kennel_protocol::ids::{Incarnation, Offset, PartitionId, PartitionKey, StreamId, TopicId};

use crate::random::Random;

/// Bytes of a payload's own proof: stream, topic and partition, offset, hash of the payload before.
pub(super) const PROOF_BYTES: usize = 4 * 3 + 8 + 8;
/// How often the writer writes.
const TICK: Duration = Duration::from_millis(40);
/// Most messages in a batch, and bytes of noise in a payload.
const BATCH_MESSAGES_MAX: u64 = 30;
const NOISE_BYTES_MAX: u64 = 1_200;
/// A segment is sealed by the batch that reaches this.
const SEGMENT_BYTES: u64 = 512 << 10;
/// One in so many batches is written in two steps: its end is torn for a while.
const TORN_EVERY: u64 = 16;
/// How long a torn end stays.
const TORN_FOR: Duration = Duration::from_millis(15);
/// Streams that partitions are spread over.
const STREAMS: u32 = 4;

/// What was written so far. Shared by the writer and those who check.
#[derive(Debug)]
pub(super) struct Source {
    /// Where the files are.
    pub(super) directory: PathBuf,
    /// In order of their keys.
    pub(super) partitions: Vec<SourcePartition>,
}

/// One partition.
#[derive(Debug)]
pub(super) struct SourcePartition {
    /// Its ids.
    pub(super) key: PartitionKey,
    written: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    /// The hash of each payload, by offset.
    hashes: Vec<u64>,
    /// When each batch was written: its end, and the time.
    times: Vec<(u64, Instant)>,
    /// End of what is in the file for sure.
    flushed: u64,
}

impl SourcePartition {
    /// End of what is written, or about to be.
    pub(super) fn end(&self) -> u64 {
        self.lock().hashes.len() as u64
    }

    /// End of what whoever opens the file now finds in it.
    pub(super) fn flushed(&self) -> u64 {
        self.lock().flushed
    }

    /// The hash of the payload at `offset`.
    pub(super) fn hash(&self, offset: u64) -> Option<u64> {
        self.lock().hashes.get(usize::try_from(offset).ok()?).copied()
    }

    /// When the message at `offset` was written.
    pub(super) fn written_at(&self, offset: u64) -> Option<Instant> {
        let written = self.lock();
        let at = written.times.partition_point(|(end, _)| *end <= offset);
        written.times.get(at).map(|(_, time)| *time)
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    /// An empty source of so many partitions.
    pub(super) fn create(directory: &Path, partitions: u32) -> io::Result<Self> {
        let mut made = Vec::new();
        for number in 0..partitions {
            let key = PartitionKey {
                stream: StreamId(number % STREAMS),
                topic: TopicId(0),
                partition: PartitionId(number / STREAMS),
                incarnation: Incarnation(0),
            };
            std::fs::create_dir_all(directory_of(directory, &key))?;
            made.push(SourcePartition { key, written: Mutex::default() });
        }
        made.sort_unstable_by_key(|partition| partition.key);
        Ok(Self { directory: directory.to_owned(), partitions: made })
    }

    /// Where every partition's files end now.
    pub(super) fn ends(&self) -> Vec<u64> {
        self.partitions.iter().map(SourcePartition::flushed).collect()
    }

    /// Messages written.
    pub(super) fn messages(&self) -> u64 {
        self.ends().iter().sum()
    }
}

fn directory_of(root: &Path, key: &PartitionKey) -> PathBuf {
    root.join(format!("streams/{}/topics/{}/partitions/{}", key.stream.0, key.topic.0, key.partition.0))
}

/// The proof at a payload's start.
pub(super) fn proof(key: &PartitionKey, offset: u64, before: u64) -> [u8; PROOF_BYTES] {
    let mut bytes = [0; PROOF_BYTES];
    bytes[..4].copy_from_slice(&key.stream.0.to_le_bytes());
    bytes[4..8].copy_from_slice(&key.topic.0.to_le_bytes());
    bytes[8..12].copy_from_slice(&key.partition.0.to_le_bytes());
    bytes[12..20].copy_from_slice(&offset.to_le_bytes());
    bytes[20..].copy_from_slice(&before.to_le_bytes());
    bytes
}

/// Writes until it is told to stop, at about the rate that it is given.
#[derive(Debug)]
pub(super) struct Writer {
    source: Arc<Source>,
    random: Random,
    files: Vec<Open>,
}

/// A partition's newest segment.
#[derive(Debug, Default)]
struct Open {
    file: Option<File>,
    bytes: u64,
    last: u64,
    timestamp: u64,
}

impl Writer {
    pub(super) fn new(source: Arc<Source>, seed: u64) -> Self {
        let files = source.partitions.iter().map(|_| Open::default()).collect();
        Self { source, random: Random(seed), files }
    }

    /// Blocks: it belongs on a thread of its own.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(super) fn run(mut self, bytes_per_second: u64, stop: &AtomicBool) -> io::Result<()> {
        // From the start, so that every partition is there when a shipper looks.
        for at in 0..self.files.len() {
            self.append(at)?;
        }
        let (started, mut bytes) = (Instant::now(), 0);
        while !stop.load(Ordering::Relaxed) {
            let due = u128::from(bytes_per_second) * started.elapsed().as_millis() / 1_000;
            while u128::from(bytes) < due && !stop.load(Ordering::Relaxed) {
                let at = self.random.below(self.files.len() as u64);
                // A few partitions get most of it.
                let at = if self.random.percent(30) { at / 8 } else { at };
                bytes += self.append(usize::try_from(at).expect("below a length"))?;
            }
            std::thread::sleep(TICK);
        }
        Ok(())
    }

    fn append(&mut self, at: usize) -> io::Result<u64> {
        let partition = &self.source.partitions[at];
        let open = &mut self.files[at];
        let (base, messages) = (partition.end(), self.random.between(1, BATCH_MESSAGES_MAX));
        open.timestamp += self.random.between(1, 1_000);
        let mut batch = BatchBuilder::new(partition.key.partition, Offset(base), open.timestamp);
        let mut hashes = Vec::new();
        for offset in base..base + messages {
            let mut payload = proof(&partition.key, offset, open.last).to_vec();
            let noise = self.random.below(NOISE_BYTES_MAX) / 8;
            payload.extend((0..noise).flat_map(|_| self.random.next().to_le_bytes()));
            open.last = checksum(&payload);
            hashes.push(open.last);
            let parts =
                MessageParts { id: u128::from(offset) + 1, timestamp_delta: 0, payload: &payload, user_headers: &[] };
            batch = batch.message(parts);
        }
        let batch = batch.build();
        {
            // Before the file has it: nobody can read what is not yet known to be written.
            let mut written = partition.lock();
            written.hashes.extend(hashes);
            let end = written.hashes.len() as u64;
            written.times.push((end, Instant::now()));
        }
        let torn = self.random.below(TORN_EVERY) == 0;
        let directory = directory_of(&self.source.directory, &partition.key);
        open.write(&directory, base, &batch, torn.then(|| self.random.below(batch.len() as u64)))?;
        partition.lock().flushed = base + messages;
        Ok(batch.len() as u64)
    }
}

impl Open {
    fn write(&mut self, directory: &Path, base: u64, batch: &[u8], torn_at: Option<u64>) -> io::Result<()> {
        if self.bytes >= SEGMENT_BYTES {
            *self = Self { file: None, bytes: 0, ..*self };
        }
        if self.file.is_none() {
            self.file = Some(File::create_new(directory.join(format!("{base:020}.log")))?);
        }
        let file = self.file.as_mut().expect("it was just opened");
        self.bytes += batch.len() as u64;
        let (first, rest) = batch.split_at(torn_at.map_or(0, |at| usize::try_from(at).expect("below a length")));
        if torn_at.is_some() {
            file.write_all(first)?;
            std::thread::sleep(TORN_FOR);
        }
        file.write_all(rest)
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::walk::Walk;

    /// A source of two partitions that have at least so many messages each, cut down to that.
    pub(in crate::chaos) fn written(messages: u64) -> (tempfile::TempDir, Arc<Source>) {
        let directory = tempfile::tempdir().expect("a directory");
        let source = Arc::new(Source::create(directory.path(), 2).expect("directories"));
        let mut writer = Writer::new(Arc::clone(&source), 5);
        for (at, partition) in source.partitions.iter().enumerate() {
            while partition.end() < messages {
                writer.append(at).expect("written");
            }
            partition.lock().hashes.truncate(usize::try_from(messages).expect("small"));
        }
        (directory, source)
    }

    /// The payloads that a partition's files hold.
    pub(in crate::chaos) fn payloads(source: &Source, at: usize) -> Vec<Vec<u8>> {
        let mut walk = Walk::open(&directory_of(&source.directory, &source.partitions[at].key)).expect("files");
        let mut payloads = Vec::new();
        while let Some(message) = walk.peek().expect("readable") {
            payloads.push(message.payload.to_vec());
            walk.advance();
        }
        payloads
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::Walk;

    #[test]
    fn what_is_written_proves_its_place() {
        let directory = tempfile::tempdir().expect("a directory");
        let source = Arc::new(Source::create(directory.path(), 6).expect("directories"));
        let mut writer = Writer::new(Arc::clone(&source), 3);
        for _ in 0..200 {
            for at in 0..6 {
                writer.append(at).expect("written");
            }
        }
        assert!(source.messages() > 6 * 200);
        for partition in &source.partitions {
            let mut walk = Walk::open(&directory_of(directory.path(), &partition.key)).expect("files");
            let mut before = 0;
            for offset in 0..partition.end() {
                let message = walk.peek().expect("readable").expect("a message").clone();
                assert_eq!(message.payload[..PROOF_BYTES], proof(&partition.key, offset, before));
                before = checksum(&message.payload);
                assert_eq!(partition.hash(offset), Some(before));
                assert!(partition.written_at(offset).is_some());
                walk.advance();
            }
            assert!(walk.peek().expect("readable").is_none());
            assert_eq!(partition.hash(partition.end()), None);
        }
    }
}
