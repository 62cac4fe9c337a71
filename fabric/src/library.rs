//! The library: looked for, opened, and asked what it offers.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::error::FabricError;
use crate::sys::{Code, Offer, RawEndpoint, Symbols, Wish, offers};

/// The oldest library that is taken: the one that the binding was checked against.
const VERSION_MIN: (u32, u32) = (1, 17);

/// Where to look, in this order. The name is looked for where the system's linker does.
const PLACES: [&str; 3] =
    ["libfabric.so.1", "/opt/amazon/efa/lib/libfabric.so.1", "/opt/amazon/efa/lib64/libfabric.so.1"];

/// Providers with a network card below them, in order of preference: used unasked.
pub(crate) const PROVIDERS_HARDWARE: [&str; 2] = ["efa", "verbs;ofi_rxm"];

/// Providers of software: used only when they are named.
const PROVIDERS_SOFTWARE: [&str; 4] = ["tcp;ofi_rxm", "tcp", "shm", "sockets"];

/// An open libfabric.
#[derive(Clone)]
pub struct Library {
    pub(crate) symbols: Arc<Symbols>,
    path: PathBuf,
}

/// What a provider offers on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Provider {
    /// Its name, such as `verbs;ofi_rxm`.
    pub name: String,
    /// The fabric's name, such as `efa-direct`.
    pub fabric: String,
    /// The device's name.
    pub domain: String,
    /// How it wants memory: any of `local`, `virtual addresses`, `allocated`, `its own keys`, and `unknown`.
    pub memory: Vec<&'static str>,
    /// Bytes of one write at most.
    pub write_bytes_max: usize,
    /// Whether a thread can sleep until something happens.
    pub can_wait: bool,
}

impl Library {
    /// Opens the library at this path, or else the first of the places where it usually lies.
    pub fn load(path: Option<&Path>) -> Result<Self, FabricError> {
        let places = path.map_or_else(|| PLACES.iter().map(PathBuf::from).collect(), |path| vec![path.to_owned()]);
        let mut tried = Vec::new();
        for path in places {
            match Symbols::open(&path) {
                Ok(symbols) => return Self::checked(symbols, path),
                Err(error) => tried.push(format!("{}: {error}", path.display())),
            }
        }
        Err(FabricError::LibraryMissing { tried: tried.join("; ") })
    }

    fn checked(symbols: Symbols, path: PathBuf) -> Result<Self, FabricError> {
        let (major, minor) = symbols.version();
        if (major, minor) < VERSION_MIN {
            return Err(FabricError::LibraryTooOld { major, minor });
        }
        Ok(Self { symbols: Arc::new(symbols), path })
    }

    /// Major and minor number.
    pub fn version(&self) -> (u32, u32) {
        self.symbols.version()
    }

    /// The name or path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it offers of the providers that are known to work, each device once.
    pub fn providers(&self) -> Result<Vec<Provider>, FabricError> {
        let found = offers(&self.symbols, Wish::default()).map_err(|code| self.error("fi_getinfo", code))?;
        let mut providers: Vec<Provider> = Vec::new();
        for offer in found {
            let provider = Provider::new(&offer, false);
            let same = |known: &Provider| Provider { can_wait: false, ..known.clone() } == provider;
            if is_known(&provider.name) && !providers.iter().any(same) {
                providers.push(Provider { can_wait: RawEndpoint::can_wait(offer), ..provider });
            }
        }
        Ok(providers)
    }

    pub(crate) fn error(&self, call: &'static str, code: Code) -> FabricError {
        FabricError::Call { call, code: code.0, text: self.symbols.text(code) }
    }
}

impl Provider {
    pub(crate) fn new(offer: &Offer, can_wait: bool) -> Self {
        let mode = offer.memory_mode();
        let needs = [
            (mode.local, "local"),
            (mode.virtual_addresses, "virtual addresses"),
            (mode.allocated, "allocated"),
            (mode.provider_keys, "its own keys"),
            (mode.unknown, "unknown"),
        ];
        Self {
            name: offer.provider(),
            fabric: offer.fabric(),
            domain: offer.domain(),
            memory: needs.into_iter().filter_map(|(needed, name)| needed.then_some(name)).collect(),
            write_bytes_max: offer.write_bytes_max(),
            can_wait,
        }
    }

    /// Whether closing a registration also ends a write that has begun. Cards look every packet up; software looks
    /// once, and EFA without `efa-direct` may be software.
    pub(crate) fn ends_writes_on_close(&self) -> bool {
        self.name == "verbs;ofi_rxm" || self.fabric == "efa-direct"
    }

    /// Whether a peer may be forgotten while something is under way to it. The shared-memory provider of libfabric 1.17
    /// then follows a pointer into nothing.
    pub(crate) fn forgets_busy_peers(&self) -> bool {
        self.name != "shm"
    }

    /// Whether a thread may poll it without sleeping: for tests on a machine without anything better.
    pub(crate) fn may_be_polled(&self) -> bool {
        self.name == "shm"
    }
}

/// Whether a provider is one of those that are known to work.
pub(crate) fn is_known(provider: &str) -> bool {
    PROVIDERS_HARDWARE.contains(&provider) || PROVIDERS_SOFTWARE.contains(&provider)
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Library").field("path", &self.path).field("version", &self.version()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_the_library_says_what_to_install() {
        let error = Library::load(Some(Path::new("/nowhere/libfabric.so.1"))).expect_err("it is not there");
        assert!(error.to_string().contains("install libfabric 1.17 or newer"), "{error}");
        assert!(error.to_string().contains("/nowhere/libfabric.so.1"), "{error}");
    }

    #[test]
    fn another_library_is_not_taken_for_it() {
        let error = Library::load(Some(Path::new("libc.so.6"))).expect_err("it has no such functions");
        assert!(matches!(error, FabricError::LibraryMissing { .. }), "{error}");
    }

    #[test]
    fn card_providers_are_used_unasked_and_software_when_named() {
        assert!(is_known("efa") && is_known("tcp;ofi_rxm") && is_known("shm"));
        assert!(!is_known("net") && !is_known("udp;ofi_rxd") && !is_known(""));
        assert!(PROVIDERS_SOFTWARE.iter().all(|software| !PROVIDERS_HARDWARE.contains(software)));
    }
}
