//! Where batches come from: the data directory of an Iggy server.
//!
//! | file | what it does |
//! |---|---|
//! | `scan` | finds partitions and their segment files |
//! | `filter` | chooses among them by id or name |
//! | `mapping` | gives ids their names, and makes the catalogue |
//! | `catalog` | says what there is, by name |
//! | `segments` | reads one partition in order: rotation, holes, torn tails, damage |
//! | `segment_file` | reads whole, verified batches out of one file |
//! | `index_hint` | finds a place near an offset without reading what is before it |

mod catalog;
mod filter;
mod index_hint;
mod mapping;
mod scan;
mod segment_file;
mod segments;

pub use catalog::catalog;
pub use filter::{Filter, FilterError};
pub use mapping::{Mapping, MappingError};
pub use scan::{FoundPartition, ScanError, SegmentName, find, scan};
pub use segments::{PartitionReader, SourceRead};
