//! Iggy data directories: the one that a real server left, and generated ones of any size.

use std::fs;
use std::path::{Path, PathBuf};

use kennel_bench::generate::{GenerateSettings, generate};
use tempfile::TempDir;

/// Messages in the fixtures.
pub(crate) const FIXTURE_MESSAGES: u64 = 1_519;

/// What a real Iggy server wrote.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/tests/fixtures")
}

/// A generated data directory.
#[derive(Debug)]
pub(crate) struct Source {
    directory: TempDir,
    /// Messages in it.
    pub(crate) messages: u64,
    /// Bytes of its segments.
    pub(crate) bytes: u64,
}

impl Source {
    /// So many partitions over three streams, so many bytes together, in segments that rotate.
    pub(crate) fn generated(partitions: u32, bytes: u64, seed: u64) -> Self {
        Self::of_messages(partitions, bytes, seed, 400)
    }

    /// The same, of messages of about so many bytes.
    pub(crate) fn of_messages(partitions: u32, bytes: u64, seed: u64, message_bytes: u32) -> Self {
        Self::of_batches((partitions, bytes, seed), (message_bytes, 20), 256 << 10)
    }

    /// The same, of batches of about so many messages of about so many bytes, in segments of so many bytes.
    pub(crate) fn of_batches(
        (partitions, bytes, seed): (u32, u64, u64),
        (message_bytes, batch): (u32, u32),
        segment_bytes: u64,
    ) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let settings = GenerateSettings {
            directory: directory.path().to_owned(),
            partitions,
            streams: 3,
            topics: 2,
            bytes,
            message_bytes,
            batch,
            segment_bytes,
            seed,
        };
        let generated = generate(&settings, &|_| {}).expect("a data directory");
        Self { directory, messages: generated.messages, bytes: generated.bytes }
    }

    /// The same under other streams, so that one ring can hold both.
    pub(crate) fn of_other_streams(self) -> Self {
        let streams = self.path().join("streams");
        let found: Vec<_> =
            fs::read_dir(&streams).expect("streams").map(|entry| entry.expect("a stream").path()).collect();
        for stream in found {
            let number: u32 = stream.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("a number");
            fs::rename(&stream, streams.join((number + 100).to_string())).expect("a writable folder");
        }
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}
