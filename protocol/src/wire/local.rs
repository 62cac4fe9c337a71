//! The offer of memory to a reader on the node's own host. What is said over the socket itself: [`crate::local`].

use core::fmt;

use rkyv::{Archive, Deserialize, Serialize};

use crate::ids::{HostId, SlabId};

/// A reader asks for the memory that the node shares with its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct LocalRequest {
    /// The reader's host.
    pub host: HostId,
}

/// Where to get it.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct LocalOffer {
    /// `None` where the node shares nothing, or not with this reader.
    pub socket: Option<LocalSocket>,
}

/// A door and a key to it.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct LocalSocket {
    /// The Unix socket's path, as the node's own file system has it.
    pub path: String,
    /// To be shown there, once and within seconds.
    pub token: LocalToken,
    /// The slab that is got there.
    pub slab: SlabId,
}

/// 128 random bits that open a node's local socket once. They are not shown in logs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Archive, Serialize, Deserialize)]
pub struct LocalToken(pub u128);

impl fmt::Debug for LocalToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalToken(..)")
    }
}

impl fmt::Debug for ArchivedLocalToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalToken(..)")
    }
}
