//! The oracle's own walk over segment files: as plain as can be, and sharing no code with the shipper's reader.
//!
//! One batch in memory at a time. It ends where the files end, or at the first batch that does not verify.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kennel_protocol::batch::{BATCH_HEADER_BYTES, Batch, BatchHeader};

/// A buffer per open file: some batches.
const BUFFER_BYTES: usize = 256 << 10;

/// A message as the files have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceMessage {
    /// Its offset.
    pub offset: u64,
    /// Its batch's append time.
    pub timestamp: u64,
    /// Its producer's time.
    pub origin_timestamp: u64,
    /// Its producer's id.
    pub id: u128,
    /// Iggy's checksum.
    pub checksum: u64,
    /// Payload.
    pub payload: Bytes,
    /// User headers.
    pub user_headers: Bytes,
}

/// Walks the messages of one partition.
#[derive(Debug)]
pub struct Walk {
    segments: VecDeque<PathBuf>,
    file: Option<BufReader<File>>,
    messages: VecDeque<SourceMessage>,
}

impl Walk {
    /// A walk over a partition's directory.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let mut segments = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                segments.push(path);
            }
        }
        // Names are offsets of 20 digits: their order is the order of offsets.
        segments.sort_unstable();
        Ok(Self { segments: segments.into(), file: None, messages: VecDeque::new() })
    }

    /// The next message without taking it.
    pub fn peek(&mut self) -> io::Result<Option<&SourceMessage>> {
        while self.messages.is_empty() {
            if !self.read_batch()? {
                return Ok(None);
            }
        }
        Ok(self.messages.front())
    }

    /// Takes the message that was looked at.
    pub fn advance(&mut self) {
        self.messages.pop_front();
    }

    /// Reads the next batch, of the next file if this one is over. False at the end of all.
    fn read_batch(&mut self) -> io::Result<bool> {
        loop {
            let Some(file) = &mut self.file else {
                let Some(path) = self.segments.pop_front() else { return Ok(false) };
                self.file = Some(BufReader::with_capacity(BUFFER_BYTES, File::open(path)?));
                continue;
            };
            match next_batch(file)? {
                Some(batch) => {
                    self.messages.extend(messages_of(&batch));
                    return Ok(true);
                }
                None => self.file = None,
            }
        }
    }
}

/// The next whole batch that verifies; `None` at the end of the file or at a torn one.
fn next_batch(file: &mut impl Read) -> io::Result<Option<Batch>> {
    let mut bytes = vec![0; BATCH_HEADER_BYTES];
    if !filled(file.read_exact(&mut bytes))? {
        return Ok(None);
    }
    let Ok(header) = BatchHeader::decode(&bytes) else { return Ok(None) };
    bytes.resize(usize::try_from(header.batch_length).expect("a decoded length is bounded"), 0);
    if !filled(file.read_exact(&mut bytes[BATCH_HEADER_BYTES..]))? {
        return Ok(None);
    }
    let batch = Batch::parse(bytes.into()).ok();
    Ok(batch.filter(|batch| batch.view().verify().is_ok()))
}

fn filled(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn messages_of(batch: &Batch) -> Vec<SourceMessage> {
    let messages = batch.view().messages().map(|message| message.expect("the batch was verified"));
    let own = messages.map(|message| SourceMessage {
        offset: message.offset().0,
        timestamp: message.timestamp(),
        origin_timestamp: message.origin_timestamp(),
        id: message.id(),
        checksum: message.checksum(),
        payload: batch.bytes().slice_ref(message.payload()),
        user_headers: batch.bytes().slice_ref(message.user_headers()),
    });
    own.collect()
}
