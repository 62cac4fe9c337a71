//! Finds the partitions of an Iggy data directory: `streams/{id}/topics/{id}/partitions/{id}/{start:020}.log`.
//!
//! Names only: no segment is opened here. What Iggy keeps beside the segments (`.index`, `offsets/`, superblocks) and
//! what it has put aside (`*.staging`, `*.fenced.N`) is not looked at.

use std::io;
use std::path::{Path, PathBuf};

use kennel_protocol::ids::{Incarnation, Offset, PartitionId, PartitionKey, StreamId, TopicId};

/// Digits of a segment's name: the widest `u64`.
const SEGMENT_NAME_DIGITS: usize = 20;
/// Iggy's record of a partition's purges: `[generation u64][created_revision u64]`, little-endian.
const PURGE_FILE: &str = "purge.gen";

/// A data directory that cannot be listed. Fix: the path or its permissions.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// There is no `streams` directory: not the data directory of an Iggy server.
    #[error("{} has no `streams` directory: it is not the data directory of an Iggy server", .directory.display())]
    NotADataDirectory {
        /// What was named.
        directory: PathBuf,
    },
    /// Something in it cannot be read.
    #[error("cannot list {}", .path.display())]
    Unreadable {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// One segment file, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentName {
    /// Its first offset: its name.
    pub start: Offset,
    /// Its length when it was listed, bytes.
    pub bytes: u64,
}

impl SegmentName {
    /// The segment's file in a partition's directory.
    pub fn log_path(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{:020}.log", self.start.0))
    }

    /// The sparse index beside it.
    pub fn index_path(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{:020}.index", self.start.0))
    }
}

/// One partition of a data directory.
#[derive(Debug, Clone)]
pub struct FoundPartition {
    /// Its ids. The incarnation is the purge generation: Iggy numbers a purged partition from 0 again (0 if it was
    /// never purged). It is the same as long as the partition lives; that a deleted topic's ids were given to
    /// another cannot be seen in its files, and shows as a divergence. `recreated` is part of it.
    pub key: PartitionKey,
    /// How often an operator said that it began a new history. Like purges it only grows, and so does their sum.
    pub recreated: u64,
    /// Its directory.
    pub directory: PathBuf,
    /// Its segments in offset order; empty if it never got a message.
    pub segments: Vec<SegmentName>,
}

impl FoundPartition {
    /// First offset that the files have.
    pub fn start(&self) -> Offset {
        self.segments.first().map_or(Offset(0), |segment| segment.start)
    }

    /// Length of all segments, bytes.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// The same files as another history: an operator's word (PROTOCOL R15).
    #[must_use]
    pub fn recreated(self, times: u64) -> Self {
        let incarnation = Incarnation(self.key.incarnation.0.saturating_add(times));
        let recreated = self.recreated.saturating_add(times);
        Self { key: PartitionKey { incarnation, ..self.key }, recreated, ..self }
    }

    /// Lists the partition again.
    pub fn rescan(&self) -> Result<Self, ScanError> {
        let mut key = self.key;
        key.incarnation = Incarnation(incarnation(&self.directory)?.0.saturating_add(self.recreated));
        Ok(Self { key, directory: self.directory.clone(), segments: list_segments(&self.directory)?, ..*self })
    }
}

/// All partitions of a data directory, in id order. Directories without partitions (deleted topics) yield none.
pub fn scan(directory: &Path) -> Result<Vec<FoundPartition>, ScanError> {
    let streams = directory.join("streams");
    if !streams.is_dir() {
        return Err(ScanError::NotADataDirectory { directory: directory.to_owned() });
    }
    let mut found = Vec::new();
    for (stream, path) in numbered(&streams)? {
        for (topic, path) in numbered(&path.join("topics"))? {
            for (partition, directory) in numbered(&path.join("partitions"))? {
                let key = PartitionKey {
                    stream: StreamId(stream),
                    topic: TopicId(topic),
                    partition: PartitionId(partition),
                    incarnation: incarnation(&directory)?,
                };
                let segments = list_segments(&directory)?;
                found.push(FoundPartition { key, recreated: 0, directory, segments });
            }
        }
    }
    found.sort_unstable_by_key(|partition| partition.key);
    Ok(found)
}

