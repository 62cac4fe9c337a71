//! Real files: formatting, locking, both ways of reaching the disk.

use std::fs;

use tempfile::TempDir;

use super::*;

fn folder() -> (TempDir, JournalSettings) {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = JournalSettings { path: folder.path().join("journal"), ..settings() };
    (folder, settings)
}

/// Opens, appends, closes, opens again.
fn check_round_trip(settings: &JournalSettings) -> IoMode {
    let (journal, recovered) = Journal::open(settings).expect("a new journal");
    assert!(recovered.fresh);
    let ids: Vec<_> = (0..20).map(|number| append(&journal, record(number, 20_000))).collect();
    journal.free([ids[0]]);
    journal.close().expect("the disk works");
    let (journal, again) = Journal::open(settings).expect("the same journal");
    assert!(!again.fresh && again.damaged.is_none());
    assert_eq!(again.journal, recovered.journal);
    assert_eq!(again.mode, recovered.mode);
    let found = whole(&journal, &again);
    for (number, id) in (1..20).zip(&ids[1..]) {
        assert!(found.contains(&(*id, record(number, 20_000))));
    }
    drop(journal);
    recovered.mode
}

#[test]
fn a_file_is_formatted_and_read_back() {
    let (folder, settings) = folder();
    // What a crash while formatting leaves behind does not matter.
    fs::write(folder.path().join("journal.formatting"), "half").expect("a file");
    check_round_trip(&settings);
    let length = fs::metadata(&settings.path).expect("it is there").len();
    assert_eq!(length, DISK_BYTES as u64, "it is preallocated");
    assert!(!folder.path().join("journal.formatting").exists());
}

#[test]
fn memory_file_systems_work_whether_or_not_they_take_o_direct() {
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else { return };
    let settings = JournalSettings { path: folder.path().join("journal"), ..settings() };
    assert_ne!(check_round_trip(&settings), IoMode::Memory);
}

#[test]
fn a_second_opener_is_refused_until_the_first_is_gone() {
    let (_folder, settings) = folder();
    let (journal, _) = Journal::open(&settings).expect("a new journal");
    assert!(matches!(Journal::open(&settings), Err(JournalError::InUse { .. })));
    drop(journal);
    Journal::open(&settings).expect("the lock is gone");
}

#[test]
fn what_is_no_journal_is_left_alone() {
    let (_folder, settings) = folder();
    for content in [vec![7; 100], vec![7; DISK_BYTES]] {
        fs::write(&settings.path, &content).expect("a file");
        assert!(matches!(Journal::open(&settings), Err(JournalError::Unreadable { .. })));
        assert_eq!(fs::read(&settings.path).expect("it is there"), content);
    }
}

#[test]
fn a_journal_without_its_superblocks_is_not_taken_for_a_blank_file() {
    let (_folder, settings) = folder();
    let (journal, _) = Journal::open(&settings).expect("a new journal");
    append(&journal, record(1, 100));
    journal.close().expect("the disk works");
    let file = fs::OpenOptions::new().write(true).open(&settings.path).expect("it is there");
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 8192], 0).expect("it works");
    assert!(matches!(Journal::open(&settings), Err(JournalError::Unreadable { .. })));
    // A file of zeros, as an operator makes one ahead of time, is blank.
    fs::write(&settings.path, vec![0; DISK_BYTES]).expect("it works");
    assert!(Journal::open(&settings).expect("it is formatted in place").1.fresh);
}

#[test]
fn a_shrunken_file_is_refused() {
    let (_folder, settings) = folder();
    Journal::open(&settings).expect("a new journal").0.close().expect("the disk works");
    let file = fs::OpenOptions::new().write(true).open(&settings.path).expect("it is there");
    file.set_len(DISK_BYTES as u64 / 2).expect("a shorter file");
    assert!(matches!(Journal::open(&settings), Err(JournalError::Unreadable { .. })));
}

#[test]
fn another_size_in_the_settings_leaves_the_journal_as_it_is() {
    let (_folder, mut settings) = folder();
    let (journal, recovered) = Journal::open(&settings).expect("a new journal");
    append(&journal, record(1, 100));
    let capacity = journal.usage().capacity_bytes;
    drop(journal);
    settings.bytes *= 4;
    let (journal, again) = Journal::open(&settings).expect("the same journal");
    assert_eq!((again.journal, again.records.len()), (recovered.journal, 1));
    assert_eq!(journal.usage().capacity_bytes, capacity);
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let (_folder, good) = folder();
    let small = JournalSettings { bytes: 4096, ..good.clone() };
    let narrow = JournalSettings { group_bytes_max: 100, ..good };
    for settings in [small, narrow] {
        assert!(matches!(Journal::open(&settings), Err(JournalError::Settings { .. })));
    }
}
