//! Room: full, busy, too large, wrapping, copying forward, and what a failing disk does.

use rustix::io::Errno;

use super::super::faults::FaultyDisk;
use super::*;

#[test]
fn a_full_journal_says_so_and_keeps_a_tenth_for_recovery() {
    let (journal, _) = open(&FaultyDisk::new(DISK_BYTES));
    let mut ids = Vec::new();
    let full = loop {
        match journal.append(vec![record(1, 10_000)]) {
            Ok(appended) => {
                ids.extend(appended.each_id());
                appended.done.blocking_recv().expect("an answer").expect("the disk works");
            }
            Err(error) => break error,
        }
    };
    let AppendError::Full { used, capacity } = full else { panic!("unexpected: {full}") };
    assert!(used <= capacity && used + 12_288 > capacity);
    let mut kept = 0;
    while let Ok(appended) = journal.append(vec![recovery(2, 10_000)]) {
        kept += 12_288;
        ids.extend(appended.each_id());
        appended.done.blocking_recv().expect("an answer").expect("the disk works");
    }
    assert!(kept > DISK_BYTES / 12, "about a tenth was kept: {kept}");
    let mixed = vec![recovery(2, 10), record(3, 10)];
    assert!(matches!(journal.append(mixed), Err(AppendError::Full { .. })), "the class is that of the worst record");

    journal.free(ids);
    assert_eq!(journal.usage().used_bytes, 0);
    append(&journal, record(4, 10_000));
}

#[test]
fn what_can_never_fit_is_refused() {
    let (journal, _) = open(&FaultyDisk::new(DISK_BYTES));
    assert!(matches!(journal.append(vec![record(1, DISK_BYTES / 4)]), Err(AppendError::TooLarge { .. })));
    assert!(matches!(journal.append(Vec::new()), Err(AppendError::Empty)));
    assert_eq!(append(&journal, record(2, DISK_BYTES / 9)), RecordId(0), "a refused append uses no id");
}

#[test]
fn a_slow_disk_fills_the_queue_and_groups_what_waits() {
    let disk = FaultyDisk::new(DISK_BYTES);
    let (journal, _) = open(&disk);
    let before = disk.syncs();
    disk.hold(true);
    let mut waiting = Vec::new();
    let busy = loop {
        match journal.append(vec![record(1, 1000)]) {
            Ok(appended) => waiting.push(appended.done),
            Err(error) => break error,
        }
    };
    assert!(matches!(busy, AppendError::Busy { .. } | AppendError::Full { .. }), "{busy}");
    disk.hold(false);
    let appends = waiting.len() as u64;
    for done in waiting {
        done.blocking_recv().expect("an answer").expect("the disk works");
    }
    let syncs = disk.syncs() - before;
    assert!(syncs * 5 < appends, "{syncs} syncs for {appends} appends");
}

