//! Random lives of a journal, each ended by a crash or a proper close, against a model of what must be found.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tokio::sync::oneshot;

use super::super::faults::{Crash, FaultyDisk, random};
use super::*;

type Done = oneshot::Receiver<Result<(), JournalError>>;

/// What the journal was told and what it answered.
#[derive(Default)]
struct Model {
    /// Completed and not freed: must be found.
    required: BTreeMap<RecordId, Record>,
    /// Freed: may be found.
    freed: BTreeMap<RecordId, Record>,
    /// Without an answer so far: each whole or absent.
    pending: Vec<(BTreeMap<RecordId, Record>, Done)>,
    written: u64,
}

impl Model {
    fn append(&mut self, journal: &Journal, seed: &mut u64) {
        let count = 1 + random(seed) % 5;
        let mut records = Vec::new();
        for _ in 0..count {
            self.written += 1;
            let bytes = usize::try_from(random(seed) % 9000).expect("small");
            let make = if random(seed).is_multiple_of(7) { recovery } else { record };
            records.push(make(self.written, bytes));
        }
        match journal.append(records.clone()) {
            Ok(appended) => {
                let records = appended.each_id().zip(records).collect();
                self.pending.push((records, appended.done));
            }
            Err(AppendError::Full { .. } | AppendError::Busy { .. }) => {
                self.settle_first();
                self.free_some(journal, seed, 50);
            }
            Err(error) => panic!("no fault was injected: {error}"),
        }
    }

    fn settle_first(&mut self) {
        if !self.pending.is_empty() {
            let (records, done) = self.pending.remove(0);
            done.blocking_recv().expect("the journal answers").expect("the disk works");
            self.required.extend(records);
        }
    }

    /// Frees old and young alike, so that some stay pinned at the head and must be copied forward.
    fn free_some(&mut self, journal: &Journal, seed: &mut u64, percent: u64) {
        let chosen: Vec<_> = self.required.keys().copied().filter(|_| random(seed) % 100 < percent).collect();
        for id in &chosen {
            self.freed.extend(self.required.remove_entry(id));
        }
        journal.free(chosen);
    }

    /// Takes the answers that came; the journal's threads have ended.
    fn settle(&mut self) {
        self.pending.retain_mut(|(records, done)| {
            let completed = matches!(done.try_recv(), Ok(Ok(())));
            if completed {
                self.required.append(records);
            }
            !completed
        });
    }

    /// Checks what was found, and goes on from it.
    fn check(&mut self, journal: &Journal, recovered: &Recovered) {
        assert_eq!(recovered.damaged, None, "a crash is not damage");
        assert!(recovered.records.is_sorted_by(|one, next| one.id < next.id), "the ids rise");
        let found: BTreeMap<_, _> = whole(journal, recovered).into_iter().collect();
        for (id, record) in &self.required {
            assert_eq!(found.get(id), Some(record), "a completed record is missing or changed: {id}");
        }
        for (records, _) in &self.pending {
            let present = records.keys().filter(|id| found.contains_key(id)).count();
            assert!(present == 0 || present == records.len(), "an append is whole or absent");
        }
        let pending: BTreeMap<_, _> = self.pending.iter().flat_map(|(records, _)| records).collect();
        for (id, record) in &found {
            let known = [self.required.get(id), self.freed.get(id), pending.get(id).copied()];
            assert!(known.contains(&Some(record)), "nobody appended what was found as {id}");
        }
        self.required = found;
        self.freed.clear();
        self.pending.clear();
    }
}

fn live(mut disk: FaultyDisk, mut seed: u64, lives: u32, steps: u64) {
    let mut model = Model::default();
    let mut id = None;
    for _ in 0..lives {
        let (journal, recovered) = open(&disk);
        assert_eq!(*id.get_or_insert(recovered.journal), recovered.journal, "an undamaged journal keeps its id");
        model.check(&journal, &recovered);
        for _ in 0..random(&mut seed) % steps {
            match random(&mut seed) % 10 {
                0..7 => model.append(&journal, &mut seed),
                7 | 8 => model.settle_first(),
                _ => model.free_some(&journal, &mut seed, 20),
            }
        }
        let ending = random(&mut seed);
        if ending.is_multiple_of(5) {
            journal.close().expect("the disk works");
        } else {
            let arrived_percent = [0, 10, 50, 90, 99, 100][usize::try_from(ending % 6).expect("small")];
            let crash = Crash::Power { arrived_percent, seed };
            disk = disk.crash(if ending.is_multiple_of(3) { Crash::Process } else { crash });
            drop(journal);
        }
        model.settle();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_completed_is_found_after_any_crash(seed: u64) {
        live(FaultyDisk::new(DISK_BYTES), seed, 8, 150);
    }
}

#[test]
fn a_long_life_wraps_many_times() {
    live(FaultyDisk::new(DISK_BYTES), 1, 20, 4000);
}
