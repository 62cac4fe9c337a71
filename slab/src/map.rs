//! The memory itself: made and sealed by its writer, mapped read-only by everybody else, touched word by word.
//!
//! All unsafe code of the package is in this file. Both sides see the memory as atomic words, so that a reader who meets
//! words half-way through being overwritten has read old ones or new ones, and nothing undefined; a body is copied by an
//! instruction that the compiler does not look into. Whether words belong together is asked afterwards, elsewhere. It
//! knows no record.
#![expect(unsafe_code, reason = "mapping memory that another process writes has no safe form")]

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Bytes of a word.
pub(crate) const WORD_BYTES: usize = 8;

/// What a reader insists on: memory that could shrink would kill it with SIGBUS.
const SEALS_NEEDED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// What the writer seals besides: nobody maps the memory writable from then on, and nobody adds or takes seals.
const SEALS_MADE: SealFlags = SEALS_NEEDED.union(SealFlags::FUTURE_WRITE).union(SealFlags::SEAL);

/// A run of words that somebody else may write at any moment. It can be read and not written.
pub(crate) struct Words {
    start: NonNull<AtomicU64>,
    count: usize,
}

/// The writer's side: the only writable mapping there is.
pub(crate) struct OwnWords {
    words: Words,
    descriptor: OwnedFd,
}

// SAFETY: the mapping lives as long as the value, and is touched by atomic operations and `copy_words` only.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    /// Maps what another process shares, read-only. `bytes` is what it says the length is.
    pub(crate) fn map_shared(descriptor: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        if !fcntl_get_seals(descriptor)?.contains(SEALS_NEEDED) {
            return Err(io::Error::other("the memory is not sealed: it could shrink under its readers"));
        }
        if u64::try_from(fstat(descriptor)?.st_size).ok() != Some(bytes as u64) {
            return Err(io::Error::other("the memory is not as long as it is said to be"));
        }
        Self::map(descriptor, bytes, ProtFlags::READ)
    }

    fn map(descriptor: BorrowedFd<'_>, bytes: usize, protection: ProtFlags) -> io::Result<Self> {
        assert!(bytes > 0 && bytes.is_multiple_of(WORD_BYTES), "an area is a number of words");
        // SAFETY: the system chooses an address that nothing of ours lies at, and maps all of it or nothing.
        let start = unsafe { mmap(null_mut(), bytes, protection, MapFlags::SHARED, descriptor, 0)? };
        let start = NonNull::new(start.cast()).expect("a mapping does not lie at address zero");
        Ok(Self { start, count: bytes / WORD_BYTES })
    }

    fn all(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is so long, page-aligned, of a type that any bits are a value of, and sealed against
        // shrinking. Other processes write it, which atomic words allow. Reads of read-only memory are relaxed loads of a
        // word, which on 64-bit machines are plain instructions.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }

    /// One word. Whoever needs an order adds a fence: on read-only memory no other load is guaranteed.
    pub(crate) fn load(&self, at: usize) -> u64 {
        self.all()[at].load(Ordering::Relaxed)
    }

    /// Appends `bytes` bytes from word `at` on.
    ///
    /// # Panics
    /// If they do not lie in the area.
    pub(crate) fn copy_out(&self, at: usize, bytes: usize, out: &mut Vec<u8>) {
        let source = &self.all()[at..at + bytes.div_ceil(WORD_BYTES)];
        let length = out.len();
        out.reserve(bytes);
        let target = &mut out.spare_capacity_mut()[..bytes];
        let (words, tail) = target.split_at_mut(bytes / WORD_BYTES * WORD_BYTES);
        copy_words(&source[..bytes / WORD_BYTES], words);
        if !tail.is_empty() {
            let last = source[source.len() - 1].load(Ordering::Relaxed).to_ne_bytes();
            for (target, byte) in tail.iter_mut().zip(last) {
                target.write(byte);
            }
        }
        // SAFETY: every one of these bytes was written: whole words, and what is left.
        unsafe { out.set_len(length + bytes) };
    }
}

/// Copies words that another process may write meanwhile: what comes is checked by whoever reads it.
///
/// One instruction, which the processor does as fast as any copy. Atomic loads one by one, which is all that Rust has for
/// such memory, took 1.3 times as long for 100 KB. The fence keeps what is read afterwards from being read before.
#[cfg(target_arch = "x86_64")]
fn copy_words(source: &[AtomicU64], target: &mut [MaybeUninit<u8>]) {
    let bytes = source.len() * WORD_BYTES;
    assert!(target.len() == bytes, "as many bytes as there are words");
    // SAFETY: reads `bytes` bytes of the mapping that `source` borrows and writes as many of `target`, which nobody else
    // has. What another process does to the source meanwhile the compiler cannot see, as with any I/O. The direction flag
    // is clear, as the calling convention says.
    unsafe {
        core::arch::asm!(
            "rep movsb",
            "lfence",
            inout("rcx") bytes => _,
            inout("rsi") source.as_ptr() => _,
            inout("rdi") target.as_mut_ptr() => _,
            options(nostack, preserves_flags),
        );
    }
}

