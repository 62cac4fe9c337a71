//! A new journal's space is written through beside the log, and never over it.

use std::time::{Duration, Instant};

use super::super::layout::BLOCK;
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn is_written_through(disk: &FaultyDisk) -> bool {
    use super::super::file::BlockFile;
    use super::super::layout::RING_START;
    disk.next_hole(RING_START).expect("the disk works").is_none()
}

fn wait_until_written_through(disk: &FaultyDisk) {
    let began = Instant::now();
    while !is_written_through(disk) {
        assert!(began.elapsed() < PATIENCE, "space is left that was never written");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn all_of_it_is_written_although_nobody_appends() {
    let disk = FaultyDisk::reserved(DISK_BYTES);
    let (journal, _) = open(&disk);
    wait_until_written_through(&disk);
    journal.close().expect("the disk works");
}

#[test]
fn what_is_appended_meanwhile_stays_as_it_is() {
    let disk = FaultyDisk::reserved(DISK_BYTES);
    let (journal, _) = open(&disk);
    // Everything that fits without a free: the log runs through the space that is being written.
    let mut appended = Vec::new();
    let mut number = 0;
    while let Ok(waiting) = journal.append(vec![record(number, BLOCK)]) {
        waiting.done.blocking_recv().expect("the journal answers").expect("the disk works");
        appended.push((waiting.ids.start, record(number, BLOCK)));
        number += 1;
    }
    assert!(appended.len() > 80, "only {} records found room", appended.len());
    wait_until_written_through(&disk);
    let ids: Vec<_> = appended.iter().map(|(id, _)| *id).collect();
    let bodies = journal.read(&ids).expect("all of them verify");
    assert!(appended.iter().zip(bodies).all(|((_, record), body)| body.as_ref() == Some(&record.body)));
    let found = disk.crash(super::super::faults::Crash::Process);
    let (again, recovered) = open(&found);
    assert!(recovered.damaged.is_none());
    assert_eq!(whole(&again, &recovered), appended);
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let disk = FaultyDisk::reserved(DISK_BYTES);
    let (journal, _) = open(&disk);
    let id = append(&journal, record(1, BLOCK));
    journal.close().expect("the disk works");
    let (journal, recovered) = open(&disk);
    assert_eq!(whole(&journal, &recovered), [(id, record(1, BLOCK))]);
    wait_until_written_through(&disk);
    assert_eq!(journal.read(&[id]).expect("it verifies"), [Some(record(1, BLOCK).body)]);
}

#[test]
fn a_disk_that_refuses_it_costs_nothing_but_speed() {
    let disk = FaultyDisk::reserved(DISK_BYTES);
    let (journal, _) = open(&disk);
    disk.fail_writes(rustix::io::Errno::NOSPC);
    std::thread::sleep(Duration::from_millis(20));
    disk.heal();
    append(&journal, record(1, 100));
    journal.close().expect("the disk works");
}

#[test]
fn a_real_file_is_written_through_where_the_file_system_says_what_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = JournalSettings { path: folder.path().join("journal"), ..settings() };
    let (journal, _) = Journal::open(&settings).expect("a new journal");
    let id = append(&journal, record(1, BLOCK));
    let file = std::fs::File::open(&settings.path).expect("it is there");
    let began = Instant::now();
    let end = DISK_BYTES as u64;
    while rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(0)).expect("the file system answers") < end {
        assert!(began.elapsed() < PATIENCE, "space is left that was never written");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(journal.read(&[id]).expect("it verifies"), [Some(record(1, BLOCK).body)]);
}
