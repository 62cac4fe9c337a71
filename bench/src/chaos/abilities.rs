//! What this machine permits: looked at once, by doing it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::command::run;
use super::disk;
use super::network::{self, Kind, LossBy};
use super::schedule::{LinkTrouble, Possible};

/// What can be done here, and why the rest cannot.
#[derive(Debug, Clone)]
pub(super) struct Abilities {
    pub(super) network: Kind,
    pub(super) loss_by: LossBy,
    pub(super) own_disks: bool,
    /// Whether a process can start with another idea of the time since boot.
    pub(super) shifted_clocks: bool,
    pub(super) possible: Possible,
    pub(super) skipped: Skipped,
}

/// What cannot be done, and why.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(transparent)]
pub struct Skipped(pub BTreeMap<&'static str, String>);

impl Skipped {
    fn look<T>(&mut self, what: &'static str, tried: anyhow::Result<T>) -> Option<T> {
        tried.map_err(|error| self.0.insert(what, format!("{error:#}"))).ok()
    }
}

impl Abilities {
    /// Tries everything once, in `scratch` where a directory is needed.
    ///
    /// # Cancel safety
    /// What was tried is undone.
    pub(super) async fn look(scratch: &Path, plain: bool) -> Self {
        let mut skipped = Skipped::default();
        let refuse = |what: &'static str, skipped: &mut Skipped| {
            skipped.look::<()>(what, Err(anyhow::anyhow!("not asked for (--plain)")));
        };
        if plain {
            for what in ["namespaces and partitions", "own disks", "slow disks", "packet loss", "shifted clocks"] {
                refuse(what, &mut skipped);
            }
            return Self::none(skipped);
        }
        let namespaces = skipped.look("namespaces and partitions", network::probe().await).is_some();
        let loss = LinkTrouble::Loss { percent: 1 };
        let (mut by_netem, mut by_filter, mut delay, mut narrow) = (false, false, false, false);
        if namespaces {
            by_netem = network::probe_trouble(loss, LossBy::Netem).await.is_ok();
            if !by_netem {
                let filter = network::probe_trouble(loss, LossBy::Filter).await;
                by_filter = skipped.look("packet loss", filter).is_some();
            }
            let delayed = network::probe_trouble(LinkTrouble::Delay { millis: 1 }, LossBy::Netem).await;
            delay = skipped.look("packet delay and reordering", delayed).is_some();
            let thin = LinkTrouble::Narrow { kilobits_per_second: 1_000 };
            narrow = skipped.look("narrow links", network::probe_trouble(thin, LossBy::Netem).await).is_some();
        }
        let disks = skipped.look("own disks, full disks", disk::probe(scratch).await);
        let own_disks = disks.is_some();
        let slow_disk = disks.is_some_and(|slow| skipped.look("slow disks", slow).is_some());
        let clocks = run("unshare --time --monotonic 1000 --boottime 1000 true").await;
        let shifted_clocks = skipped.look("shifted monotonic clocks", clocks).is_some();
        skipped.0.insert("shifted wall clocks", "the kernel has one wall clock for all processes".to_owned());
        let possible =
            Possible { cuts: namespaces, loss: by_netem || by_filter, delay, narrow, full_disk: own_disks, slow_disk };
        let network = if namespaces { Kind::Namespaces } else { Kind::Loopback };
        let loss_by = if by_netem { LossBy::Netem } else { LossBy::Filter };
        Self { network, loss_by, own_disks, shifted_clocks, possible, skipped }
    }

    fn none(skipped: Skipped) -> Self {
        let possible =
            Possible { cuts: false, loss: false, delay: false, narrow: false, full_disk: false, slow_disk: false };
        Self {
            network: Kind::Loopback,
            loss_by: LossBy::Filter,
            own_disks: false,
            shifted_clocks: false,
            possible,
            skipped,
        }
    }
}
