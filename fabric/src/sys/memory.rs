//! Memory that a network card reads or writes: whole pages, mapped for as long as anything may still touch them.
//!
//! Landing memory is written by the card and only read here; send memory is written here and only read by the card.
//! Each has one owner, so that the two never happen at once on this side.
#![expect(unsafe_code, reason = "memory that a network card writes has no safe form")]

use std::io;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// Private pages of zeros.
pub(super) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the pages belong to the value, wherever it goes; who may touch them when is said by its two owners below.
unsafe impl Send for Mapping {}
// SAFETY: shared references give an address and a length, and no access.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn create(bytes: usize) -> io::Result<Arc<Self>> {
        // SAFETY: the system chooses an address that nothing of ours lies at, and maps all of it or nothing.
        let start =
            unsafe { mmap_anonymous(null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)? };
        let start = NonNull::new(start.cast()).expect("a mapping does not lie at address zero");
        let mapping = Arc::new(Self { start, bytes });
        // SAFETY: the pages are ours and just made. A child of fork does not need them, and sharing them with one would
        // give this process a copy that the card does not know.
        unsafe { madvise(mapping.start.as_ptr().cast(), bytes, Advice::LinuxDontFork)? };
        Ok(mapping)
    }

    pub(super) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped so, and every registration and every owner holds a handle. A failure leaks addresses.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// Where a peer's card writes.
pub(crate) struct LandingMemory(pub(super) Arc<Mapping>);

impl LandingMemory {
    /// Makes so many bytes.
    pub(crate) fn create(bytes: usize) -> io::Result<Self> {
        Mapping::create(bytes).map(Self)
    }

    /// How many it has.
    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// Its first bytes, of which the peer said that they are written.
    ///
    /// # Panics
    /// If there are not so many.
    pub(crate) fn written(&self, bytes: usize) -> &[u8] {
        assert!(bytes <= self.0.bytes(), "a landing is not longer than its memory");
        // SAFETY: the pages live as long as `self` and any bits are bytes. Nothing on this side ever writes them. The
        // peer has said that its write has ended, and writes once for each advert: a peer that lies about either could
        // as well have sent other bytes, and the reader's checksum is what it is believed by.
        unsafe { std::slice::from_raw_parts(self.0.start(), bytes) }
    }
}

/// What this side's card reads.
pub(crate) struct SendMemory(pub(super) Arc<Mapping>);

impl SendMemory {
    /// Makes so many bytes.
    pub(crate) fn create(bytes: usize) -> io::Result<Self> {
        Mapping::create(bytes).map(Self)
    }

    /// Copies bytes in. While a card reads the memory, the transfer owns it and nobody can call this.
    ///
    /// # Panics
    /// If they do not fit.
    pub(crate) fn copy_in(&mut self, at: usize, bytes: &[u8]) {
        assert!(at <= self.0.bytes() && bytes.len() <= self.0.bytes() - at, "the plan fits the buffer");
        // SAFETY: the target lies in the pages, which nothing else on this side reads or writes: they are reached by
        // `&mut self` only. The source is a slice of other memory.
        unsafe { self.0.start().add(at).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }
}
