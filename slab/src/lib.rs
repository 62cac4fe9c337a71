//! The slab: memory that a node writes and the readers of its host map read-only.
//!
//! The node appends records of committed batches, oldest overwritten first, and waits for nobody. A reader looks a record
//! up, copies it out, and only then asks whether it was whole: by the head that the node raises before it overwrites
//! anything, and by checksums. What was overwritten meanwhile is a miss. The crate knows memory and records. It knows no
//! session, no shard and no runtime.
//!
//! ```text
//! writer, reader      records in, records out
//! cut                 a chunk's batches as records
//! layout              where everything lies, word by word
//! map                 the memory itself; all unsafe code of the product
//! socket              messages and a descriptor over a Unix socket
//! host                which host this is
//! ```

pub mod cut;
pub mod host;
pub mod layout;
mod map;
pub mod reader;
pub mod socket;
pub mod writer;

pub use layout::RecordHead;
pub use reader::{MapError, Miss, SlabReader, Wanted, WholeRead};
pub use writer::Slab;
