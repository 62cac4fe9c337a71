//! What is broken on purpose in a world: a rule inside the machines, or one that their driver has to keep.

use kennel_core::shard::{Flaw, Flaws};

/// A rule that the world around the machines breaks on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverFlaw {
    /// R24: a collector deletes without looking for a newer claim.
    DeletesUnvalidated,
    /// R24: a collector deletes seals with everything else.
    DeletesSeals,
    /// R12: effects start before their records are durable.
    ActsBeforeTheDisk,
    /// DESIGN 2.2: what readers are to see overtakes what waits for the disk.
    ShowsOutOfOrder,
    /// R9: answers to seals leave before the promise is durable.
    SealAnswersLeaveEarly,
    /// R11: whenever a journal may forget something of an epoch it forgets all of it.
    JournalForgetsAll,
    /// R5: a journal that lost everything keeps its id.
    AmnesiacKeepsItsId,
    /// R4: a process that restarts has the id of the one before.
    RestartKeepsTheProcess,
    /// R22: the newest manifest is looked up once per process.
    CachesManifests,
    /// R30: the bucket lets two create one name.
    BucketOverwrites,
}

/// What is broken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Broken {
    /// Nothing.
    #[default]
    Nothing,
    /// A rule of the machines.
    Core(Flaw),
    /// A rule of their driver.
    Driver(DriverFlaw),
}

impl Broken {
    /// Whether the driver breaks this rule.
    pub fn breaks(self, flaw: DriverFlaw) -> bool {
        self == Self::Driver(flaw)
    }

    /// What the machines break.
    pub fn flaws(self) -> Flaws {
        match self {
            Self::Core(flaw) => Flaws::only(flaw),
            Self::Nothing | Self::Driver(_) => Flaws::NONE,
        }
    }
}
