//! Which bodies are in memory: past a bound the oldest lie in the journal only, and are read back when somebody needs
//! them. So a bucket that is away for long costs room in the journal, not memory (PROTOCOL R32).
//!
//! Decides nothing about safety: only durable bodies go, and an entry whose body is away never leaves the machine.

use bytes::Bytes;
use kennel_protocol::ids::{Epoch, Lsn};

use super::Shard;
use super::holdings::Holdings;
use super::io::Then;

/// Reads of the journal at one time: one for an upload, one for each of a few followers that lag.
const READS_MAX: usize = 4;

/// What is on its way from the journal, and what came.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    flying: Vec<(Epoch, Lsn)>,
    /// Bodies that came back and are not needed longer than the call that brought them.
    back: Vec<(Epoch, Lsn)>,
}

impl Reads {
    /// Drops what is being read already, and what is too much at once: whoever needs it asks again.
    pub(super) fn admit(&mut self, then: &mut Vec<Then>) {
        then.retain(|then| {
            let Then::Load { epoch, from, .. } = then else { return true };
            let admitted = self.flying.len() < READS_MAX && !self.flying.contains(&(*epoch, *from));
            if admitted {
                self.flying.push((*epoch, *from));
            }
            admitted
        });
    }
}

impl Shard {
    /// How many bytes of bodies it may keep in memory from now on, instead of `Sizes::resident_bytes_max`. What is more
    /// leaves with the next input. For journals that keep bodies.
    pub fn may_keep(&mut self, bytes: u64) {
        self.ground.config.sizes.resident_bytes_max = bytes;
    }

    /// Bytes of bodies that it keeps in memory.
    pub fn resident_bytes(&self) -> u64 {
        self.ground.holdings.resident()
    }
}

impl Holdings {
    /// Bytes of bodies in memory over all epochs; shared ones count in each.
    pub(crate) fn resident(&self) -> u64 {
        self.runs().map(|(_, run)| run.resident()).sum()
    }

    /// How many reads of the journal are on their way.
    pub(crate) fn reads_flying(&self) -> usize {
        self.reads().flying.len()
    }

    /// Takes bodies that came back. They stay for the call that takes them.
    pub(crate) fn loaded(&mut self, epoch: Epoch, from: Lsn, bodies: Vec<(Lsn, Bytes)>) {
        self.reads_mut().flying.retain(|read| *read != (epoch, from));
        let mut back = core::mem::take(&mut self.reads_mut().back);
        back.retain(|(epoch, lsn)| self.run(*epoch).is_some_and(|run| run.from() <= *lsn));
        self.reads_mut().back = back;
        for (lsn, body) in bodies {
            if self.run(epoch).is_some() && self.run_mut(epoch).put_back(lsn, body) {
                self.reads_mut().back.push((epoch, lsn));
            }
        }
    }

    /// Lets go of what is more than `most` bytes: first what was read back, then the oldest.
    pub(crate) fn let_go(&mut self, most: u64) {
        if self.resident() <= most {
            return;
        }
        for (epoch, lsn) in core::mem::take(&mut self.reads_mut().back) {
            if self.run(epoch).is_some() {
                self.run_mut(epoch).let_go(lsn);
            }
        }
        let mut excess = self.resident().saturating_sub(most);
        for (_, run) in self.runs_mut() {
            excess -= run.let_go_oldest(excess).min(excess);
        }
    }
}
