//! A collector in the owner's name: moves the start of the log by a manifest, then deletes what lies below
//! (PROTOCOL R22-R24). Compaction decides what becomes of the data; here it is only gone.

use core::time::Duration;

use kennel_core::shard::{BucketRequest, BucketResult, CreateOutcome};
use kennel_protocol::entry::IntegritySum;
use kennel_protocol::ids::{Epoch, ShardId, Slot};
use kennel_protocol::object::{LogPosition, Manifest};

use super::World;
use crate::event::{Collection, Event};
use crate::mutants::DriverFlaw;
use crate::oracle::LogReader;
use crate::oracle::objects::{deletes_what_a_manifest_dropped, the_log_is_whole};

impl World {
    /// Publishes a manifest of the newest open epoch whose log starts at a drawn, stored slot.
    pub(super) fn collect(&mut self) {
        let Some(epoch) = self.bucket.newest_open() else { return };
        let Some(stored) = self.oracle.objects.stored_slot(epoch) else { return };
        let back = self.draws.faults.below(4);
        let slot = Slot(stored.next().0.saturating_sub(back));
        self.publish(LogPosition { epoch, slot });
    }

    /// Publishes a manifest whose log starts there. Everything below is stored.
    pub(super) fn publish(&mut self, start: LogPosition) {
        let newest = self.bucket.newest_manifest();
        if newest.as_ref().is_some_and(|manifest| manifest.log_start >= start || manifest.epoch > start.epoch) {
            return;
        }
        let mut reader = LogReader::default();
        let read = reader.read_to(&self.bucket, start);
        self.judge(read);
        let number = newest.filter(|manifest| manifest.epoch == start.epoch).map_or(0, |manifest| manifest.number + 1);
        let manifest = Manifest {
            shard: ShardId(0),
            epoch: start.epoch,
            number,
            log_start: start,
            log_start_lsn: reader.lsn(),
            partitions: reader.partitions().copied().collect(),
            sum: IntegritySum::default(),
        };
        self.trace.line(self.now, || format!("collector publishes {manifest:?}"));
        let (result, _) = self.bucket.apply(&BucketRequest::CreateManifest(manifest.into()));
        if matches!(result, BucketResult::Created(CreateOutcome::Done)) {
            let delay = self.draws.faults.scale(Duration::from_millis(5), Duration::from_secs(3));
            self.after(delay, Event::CollectorLooks { collection: Collection { epoch: start.epoch, start } });
        }
    }

    /// PROTOCOL R24: only a collector that finds no newer claim, after its manifest stood, may delete.
    pub(super) fn collector_looks(&mut self, collection: Collection) {
        let hasty = self.plan.broken.breaks(DriverFlaw::DeletesUnvalidated);
        if self.bucket.claim(collection.epoch.next()).is_none() || hasty {
            let delay = self.draws.faults.scale(Duration::from_millis(5), Duration::from_secs(5));
            self.after(delay, Event::CollectorDeletes { collection });
        }
    }

    pub(super) fn collector_deletes(&mut self, collection: Collection) {
        self.trace.line(self.now, || format!("collector deletes below {:?}", collection.start));
        for epoch in (1..=collection.start.epoch.0).map(Epoch) {
            let end = if epoch == collection.start.epoch { collection.start.slot } else { Slot(u64::MAX) };
            let request = BucketRequest::DeleteSlots { epoch, from: Slot(0), end };
            let verdict = deletes_what_a_manifest_dropped(&self.bucket, &request);
            self.judge(verdict);
            self.bucket.apply(&request);
        }
        let verdict = the_log_is_whole(&self.bucket);
        self.judge(verdict);
    }
}
