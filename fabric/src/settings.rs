//! Which fabric is meant, and what an endpoint is opened with.

use std::path::PathBuf;

use crate::error::FabricError;
use crate::limits::{BUFFERS_MAX, LANDING_BYTES_MAX};

/// Which fabric is meant, as far as a site says so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FabricChoice {
    /// The library; `None` for the first that is found.
    pub library: Option<PathBuf>,
    /// The provider; `None` for that of the host's card: `efa`, or else `verbs;ofi_rxm`. Those of software must be named.
    pub provider: Option<String>,
    /// The device; `None` for the library's first.
    pub domain: Option<String>,
    /// The own address, for providers whose addresses are of IP.
    pub source: Option<String>,
}

/// What an endpoint is opened with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSettings {
    /// The fabric. Its library has been opened when an endpoint is.
    pub choice: FabricChoice,
    /// Bytes of a landing: the largest answer that can be placed.
    pub landing_bytes: usize,
    /// Landings: as many answers can be expected, or held as bytes, at once. All are registered at start.
    pub landing_count: usize,
    /// Bytes of a send buffer, where the provider wants them.
    pub send_bytes: usize,
    /// Send buffers: what does not fit those that are free is refused.
    pub send_count: usize,
    /// Copies to send buffers even where the provider would send memory as it lies.
    pub always_copy: bool,
}

impl Default for EndpointSettings {
    /// 32 MiB for each direction: blocks of 1 MiB, 32 at once.
    fn default() -> Self {
        Self {
            choice: FabricChoice::default(),
            landing_bytes: 1 << 20,
            landing_count: 32,
            send_bytes: 1 << 20,
            send_count: 32,
            always_copy: false,
        }
    }
}

impl EndpointSettings {
    pub(crate) fn check(&self) -> Result<(), FabricError> {
        let within = |what, value: usize, min, max| {
            if (min..=max).contains(&value) { Ok(()) } else { Err(FabricError::Settings { what, min, max }) }
        };
        within("landing_bytes", self.landing_bytes, 1, LANDING_BYTES_MAX)?;
        within("landing_count", self.landing_count, 0, BUFFERS_MAX)?;
        within("send_bytes", self.send_bytes, 1, LANDING_BYTES_MAX)?;
        within("send_count", self.send_count, 0, BUFFERS_MAX)
    }
}
