//! Landings: where peers write, who has them, and when they may be used again.
//!
//! ```text
//! free ──landing()──> taken ──advert()──> expected ──filled()──> bytes ──drop──> free
//!                       │                    │  └─────unused()──────────────────> free
//!                       │                    └──arrived()──> looked at ──keep()──> bytes
//!                      drop                 drop, also at a deadline, and of what was looked at
//!                       └──> free            └──> spent ──the thread closes its key, and makes another──> free
//! ```
//! A landing that was advertised and not heard of may still be written at any moment, so its memory is not used again
//! before its registration is closed. Software that checks a key only where a write begins may go on writing after
//! that; there the memory itself is kept until the endpoint closes, and the landing gets other memory.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::advert::LandingAdvert;
use crate::bell::Bell;
use crate::counters::Counters;
use crate::error::FabricError;
use crate::sys::{LandingMemory, Region};

/// Memory with the registration that peers know it by.
pub(crate) struct Target {
    pub(crate) memory: LandingMemory,
    pub(crate) region: Region,
    pub(crate) key: u64,
    pub(crate) address: u64,
}

/// What handles, landings and the endpoint's thread share.
pub(crate) struct Pool {
    free: Mutex<Vec<Target>>,
    spent: Mutex<Vec<Target>>,
    expected: AtomicUsize,
    closed: AtomicBool,
    fabric_address: Vec<u8>,
    landing_bytes: u32,
    pub(crate) bell: Bell,
    pub(crate) counters: Arc<Counters>,
}

impl Pool {
    pub(crate) fn new(fabric_address: Vec<u8>, landing_bytes: u32, bell: Bell, targets: Vec<Target>) -> Self {
        Self {
            free: Mutex::new(targets),
            spent: Mutex::new(Vec::new()),
            expected: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            fabric_address,
            landing_bytes,
            bell,
            counters: Arc::default(),
        }
    }

    /// A free landing, now or not at all.
    pub(crate) fn take(self: &Arc<Self>) -> Result<Landing, FabricError> {
        if self.is_closed() {
            return Err(FabricError::Closed);
        }
        let lost = self.counters.landings_lost.load(Ordering::Relaxed);
        let lost = usize::try_from(lost).unwrap_or(usize::MAX);
        let target = lock(&self.free).pop().ok_or(FabricError::NoLanding { lost })?;
        Ok(Landing { target: Some(target), expected: false, pool: Arc::clone(self) })
    }

    /// Makes a landing free. After the endpoint was closed its memory goes instead.
    pub(crate) fn put_back(&self, target: Target) {
        if !self.is_closed() {
            lock(&self.free).push(target);
        }
    }

    /// Landings that wait for a new key.
    pub(crate) fn take_spent(&self) -> Vec<Target> {
        std::mem::take(&mut *lock(&self.spent))
    }

    /// Whether a peer may be writing.
    pub(crate) fn is_expecting(&self) -> bool {
        self.expected.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Asks the thread to end.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// Lets go of all memory that nobody holds.
    pub(crate) fn clear(&self) {
        lock(&self.free).clear();
        lock(&self.spent).clear();
    }
}

/// Nothing is left half-way by a panic under these locks: each is held for one push or pop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place for one answer. Dropping it is always right: what could still be written is not used again.
#[must_use]
pub struct Landing {
    /// There, until it is given away.
    target: Option<Target>,
    expected: bool,
    pool: Arc<Pool>,
}

impl Landing {
    /// How many bytes it takes.
    pub fn bytes(&self) -> usize {
        self.pool.landing_bytes as usize
    }

    /// What a peer needs to write it, once. From here on the landing is expected to be written.
    pub fn advert(&mut self) -> LandingAdvert {
        let target = self.target.as_ref().expect("a landing has its memory until it is consumed");
        if !self.expected {
            self.expected = true;
            self.pool.expected.fetch_add(1, Ordering::Relaxed);
            // The thread sleeps less deeply while something is expected.
            self.pool.bell.ring();
        }
        let fabric_address = self.pool.fabric_address.clone();
        LandingAdvert { fabric_address, key: target.key, address: target.address, bytes: self.pool.landing_bytes }
    }

    /// The bytes, after the peer said that it has placed so many, and that it is done. They are verified by the caller
    /// as bytes of any other path. The landing is free again when the last handle of them is dropped.
    pub fn filled(self, bytes: usize) -> Result<Bytes, FabricError> {
        Ok(self.arrived(bytes)?.keep())
    }

    /// As [`Self::filled`], for who verifies the bytes before they count as filled: what is dropped without being kept is
    /// not used again under its key.
    pub fn arrived(self, bytes: usize) -> Result<Arrived, FabricError> {
        if bytes > self.bytes() || !self.expected {
            return Err(FabricError::TooLong { bytes, room: if self.expected { self.bytes() } else { 0 } });
        }
        Ok(Arrived { landing: self, bytes })
    }

    /// Gives it back, after the peer said that it has written nothing and will not.
    pub fn unused(mut self) {
        let target = self.release();
        self.pool.put_back(target);
    }

    fn release(&mut self) -> Target {
        if std::mem::take(&mut self.expected) {
            self.pool.expected.fetch_sub(1, Ordering::Relaxed);
        }
        self.target.take().expect("a landing has its memory until it is consumed")
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if self.target.is_none() {
            return;
        }
        let expected = self.expected;
        let target = self.release();
        if !expected {
            self.pool.put_back(target);
        } else if !self.pool.is_closed() {
            Counters::add(&self.pool.counters.quarantined, 1);
            lock(&self.pool.spent).push(target);
            self.pool.bell.ring();
        }
    }
}

impl fmt::Debug for Landing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Landing")
            .field("bytes", &self.bytes())
            .field("expected", &self.expected)
            .finish_non_exhaustive()
    }
}

/// Bytes that a peer says it has placed, as long as nobody has looked whether they are what they should be.
#[must_use]
#[derive(Debug)]
pub struct Arrived {
    landing: Landing,
    bytes: usize,
}

impl Arrived {
    /// They are good. The landing is free again when the last handle of them is dropped.
    pub fn keep(mut self) -> Bytes {
        let target = self.landing.release();
        let pool = Arc::clone(&self.landing.pool);
        Bytes::from_owner(Filled { target: Some(target), bytes: self.bytes, pool })
    }
}

impl AsRef<[u8]> for Arrived {
    fn as_ref(&self) -> &[u8] {
        let target = self.landing.target.as_ref().expect("a landing has its memory until it is consumed");
        target.memory.written(self.bytes)
    }
}

/// The owner behind filled bytes.
struct Filled {
    target: Option<Target>,
    bytes: usize,
    pool: Arc<Pool>,
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        self.target.as_ref().expect("there until it is dropped").memory.written(self.bytes)
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        if let Some(target) = self.target.take() {
            self.pool.put_back(target);
        }
    }
}