#[test]
fn a_pinned_record_is_copied_forward_and_keeps_its_id() {
    let disk = FaultyDisk::new(DISK_BYTES);
    let (journal, _) = open(&disk);
    let pinned = append(&journal, record(7, 5000));
    for lap in 0..2000 {
        let record = record(lap, 9000);
        // Full is right while a copy is under way, and must pass.
        let id = loop {
            match journal.append(vec![record.clone()]) {
                Ok(appended) => {
                    appended.done.blocking_recv().expect("an answer").expect("the disk works");
                    break appended.ids.start;
                }
                Err(AppendError::Full { .. }) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        journal.free([id]);
    }
    assert_eq!(journal.usage().live_records, 1);
    journal.close().expect("the disk works");
    let (journal, recovered) = open(&disk);
    let found = whole(&journal, &recovered).into_iter().find(|(id, _)| *id == pinned);
    assert_eq!(found.map(|(_, found)| found), Some(record(7, 5000)));
    journal.free([pinned]);
}

/// F8: what was not flushed never counts as durable, and a flush that failed is never tried again: the kernel may have
/// thrown the pages away, so that a second one would succeed and prove nothing.
#[test]
fn a_failed_write_or_sync_stops_the_journal_for_good() {
    for (fail, errno) in [
        (FaultyDisk::fail_writes as fn(&FaultyDisk, Errno), Errno::NOSPC),
        (FaultyDisk::fail_writes, Errno::IO),
        (FaultyDisk::fail_syncs, Errno::NOSPC),
        (FaultyDisk::fail_syncs, Errno::IO),
    ] {
        let disk = FaultyDisk::new(DISK_BYTES);
        let (journal, _) = open(&disk);
        let kept = append(&journal, record(1, 100));
        let syncs = disk.syncs();
        fail(&disk, errno);
        let lost = journal.append(vec![record(2, 100)]).expect("it does not know yet");
        let error = lost.done.blocking_recv().expect("an answer").expect_err("the disk failed");
        let JournalError::Poisoned { source, .. } = error else { panic!("unexpected: {error}") };
        assert_eq!(source.raw_os_error(), Some(errno.raw_os_error()));
        disk.heal();
        assert!(matches!(journal.append(vec![record(3, 100)]), Err(AppendError::Poisoned(_))));
        journal.close().expect_err("it cannot close properly");
        assert_eq!(disk.syncs(), syncs, "nothing was synced after the failure");
        let after = disk.crash(super::super::faults::Crash::Power { arrived_percent: 0, seed: 1 });
        let (journal, recovered) = open(&after);
        assert_eq!(whole(&journal, &recovered), [(kept, record(1, 100))]);
        assert_eq!(recovered.damaged, None);
    }
}

/// F8: a disk that cannot be read is not an empty one.
#[test]
fn a_disk_that_cannot_be_read_is_not_opened() {
    let disk = FaultyDisk::new(DISK_BYTES);
    let (journal, _) = open(&disk);
    let kept = append(&journal, record(1, 100));
    drop(journal);
    disk.fail_reads(Errno::IO);
    let error = try_open(&disk).map(|_| ()).expect_err("it cannot be read");
    assert!(matches!(error, JournalError::Io { action: "read the superblock", .. }), "{error}");
    disk.heal();
    let (journal, recovered) = open(&disk);
    assert_eq!(whole(&journal, &recovered), [(kept, record(1, 100))]);
}

#[test]
fn a_closed_journal_takes_nothing_and_has_written_everything() {
    let disk = FaultyDisk::new(DISK_BYTES);
    let (journal, _) = open(&disk);
    let appended = journal.append(vec![record(1, 100)]).expect("there is room");
    let other = journal.clone();
    journal.close().expect("the disk works");
    appended.done.blocking_recv().expect("an answer").expect("it was written first");
    assert!(matches!(other.append(vec![record(2, 100)]), Err(AppendError::Closed)));
    drop(other);
    assert_eq!(open(&disk).1.records.len(), 1);
}

#[test]
fn memory_has_the_same_bounds_and_forgets_everything() {
    let settings = JournalSettings { memory_only: true, ..settings() };
    let (journal, recovered) = Journal::open(&settings).expect("memory");
    assert!(recovered.fresh && recovered.records.is_empty() && recovered.mode == IoMode::Memory);
    let id = append(&journal, record(1, DISK_BYTES / 10 * 8));
    assert!(matches!(journal.append(vec![record(2, DISK_BYTES / 10 * 2)]), Err(AppendError::Full { .. })));
    journal.append(vec![recovery(2, DISK_BYTES / 10)]).expect("recovery may use more");
    journal.free([id]);
    assert_eq!(append(&journal, record(3, DISK_BYTES / 10 * 7)), RecordId(2));
    let (again, _) = Journal::open(&settings).expect("memory");
    assert_ne!(again.journal_id(), journal.journal_id(), "memory that was lost is another journal");
    let other = journal.clone();
    journal.close().expect("nothing can fail");
    assert!(matches!(other.append(vec![record(4, 1)]), Err(AppendError::Closed)));
}
