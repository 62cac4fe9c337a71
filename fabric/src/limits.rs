//! Everything that has a limit, and why it has that one.

/// A fabric address in an advert. EFA has 32 bytes, sockets at most 28; the shared-memory provider's text is the
/// longest.
pub const ADDRESS_BYTES_MAX: usize = 256;

/// A landing. Blocks are some MiB at most, and the length travels in 32 bits.
pub const LANDING_BYTES_MAX: usize = 1 << 30;

/// Landings of an endpoint, and send buffers of one: a registration each, of which cards have some thousands for sure.
pub const BUFFERS_MAX: usize = 4096;

/// Commands that wait for an endpoint's thread. It takes them in microseconds; more than this is a thread that is
/// stuck.
pub const COMMANDS_MAX: usize = 1024;

/// Placements in progress, those that nobody waits for any more included. Beyond it, the endpoint is better reopened.
pub const PLACEMENTS_MAX: usize = 1024;

/// Pieces of one placement: a block is one, or some batches.
pub const PIECES_MAX: usize = 1024;

/// Peers in the address vector. A cluster's readers; the one that was not used for longest is forgotten first.
pub const PEERS_MAX: usize = 1024;

/// How often random keys are tried where one is taken: of 64 bits, once is enough.
pub(crate) const KEY_ATTEMPTS: usize = 4;
