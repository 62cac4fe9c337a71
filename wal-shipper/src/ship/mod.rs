//! Drives the shipper machine: sessions to nodes, reads of the source, time.
//!
//! | file | what it does |
//! |---|---|
//! | `ring` | finds a node that answers, and speaks to nodes |
//! | `link` | one session: questions on its control lane, one lane per shard for chunks |
//! | `reads` | reads of the source on blocking threads |
//! | `driver` | inputs in, effects out |

mod driver;
mod held_back;
mod link;
mod reads;
mod ring;

pub use driver::{ShipError, ShipReport, Watcher, ship};
pub use ring::{Ring, RingError};
