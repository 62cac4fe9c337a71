//! What a run must never show.

use std::fmt;

use kennel_protocol::ids::PartitionKey;
use serde::{Serialize, Serializer};

/// One broken promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "violation", rename_all = "snake_case")]
pub enum Violation {
    /// Messages that were acknowledged, or that a reader saw, are not there any more.
    Lost {
        /// Whose.
        #[serde(serialize_with = "as_text")]
        partition: PartitionKey,
        /// First that is missing.
        from: u64,
        /// End of what was acknowledged.
        acknowledged: u64,
    },
    /// Messages that were acknowledged are not served by a node that others serve them, and nothing is in its way.
    Stale {
        /// Whose.
        #[serde(serialize_with = "as_text")]
        partition: PartitionKey,
        /// Where the node's knowledge ends.
        from: u64,
        /// End of what was acknowledged.
        acknowledged: u64,
    },
    /// A reader was moved over messages.
    Gap {
        /// Whose.
        #[serde(serialize_with = "as_text")]
        partition: PartitionKey,
        /// What was due.
        due: u64,
        /// What came.
        came: u64,
    },
    /// A reader got a message again.
    Duplicate {
        /// Whose.
        #[serde(serialize_with = "as_text")]
        partition: PartitionKey,
        /// What was due.
        due: u64,
        /// What came.
        came: u64,
    },
    /// Other bytes than the source wrote there.
    OtherBytes {
        /// Whose.
        #[serde(serialize_with = "as_text")]
        partition: PartitionKey,
        /// Where.
        offset: u64,
        /// Which part differs.
        what: &'static str,
    },
    /// A message that the source has not written.
    Invented {
        /// Whose.
        #[serde(serialize_with = "as_text")]
        partition: PartitionKey,
        /// Where.
        offset: u64,
        /// End of what the source had written.
        written: u64,
    },
    /// A declared hole, where the source has none and nothing was given up.
    Hole {
        /// Whose.
        #[serde(serialize_with = "as_text")]
        partition: PartitionKey,
        /// First offset.
        from: u64,
        /// End.
        to: u64,
    },
    /// The ring told a reader that its history is not the ring's, or that data is damaged.
    Denied {
        /// Whose.
        #[serde(serialize_with = "as_text")]
        partition: PartitionKey,
        /// Where the reader was.
        offset: u64,
        /// What it was told.
        said: String,
    },
    /// Less is in the bucket than was shipped, although nothing is in the way any more.
    NotStored {
        /// Whose.
        #[serde(serialize_with = "as_text")]
        partition: PartitionKey,
        /// End of what is stored.
        stored: u64,
        /// End of what was shipped.
        shipped: u64,
    },
    /// The comparison with the source's files found something that the readers did not.
    Differs {
        /// What, in words.
        what: String,
    },
    /// Something does not come back although nothing is in its way any more.
    Stuck {
        /// What.
        what: String,
    },
    /// A shipper stopped a partition of a source that is sound.
    ShipperStopped {
        /// Why, as it said.
        said: String,
    },
    /// A program panicked.
    Panicked {
        /// Which.
        program: String,
        /// What its log says.
        said: String,
    },
}

fn as_text<S: Serializer>(partition: &PartitionKey, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(partition)
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { partition, from, acknowledged } => {
                write!(f, "LOST {partition}: [{from}, {acknowledged}) was acknowledged and is gone")
            }
            Self::Stale { partition, from, acknowledged } => {
                write!(f, "STALE {partition}: [{from}, {acknowledged}) is served by some nodes and not by others")
            }
            Self::Gap { partition, due, came } => write!(f, "GAP {partition}: {came} came where {due} was due"),
            Self::Duplicate { partition, due, came } => {
                write!(f, "DUPLICATE {partition}: {came} came again where {due} was due")
            }
            Self::OtherBytes { partition, offset, what } => {
                write!(f, "OTHER BYTES {partition}: {what} at {offset} is not the source's")
            }
            Self::Invented { partition, offset, written } => {
                write!(f, "INVENTED {partition}: {offset} came, the source ended at {written}")
            }
            Self::Hole { partition, from, to } => write!(f, "HOLE {partition}: [{from}, {to}) was declared"),
            Self::Denied { partition, offset, said } => write!(f, "DENIED {partition}: at {offset}: {said}"),
            Self::NotStored { partition, stored, shipped } => {
                write!(f, "NOT STORED {partition}: [{stored}, {shipped})")
            }
            Self::Differs { what } => write!(f, "DIFFERS {what}"),
            Self::Stuck { what } => write!(f, "STUCK {what}"),
            Self::ShipperStopped { said } => write!(f, "SHIPPER STOPPED {said}"),
            Self::Panicked { program, said } => write!(f, "PANICKED {program}: {said}"),
        }
    }
}
