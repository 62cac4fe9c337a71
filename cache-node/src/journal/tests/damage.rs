//! Bytes that rot: told from a torn tail, answered with a new id, survived by what verifies.

use proptest::prelude::*;

use super::super::faults::{Crash, FaultyDisk};
use super::super::inspect_image;
use super::super::layout::BLOCK;
use super::*;

const LOSS: Crash = Crash::Power { arrived_percent: 0, seed: 0 };

/// A journal of three groups of one record each, crashed, and the offset of the second one's group.
fn three_groups() -> (FaultyDisk, Recovered, usize) {
    let disk = FaultyDisk::new(DISK_BYTES);
    let (journal, recovered) = open(&disk);
    for number in 0..3 {
        append(&journal, record(number, 6000));
    }
    let disk = disk.crash(LOSS);
    let second = disk.find(b"head 1").expect("it was written") / BLOCK * BLOCK;
    (disk, recovered, second)
}

fn ids(recovered: &Recovered) -> Vec<u64> {
    recovered.records.iter().map(|found| found.id.0).collect()
}

#[test]
fn damage_in_the_middle_gives_a_new_id_once_and_spares_the_rest() {
    // In the record, in the group's header, and over the whole group.
    for rot in [300..301, 30..31, 0..8192] {
        let (disk, original, second) = three_groups();
        disk.rot(second + rot.start..second + rot.end);
        let (journal, recovered) = open(&disk);
        assert!(recovered.damaged.is_some(), "{rot:?}");
        assert_ne!(recovered.journal, original.journal);
        assert_eq!(recovered.torn_bytes, 0);
        assert_eq!(ids(&recovered), [0, 2]);
        assert_eq!(append(&journal, record(3, 100)), RecordId(3));

        let disk = disk.crash(LOSS);
        drop(journal);
        let (_, again) = open(&disk);
        assert_eq!(again.damaged, None, "known damage is not reported again");
        assert_eq!(again.journal, recovered.journal);
        assert_eq!(ids(&again), [0, 2, 3]);
    }
}

#[test]
fn new_damage_beside_known_damage_is_damage() {
    let (disk, _, second) = three_groups();
    disk.rot(second + 300..second + 301);
    let (_, first) = open(&disk);
    let third = disk.find(b"head 2").expect("it was written") / BLOCK * BLOCK;
    disk.rot(third + 300..third + 301);
    let (_, second) = open(&disk);
    assert!(second.damaged.is_some());
    assert_ne!(second.journal, first.journal);
    assert_eq!(ids(&second), [0]);
}

#[test]
fn the_records_of_a_damaged_group_that_verify_are_kept() {
    let disk = FaultyDisk::new(DISK_BYTES);
    let (journal, _) = open(&disk);
    let five = journal.append((0..5).map(|number| record(number, 5000)).collect()).expect("there is room");
    five.done.blocking_recv().expect("an answer").expect("the disk works");
    append(&journal, record(5, 10));
    let disk = disk.crash(LOSS);
    drop(journal);
    let hit = disk.find(b"head 2").expect("it was written") + 1000;
    disk.rot(hit..hit + 1);
    let (journal, recovered) = open(&disk);
    assert!(recovered.damaged.is_some());
    assert_eq!(ids(&recovered), [0, 1, 3, 4, 5]);
    drop(journal);
    let (_, again) = open(&disk);
    assert_eq!((again.damaged.clone(), ids(&again)), (None, vec![0, 1, 3, 4, 5]));
}

#[test]
fn a_torn_last_group_is_cut_and_not_damage() {
    let (disk, original, second) = three_groups();
    let third = disk.find(b"head 2").expect("it was written") / BLOCK * BLOCK;
    assert!(third > second);
    disk.rot(third + 5000..third + 5001);
    let (journal, recovered) = open(&disk);
    assert_eq!((recovered.damaged.clone(), recovered.torn_bytes), (None, 8192));
    assert_eq!(recovered.journal, original.journal);
    assert_eq!(ids(&recovered), [0, 1]);
    assert_eq!(append(&journal, record(9, 10)), RecordId(2), "it never completed, so its id is free");
}

#[test]
fn after_a_proper_close_a_bad_last_group_is_damage() {
    let disk = FaultyDisk::new(DISK_BYTES);
    let (journal, _) = open(&disk);
    append(&journal, record(0, 100));
    append(&journal, record(1, 100));
    journal.close().expect("the disk works");
    let last = disk.find(b"head 1").expect("it was written");
    disk.rot(last..last + 1);
    let (journal, recovered) = open(&disk);
    assert!(recovered.damaged.is_some());
    assert_eq!(ids(&recovered), [0]);
    assert_eq!(append(&journal, record(2, 100)), RecordId(2), "the lost record's id is not given again");
    drop(journal);
    assert_eq!(ids(&open(&disk).1), [0, 2]);
}

