//! libfabric as C sees it, and the thinnest layer that makes it safe. All unsafe code of the crate is below here.
//!
//! Only what is used is declared. Structures are taken from the library and never made here, except for the few that
//! are passed by value of their pointer and have not changed since libfabric 1.0, so that a newer library may append
//! fields to its own. The rest of the crate sees owned things whose memory outlives what the network card may do to it.

mod abi;
mod memory;
mod offer;
mod raw;
mod symbols;
mod vtable;

pub(crate) use memory::{LandingMemory, SendMemory};
pub(crate) use offer::{AddressForm, Offer, Wish, offers};
pub(crate) use raw::{Done, Kind, Payload, Peer, RawEndpoint, Region, Remote, Transfer};
pub(crate) use symbols::Symbols;

/// What libfabric's functions return: zero, or a negative number that `fi_strerror` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code(pub(crate) i32);

impl Code {
    /// Not now; ask again after progress was made.
    pub(crate) const AGAIN: Self = Self(11);
    /// There is nothing of that kind here.
    pub(crate) const NOTHING: Self = Self(61);
    /// There was a connection, and it is broken.
    pub(crate) const NOT_CONNECTED: Self = Self(107);
    /// An error waits in the completion queue.
    pub(crate) const ERROR_AVAILABLE: Self = Self(259);
    /// The key is taken, or unknown.
    pub(crate) const KEY: Self = Self(266);

    /// From a return value: `Ok` for zero and above.
    pub(crate) fn check(returned: i64) -> Result<u64, Self> {
        u64::try_from(returned).map_err(|_| Self(i32::try_from(-returned).unwrap_or(i32::MAX)))
    }
}
