//! What can go wrong, in words that say what to do about it.

use std::io;

/// Why the fabric did not do what was asked. A reader never sees one of these: it is asked over QUIC instead.
#[derive(Debug, thiserror::Error)]
pub enum FabricError {
    /// Fix: install the library, or name its path.
    #[error(
        "no libfabric could be opened (tried {tried}): install libfabric {NEEDED} or newer (Debian: `apt-get install \
         libfabric1`; AWS: the EFA installer), or set its path"
    )]
    LibraryMissing {
        /// Names and paths, each with what the system said.
        tried: String,
    },
    /// Fix: install a newer library.
    #[error("libfabric {major}.{minor} is too old: install {NEEDED} or newer, for EFA 2.3 or newer")]
    LibraryTooOld {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// Fix: name another provider.
    #[error("provider {0:?} is not known to work: name one of efa, verbs;ofi_rxm, tcp;ofi_rxm, tcp, shm, sockets")]
    ProviderUnknown(String),
    /// Fix: the host's devices, drivers or permissions, or the setting.
    #[error("libfabric offers no {wanted} here: see `fi_info`; are the device, its driver and /dev/infiniband there?")]
    ProviderAbsent {
        /// What was looked for.
        wanted: String,
    },
    /// Fix: another provider.
    #[error("provider {provider} wants memory registered in a way that is not supported here: use another provider")]
    ProviderDemands {
        /// Its name.
        provider: String,
    },
    /// Fix: a newer library.
    #[error(
        "provider {provider} has no descriptor to wait on: install libfabric 2.5 or newer, \
         and for EFA set FI_EFA_ENABLE_SHM_TRANSFER=0"
    )]
    NoDescriptor {
        /// Its name.
        provider: String,
    },
    /// Fix: the settings.
    #[error("{what} must be between {min} and {max}")]
    Settings {
        /// Which.
        what: &'static str,
        /// Least.
        min: usize,
        /// Most.
        max: usize,
    },
    /// Fix: what the library's text names.
    #[error("{call} failed: {text} (error {code})")]
    Call {
        /// The library's function.
        call: &'static str,
        /// Its error number.
        code: i32,
        /// Its text.
        text: String,
    },
    /// Fix: raise the limit on locked memory, or have fewer or smaller buffers.
    #[error(
        "{bytes} bytes cannot be registered: {text}; raise the limit on locked memory (`ulimit -l`, LimitMEMLOCK, \
         CAP_IPC_LOCK)"
    )]
    Registration {
        /// How many.
        bytes: usize,
        /// The library's text.
        text: String,
    },
    /// Fix: memory, descriptors or threads of this process.
    #[error("the system refused {what}")]
    System {
        /// What was asked of it.
        what: &'static str,
        /// Its answer.
        #[source]
        source: io::Error,
    },
    /// Wait, or use QUIC for this request. If all are lost, reopen the endpoint.
    #[error("no landing is free ({lost} are lost until the endpoint is reopened): ask over QUIC")]
    NoLanding {
        /// Landings that could not be made safe after a deadline.
        lost: usize,
    },
    /// Wait, or answer inline.
    #[error("no send buffer is free: answer inline")]
    NoSendBuffer,
    /// Wait, or answer inline. If it lasts, reopen the endpoint.
    #[error("the endpoint has as much to do as it may: answer inline, and reopen it if this lasts")]
    Busy,
    /// Stop: this peer's advert is not to be believed.
    #[error("the advert is not one")]
    Advert(#[from] AdvertError),
    /// Fix: the caller. Nothing was written.
    #[error("{bytes} bytes do not fit a landing of {room}: answer inline")]
    TooLong {
        /// What was to be placed.
        bytes: usize,
        /// What the landing takes.
        room: usize,
    },
    /// Answer inline. The landing may have been written in part.
    #[error("the transfer failed: {text} (error {code}): the peer refused it or is gone; answer inline")]
    Transfer {
        /// The library's error number.
        code: i32,
        /// Its text.
        text: String,
    },
    /// Unknown: the bytes may have arrived, or may still. Answer inline; the reader has another landing for the next
    /// one.
    #[error("the transfer did not end in time, and may still happen: answer inline")]
    Deadline,
    /// Reopen it.
    #[error("the endpoint is closed: open another")]
    Closed,
}

/// The oldest library that is taken, for messages.
const NEEDED: &str = "1.17";

/// Why bytes are not an advert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AdvertError {
    /// Cut short, or longer than it says.
    #[error("it has another length than it says")]
    Length,
    /// A version of later days, or reserved bits that are set.
    #[error("it is of an unknown version")]
    Version,
    /// No address, or a longer one than there are.
    #[error("its address has {0} bytes")]
    Address(usize),
    /// No memory, or more than there is.
    #[error("its landing has {0} bytes")]
    Landing(usize),
    /// An address of another provider.
    #[error("its address is of another provider's form")]
    Provider,
}
