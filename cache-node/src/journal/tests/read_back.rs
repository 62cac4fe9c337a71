//! Bodies that are read back while the journal runs.

use super::*;

/// Longer for every number.
fn long(number: u64) -> Record {
    record(number, 900 * usize::try_from(number).expect("small"))
}

#[test]
fn bodies_come_back_in_the_order_asked_for_and_freed_ones_do_not() {
    let disk = FaultyDisk::new(DISK_BYTES);
    let (journal, _) = open(&disk);
    let ids: Vec<_> = (0..30).map(|number| append(&journal, long(number))).collect();
    journal.free([ids[4]]);
    let bodies = journal.read(&[ids[7], ids[4], ids[29], ids[8]]).expect("the disk works");
    let expected = |number: u64| Some(long(number).body);
    assert_eq!(bodies, [expected(7), None, expected(29), expected(8)]);
}

#[test]
fn a_record_on_its_way_to_the_disk_is_waited_for() {
    let disk = FaultyDisk::new(DISK_BYTES);
    let (journal, _) = open(&disk);
    let appended = journal.append(vec![record(1, 5000)]).expect("there is room");
    assert_eq!(journal.read(&[appended.ids.start]).expect("the disk works"), [Some(record(1, 5000).body)]);
}

#[test]
fn what_was_copied_forward_is_found_where_it_lies_now() {
    let disk = FaultyDisk::new(DISK_BYTES);
    let (journal, _) = open(&disk);
    let pinned = append(&journal, record(7, 5000));
    for lap in 0..400 {
        // Full is right while a copy is under way, and must pass.
        while let Err(error) =
            journal.append(vec![record(lap, 9000)]).map(|appended| journal.free([appended.ids.start]))
        {
            assert!(matches!(error, AppendError::Full { .. } | AppendError::Busy { .. }), "{error}");
            std::thread::yield_now();
        }
        if lap % 20 == 0 {
            assert_eq!(journal.read(&[pinned]).expect("the disk works"), [Some(record(7, 5000).body)]);
        }
    }
}

#[test]
fn a_record_that_rots_stops_the_journal() {
    let disk = FaultyDisk::new(DISK_BYTES);
    let (journal, _) = open(&disk);
    let id = append(&journal, record(1, 5000));
    let head = disk.find(b"head 1").expect("it was written");
    disk.rot(head + 100..head + 101);
    assert!(matches!(journal.read(&[id]), Err(JournalError::Poisoned { .. })));
    assert!(matches!(journal.append(vec![record(2, 10)]), Err(AppendError::Poisoned(_))));
}
