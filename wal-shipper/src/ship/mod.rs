//! Drives the shipper machine: sessions to nodes, reads of the source, time.
//!
//! | file | what it does |
//! |---|---|
//! | `ring` | finds a node that answers, and speaks to nodes |
//! | `link` | one session: questions on its control lane, one lane per shard for chunks |
//! | `reads` | reads of the source on blocking threads |
//! | `driver` | inputs in, effects out |
//! | `agree` | agrees on the next catalogue |

mod agree;
mod driver;
mod held_back;
mod link;
mod reads;
mod ring;

pub use agree::{AgreeError, CatalogChange, agree};
pub(crate) use driver::{Event, chain, channel, ship_events};
pub use driver::{ShipError, ShipReport, Watcher, ship};
pub(crate) use reads::Reads;
pub use ring::{Ring, RingError};