/// One partition of a data directory, under a key whose life somebody else knows: a server, which tells when it was
/// created. Purges are counted from there on.
pub fn find(directory: &Path, key: PartitionKey) -> Result<FoundPartition, ScanError> {
    let directory = directory.join(format!("streams/{}/topics/{}/partitions/{}", key.stream, key.topic, key.partition));
    let recreated = key.incarnation.0.saturating_sub(incarnation(&directory)?.0);
    let segments = list_segments(&directory)?;
    Ok(FoundPartition { key, recreated, directory, segments })
}

/// Subdirectories whose name is an id. None if the directory is not there: Iggy leaves empty ones behind.
fn numbered(directory: &Path) -> Result<Vec<(u32, PathBuf)>, ScanError> {
    let mut found = Vec::new();
    for entry in entries(directory)? {
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        if entry.path().is_dir() {
            found.push((id, entry.path()));
        }
    }
    Ok(found)
}

fn list_segments(directory: &Path) -> Result<Vec<SegmentName>, ScanError> {
    let mut segments = Vec::new();
    for entry in entries(directory)? {
        let Some(start) = segment_start(&entry.file_name().to_string_lossy()) else { continue };
        match entry.metadata() {
            Ok(metadata) if metadata.is_file() => segments.push(SegmentName { start, bytes: metadata.len() }),
            Ok(_) => {}
            // Retention took it between the listing and the question.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(ScanError::Unreadable { path: entry.path(), source }),
        }
    }
    segments.sort_unstable_by_key(|segment| segment.start);
    Ok(segments)
}

fn entries(directory: &Path) -> Result<Vec<std::fs::DirEntry>, ScanError> {
    let unreadable = |source| ScanError::Unreadable { path: directory.to_owned(), source };
    match std::fs::read_dir(directory) {
        Ok(entries) => entries.collect::<Result<_, _>>().map_err(unreadable),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(unreadable(error)),
    }
}

/// `{start:020}.log` and nothing else: not `*.staging`, not `*.fenced.N`, not a shorter number.
fn segment_start(name: &str) -> Option<Offset> {
    let digits = name.strip_suffix(".log")?;
    let valid = digits.len() == SEGMENT_NAME_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    valid.then(|| digits.parse().ok().map(Offset)).flatten()
}

fn incarnation(directory: &Path) -> Result<Incarnation, ScanError> {
    let path = directory.join(PURGE_FILE);
    match std::fs::read(&path) {
        Ok(bytes) => {
            let short = || io::Error::new(io::ErrorKind::UnexpectedEof, "shorter than a generation");
            let generation = bytes.first_chunk().ok_or_else(short);
            let generation = generation.map_err(|source| ScanError::Unreadable { path, source })?;
            Ok(Incarnation(u64::from_le_bytes(*generation)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Incarnation(0)),
        Err(source) => Err(ScanError::Unreadable { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_segments_are_segments() {
        assert_eq!(segment_start("00000000000000001200.log"), Some(Offset(1200)));
        for other in [
            "00000000000000001200.index",
            "1200.log",
            "00000000000000001200.log.staging",
            "00000000000000001200.log.fenced.1",
            "0000000000000000120x.log",
            "99999999999999999999.log",
        ] {
            assert_eq!(segment_start(other), None, "{other}");
        }
    }

    #[test]
    fn finds_what_is_there_and_what_was_purged() {
        let directory = tempfile::tempdir().expect("a directory");
        let partition = directory.path().join("streams/3/topics/1/partitions/7");
        std::fs::create_dir_all(&partition).expect("a partition");
        std::fs::create_dir_all(directory.path().join("streams/3/topics/2")).expect("a deleted topic");
        std::fs::create_dir_all(directory.path().join("streams/lost+found")).expect("no stream");
        std::fs::write(partition.join("00000000000000000005.log"), b"12345").expect("a segment");
        std::fs::write(partition.join("00000000000000000000.log"), b"").expect("a segment");
        std::fs::write(partition.join("00000000000000000005.index"), b"").expect("an index");
        std::fs::write(partition.join(PURGE_FILE), [2_u64.to_le_bytes(), 9_u64.to_le_bytes()].concat()).expect("purge");
        let found = scan(directory.path()).expect("a listing");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].key, "3/1/7@2".parse().expect("a partition"));
        let starts: Vec<u64> = found[0].segments.iter().map(|segment| segment.start.0).collect();
        assert_eq!((starts, found[0].bytes()), (vec![0, 5], 5));
        assert!(matches!(scan(&partition), Err(ScanError::NotADataDirectory { .. })));
    }
}