#[test]
fn one_bad_superblock_is_survived_and_two_are_refused() {
    let (disk, original, _) = three_groups();
    for copy in [0, BLOCK] {
        disk.rot(copy + 40..copy + 41);
        let (journal, recovered) = open(&disk);
        assert_eq!((recovered.damaged.clone(), recovered.journal), (None, original.journal));
        assert_eq!(ids(&recovered), [0, 1, 2]);
        drop(journal);
    }
    disk.rot(40..41);
    disk.rot(BLOCK + 40..BLOCK + 41);
    assert!(matches!(try_open(&disk), Err(JournalError::Unreadable { .. })));
}

/// Rot that is met while the journal runs: it stops, and the start after it tells.
#[test]
fn a_record_that_rotted_before_it_was_copied_forward_stops_the_journal() {
    let disk = FaultyDisk::new(DISK_BYTES);
    let (journal, recovered) = open(&disk);
    append(&journal, record(7, 5000));
    let pinned = disk.find(b"head 7").expect("it was written");
    disk.rot(pinned + 2000..pinned + 2001);
    let stopped = (0..100_000).find_map(|lap| match journal.append(vec![record(lap, 9000)]) {
        Ok(appended) => {
            journal.free(appended.each_id());
            appended.done.blocking_recv().expect("an answer").err()
        }
        Err(AppendError::Full { .. }) => {
            std::thread::yield_now();
            None
        }
        Err(AppendError::Poisoned(error)) => Some(error),
        Err(error) => panic!("unexpected: {error}"),
    });
    let stopped = stopped.expect("the pinned record is copied forward within a lap");
    assert!(matches!(stopped, JournalError::Poisoned { action: "read a group", .. }), "{stopped}");
    drop(journal);
    let (_, again) = open(&disk);
    let damage = again.damaged.expect("it is told");
    assert_eq!((damage.places_count, damage.records_lost), (1, 1), "{damage}");
    assert_ne!(again.journal, recovered.journal);
}

/// A journal of `lengths.len()` records, one group each, and whether it was closed properly.
fn image(lengths: &[usize], close: bool) -> Vec<u8> {
    let disk = FaultyDisk::new(DISK_BYTES);
    let (journal, _) = open(&disk);
    for (number, length) in (0..).zip(lengths) {
        append(&journal, record(number, *length));
    }
    if close {
        journal.close().expect("the disk works");
        return disk.image();
    }
    let disk = disk.crash(LOSS);
    drop(journal);
    disk.image()
}

/// What rot does: other bits, a block that reads as zeros, a block in the place of another.
fn harm(image: &mut [u8], (kind, at, other): (u8, usize, usize)) {
    let blocks = image.len() / BLOCK;
    let block = |at: usize| at % blocks * BLOCK..(at % blocks + 1) * BLOCK;
    match kind {
        0 => image[at % blocks * BLOCK + other % BLOCK] ^= 1 << (at % 8),
        1 => image[block(at)].fill(0),
        _ => {
            let moved = image[block(other)].to_vec();
            image[block(at)].copy_from_slice(&moved);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// F27 in the journal: whatever rots, recovery does not panic, gives no record that was not written, and does not
    /// keep quiet about one that is gone, but for those at the end of a log that was not closed.
    #[test]
    fn no_rot_makes_a_record_or_hides_the_loss_of_one(
        lengths in prop::collection::vec(0..20_000usize, 1..20), close: bool,
        harms in prop::collection::vec((0..3u8, 0..90usize, 0..100_000usize), 1..6),
    ) {
        let mut image = image(&lengths, close);
        for harm_done in harms {
            harm(&mut image, harm_done);
        }
        let inspected = inspect_image(image.clone());
        let disk = FaultyDisk::holding(image);
        let (journal, recovered) = match try_open(&disk) {
            Ok(opened) => opened,
            Err(JournalError::Unreadable { .. }) => return Ok(()),
            Err(error) => panic!("unexpected: {error}"),
        };
        if recovered.fresh {
            return Ok(());
        }
        for (id, found) in &whole(&journal, &recovered) {
            let number = usize::try_from(id.0).expect("small");
            prop_assert!(number < lengths.len());
            prop_assert_eq!(found, &record(id.0, lengths[number]));
        }
        let inspected = inspected.expect("what can be opened can be inspected");
        prop_assert_eq!(&inspected.damage, &recovered.damaged);
        prop_assert_eq!(inspected.records.len(), recovered.records.len());
        if recovered.damaged.is_none() {
            let found = ids(&recovered);
            prop_assert!(found.iter().copied().eq(0..found.len() as u64), "only the end may be missing: {:?}", found);
            prop_assert!(!close || found.len() == lengths.len(), "a closed log has no torn end");
        }
    }
}

#[test]
fn many_laps_are_not_damage() {
    let disk = FaultyDisk::new(DISK_BYTES);
    let (journal, _) = open(&disk);
    let mut ids = Vec::new();
    for number in 0..300 {
        ids.push(append(&journal, record(number, 9000)));
        if ids.len() > 20 {
            journal.free([ids.remove(0)]);
        }
    }
    let disk = disk.crash(LOSS);
    drop(journal);
    let (_, recovered) = open(&disk);
    assert_eq!(recovered.damaged, None);
    for id in ids {
        assert!(recovered.records.iter().any(|found| found.id == id), "{id} is live");
    }
}
