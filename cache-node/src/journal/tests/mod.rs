//! The journal as its callers see it, on a disk that misbehaves and on real files.

mod crash;
mod damage;
mod files;
mod limits;
mod prewrite;
mod read_back;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::faults::FaultyDisk;
use super::file::IoMode;
use super::open::open_on;
use super::{AppendError, Journal, JournalError, JournalSettings, Record, RecordClass, RecordId, Recovered};

const DISK_BYTES: usize = 1 << 20;

fn settings() -> JournalSettings {
    JournalSettings {
        path: "test".into(),
        bytes: DISK_BYTES as u64,
        group_bytes_max: 64 << 10,
        group_linger: Duration::ZERO,
        memory_only: false,
    }
}

fn open(disk: &FaultyDisk) -> (Journal, Recovered) {
    try_open(disk).expect("the disk holds a journal")
}

fn try_open(disk: &FaultyDisk) -> Result<(Journal, Recovered), JournalError> {
    open_on(Arc::new(disk.clone()), DISK_BYTES as u64, IoMode::Direct, &settings())
}

fn record(number: u64, bytes: usize) -> Record {
    let mut body = vec![u8::try_from(number % 251).expect("below 251"); bytes];
    let mark = number.to_le_bytes();
    let marked = bytes.min(mark.len());
    body[..marked].copy_from_slice(&mark[..marked]);
    Record { head: Bytes::from(format!("head {number}")), body: body.into(), class: RecordClass::Normal }
}

fn recovery(number: u64, bytes: usize) -> Record {
    Record { class: RecordClass::Recovery, ..record(number, bytes) }
}

/// What was found, bodies read back.
fn whole(journal: &Journal, recovered: &Recovered) -> Vec<(RecordId, Record)> {
    let ids: Vec<_> = recovered.records.iter().map(|found| found.id).collect();
    let bodies = journal.read(&ids).expect("what was found verifies");
    let records = recovered.records.iter().zip(bodies).map(|(found, body)| {
        let body = body.expect("what was found is live");
        assert_eq!(body.len(), found.body_bytes as usize);
        (found.id, Record { head: found.head.clone(), body, class: found.class })
    });
    records.collect()
}

/// Appends one record and waits until it is durable.
fn append(journal: &Journal, record: Record) -> RecordId {
    let appended = journal.append(vec![record]).expect("there is room");
    appended.done.blocking_recv().expect("the journal answers").expect("the disk works");
    appended.ids.start
}