/// Copies words that another process may write meanwhile: what comes is checked by whoever reads it.
#[cfg(not(target_arch = "x86_64"))]
fn copy_words(source: &[AtomicU64], target: &mut [MaybeUninit<u8>]) {
    // Eight at a time: the inner loop has no end to look for.
    let (lines, rest) = source.as_chunks::<8>();
    let (line_targets, rest_targets) = target.split_at_mut(lines.len() * 8 * WORD_BYTES);
    for (line, target) in lines.iter().zip(line_targets.as_chunks_mut::<{ 8 * WORD_BYTES }>().0) {
        for (word, target) in line.iter().zip(target.as_chunks_mut::<WORD_BYTES>().0) {
            *target = word.load(Ordering::Relaxed).to_ne_bytes().map(MaybeUninit::new);
        }
    }
    for (word, target) in rest.iter().zip(rest_targets.as_chunks_mut::<WORD_BYTES>().0) {
        *target = word.load(Ordering::Relaxed).to_ne_bytes().map(MaybeUninit::new);
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: it was mapped so, and nothing borrowed from it outlives it. A failure leaks addresses, no more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.count * WORD_BYTES) };
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Words").field("count", &self.count).finish_non_exhaustive()
    }
}

impl OwnWords {
    /// Makes an area of zeros, and seals it: from here on nobody else can write it, make it longer or shorter.
    pub(crate) fn create(bytes: usize) -> io::Result<Self> {
        let descriptor = memfd_create("kennel-slab", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&descriptor, bytes as u64)?;
        let words = Words::map(descriptor.as_fd(), bytes, ProtFlags::READ | ProtFlags::WRITE)?;
        fcntl_add_seals(&descriptor, SEALS_MADE)?;
        Ok(Self { words, descriptor })
    }

    /// What readers map.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// The words, for reading.
    pub(crate) fn words(&self) -> &Words {
        &self.words
    }

    /// Sets one word, in no order with others.
    pub(crate) fn store(&self, at: usize, word: u64) {
        self.words.all()[at].store(word, Ordering::Relaxed);
    }

    /// Sets one word after everything that was stored before: who sees it sees that, too.
    pub(crate) fn publish(&self, at: usize, word: u64) {
        self.words.all()[at].store(word, Ordering::Release);
    }

    /// Copies bytes in from word `at` on. The last word is filled up with zeros.
    ///
    /// # Panics
    /// If they do not fit the area.
    pub(crate) fn copy_in(&self, at: usize, bytes: &[u8]) {
        let target = &self.words.all()[at..at + bytes.len().div_ceil(WORD_BYTES)];
        let (whole, rest) = bytes.as_chunks::<WORD_BYTES>();
        for (word, bytes) in target.iter().zip(whole) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        if let Some(last) = target.get(whole.len()) {
            let mut padded = [0; WORD_BYTES];
            padded[..rest.len()].copy_from_slice(rest);
            last.store(u64::from_ne_bytes(padded), Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for OwnWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.words.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_any_length_come_out_as_they_went_in() {
        let area = OwnWords::create(4096).expect("memory");
        let shared = Words::map_shared(area.descriptor(), 4096).expect("the same memory");
        for length in (0..200).chain([511, 512, 513, 1000]) {
            let bytes: Vec<u8> = (0..length).map(|byte: usize| byte.to_le_bytes()[0] ^ 0x5a).collect();
            area.copy_in(3, &bytes);
            let mut out = b"before".to_vec();
            shared.copy_out(3, length, &mut out);
            assert_eq!(out, [b"before", &bytes[..]].concat(), "{length}");
        }
    }

    #[test]
    fn nobody_else_maps_it_writable_or_makes_it_shorter() {
        let area = OwnWords::create(8192).expect("memory");
        let descriptor = area.descriptor();
        let writable = Words::map(descriptor, 8192, ProtFlags::READ | ProtFlags::WRITE);
        assert_eq!(writable.expect_err("it is sealed").kind(), io::ErrorKind::PermissionDenied);
        assert!(rustix::io::write(descriptor, b"x").is_err(), "it is sealed");
        assert!(ftruncate(descriptor, 0).is_err() && ftruncate(descriptor, 16384).is_err(), "it is sealed");
        assert!(fcntl_add_seals(descriptor, SealFlags::WRITE).is_err(), "seals are sealed");
        // A way to the same memory by another name changes nothing: the seals are the memory's own.
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&descriptor));
        if let Ok(again) = rustix::fs::open(path, rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty()) {
            assert!(Words::map(again.as_fd(), 8192, ProtFlags::READ | ProtFlags::WRITE).is_err());
        }
        area.store(0, 7);
        let shared = Words::map_shared(descriptor, 8192).expect("readers may map it");
        assert_eq!(shared.load(0), 7);
        // SAFETY: asks for more rights on a mapping of ours that nothing is borrowed from; it must be refused.
        let widened = unsafe {
            rustix::mm::mprotect(
                shared.start.as_ptr().cast(),
                8192,
                rustix::mm::MprotectFlags::READ | rustix::mm::MprotectFlags::WRITE,
            )
        };
        assert!(widened.is_err(), "a read-only mapping stays one");
    }

    #[test]
    fn readers_refuse_memory_that_could_shrink() {
        let unsealed = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("memory");
        ftruncate(&unsealed, 4096).expect("a length");
        assert!(Words::map_shared(unsealed.as_fd(), 4096).is_err());
        let area = OwnWords::create(4096).expect("memory");
        assert!(Words::map_shared(area.descriptor(), 8192).is_err(), "it is shorter than that");
    }
}
