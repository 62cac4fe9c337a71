//! The journal on a block device: a loop device where this machine lends one, the same suite on a file everywhere.

mod loop_device;

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use cache_node::journal::{
    Journal, JournalError, JournalSettings, Record, RecordClass, RecordId, Recovered, format, inspect,
};
use loop_device::LoopDevice;

/// Not a multiple of 4096: devices end where they end.
const DEVICE_BYTES: u64 = (8 << 20) + 512;
/// Less than the device has.
const JOURNAL_BYTES: u64 = 4 << 20;

fn settings(path: &Path) -> JournalSettings {
    JournalSettings {
        path: path.to_owned(),
        bytes: JOURNAL_BYTES,
        group_bytes_max: 256 << 10,
        group_linger: Duration::ZERO,
        memory_only: false,
    }
}

fn record(number: u64) -> Record {
    let body = Bytes::from(vec![u8::try_from(number % 251).expect("below 251"); 20_000]);
    Record { head: Bytes::from(format!("head {number}")), body, class: RecordClass::Normal }
}

fn open(path: &Path) -> (Journal, Recovered) {
    Journal::open(&settings(path)).unwrap_or_else(|error| panic!("{error}: {error:?}"))
}

fn append(journal: &Journal, number: u64) -> RecordId {
    loop {
        match journal.append(vec![record(number)]) {
            Ok(appended) => {
                appended.done.blocking_recv().expect("an answer").expect("the disk works");
                return appended.ids.start;
            }
            Err(cache_node::journal::AppendError::Full { .. }) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// What must hold on every kind of storage.
fn check_storage(path: &Path, is_device: bool) {
    let (journal, first) = open(path);
    assert!(first.fresh && first.records.is_empty());
    assert!(matches!(Journal::open(&settings(path)), Err(JournalError::InUse { .. })), "a second daemon is refused");
    // More than a lap, so that writes wrap.
    let mut live = Vec::new();
    for number in 0..400 {
        live.push((append(&journal, number), record(number)));
        if live.len() > 50 {
            journal.free([live.remove(0).0]);
        }
    }
    journal.close().expect("the disk works");

    let inspection = inspect(path).expect("it can be looked at");
    assert_eq!((inspection.is_device, inspection.journal), (is_device, first.journal));
    assert!(inspection.ring_bytes < JOURNAL_BYTES && inspection.size_bytes >= JOURNAL_BYTES);
    let (journal, again) = open(path);
    assert_eq!((again.journal, again.fresh, &again.damaged), (first.journal, false, &None));
    for (id, record) in &live {
        let found = again.records.iter().find(|found| found.id == *id).expect("it is live");
        let body = journal.read(&[*id]).expect("the disk works").remove(0).expect("it is live");
        assert_eq!((&found.head, &body), (&record.head, &record.body), "{id}");
    }
    drop(journal);

    let middle = inspection.records[inspection.records.len() - 20].offset + 10_000;
    flip(path, middle);
    let (journal, damaged) = open(path);
    assert_eq!(damaged.damaged.expect("it is told").records_lost, 1);
    assert_ne!(damaged.journal, first.journal);
    journal.close().expect("the disk works");
}

fn flip(path: &Path, offset: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("it is there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("it lies there");
    file.write_all_at(&[byte[0] ^ 16], offset).expect("it lies there");
    file.sync_all().expect("the disk works");
}

#[test]
fn a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    check_storage(&folder.path().join("journal"), false);
}

/// F28: two daemons on one device; DESIGN 4: a raw block device.
#[test]
fn a_blank_device() {
    let Some(device) = LoopDevice::attach(DEVICE_BYTES) else { return };
    check_storage(device.path(), true);
}

#[test]
fn a_device_that_holds_something_else_is_taken_at_an_explicit_word_only() {
    let Some(device) = LoopDevice::attach(DEVICE_BYTES) else { return };
    let path = device.path();
    // An ext file system's superblock lies at 1024, its magic 56 bytes further.
    std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|file| file.write_all_at(&[0x53, 0xef], 0x438))
        .expect("it works");
    let refused = Journal::open(&settings(path)).map(|_| ()).expect_err("it holds something");
    assert!(matches!(&refused, JournalError::Foreign { found, .. } if found.contains("ext file system")), "{refused}");

    let made = format(path, None, None).expect("somebody said so");
    assert_eq!(made.bytes, DEVICE_BYTES / 4096 * 4096);
    let (journal, recovered) = open(path);
    assert_eq!((recovered.journal, recovered.fresh), (made.journal, false));
    append(&journal, 1);
    let in_use = format(path, None, Some(made.journal)).expect_err("a node has it");
    assert!(matches!(in_use, JournalError::InUse { .. }), "{in_use}");
    journal.close().expect("the disk works");

    let kept = format(path, None, None).expect_err("it holds a journal");
    assert!(matches!(kept, JournalError::HoldsJournal { journal, .. } if journal == made.journal), "{kept}");
    let second = format(path, Some(JOURNAL_BYTES), Some(made.journal)).expect("it was named");
    assert_eq!(second.bytes, JOURNAL_BYTES);
    assert!(open(path).1.records.is_empty());
}

#[test]
fn a_device_that_is_too_small_is_refused() {
    let Some(device) = LoopDevice::attach(512 << 10) else { return };
    let refused = Journal::open(&settings(device.path())).map(|_| ()).expect_err("no room");
    assert!(matches!(refused, JournalError::Unreadable { .. }), "{refused}");
    assert!(matches!(format(device.path(), None, None), Err(JournalError::Settings { .. })));
}

#[test]
fn only_devices_are_formatted_and_only_storage_is_opened() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("journal");
    drop(open(&file));
    assert!(matches!(format(&file, None, None), Err(JournalError::NotStorage { .. })));
    assert!(matches!(Journal::open(&settings(folder.path())), Err(JournalError::NotStorage { .. })));
    let absent = Journal::open(&settings(Path::new("/dev/kennel-no-such-disk"))).map(|_| ());
    assert!(matches!(absent, Err(JournalError::NoDevice { .. })), "{absent:?}");
}
