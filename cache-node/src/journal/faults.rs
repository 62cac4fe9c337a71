//! A disk in memory that loses what was not synced, tears writes, fails on demand and can be made to wait.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};

use rustix::io::Errno;

use super::file::BlockFile;
use super::layout::BLOCK;

/// What a real disk writes as one: a crash tears between sectors, not inside.
const SECTOR: usize = 512;

/// A handle on the disk; clones are the same disk.
#[derive(Clone)]
pub(super) struct FaultyDisk(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    durable: Vec<u8>,
    /// What a read sees.
    cached: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
    fail_write: Option<Errno>,
    fail_sync: Option<Errno>,
    fail_read: Option<Errno>,
    held: bool,
    dead: bool,
    syncs: u64,
    /// Blocks that were reserved and never written, where the file system knows.
    blank: BTreeSet<usize>,
}

/// What a crash does to writes that were not synced.
#[derive(Debug, Clone, Copy)]
pub(super) enum Crash {
    /// The process died and the machine did not: nothing is lost.
    Process,
    /// The power failed: each unsynced sector arrived with this chance in percent.
    Power { arrived_percent: u64, seed: u64 },
}

impl FaultyDisk {
    pub(super) fn new(bytes: usize) -> Self {
        Self::holding(vec![0; bytes])
    }

    /// A disk whose space is only reserved.
    pub(super) fn reserved(bytes: usize) -> Self {
        let disk = Self::new(bytes);
        disk.0.0.lock().expect("no test panics under the lock").blank = (0..bytes / BLOCK).collect();
        disk
    }

    /// A disk on which these bytes are durable.
    pub(super) fn holding(bytes: Vec<u8>) -> Self {
        let state = State { durable: bytes.clone(), cached: bytes, ..State::default() };
        Self(Arc::new((Mutex::new(state), Condvar::new())))
    }

    /// Kills this disk (every later call fails) and returns what is found after the crash.
    pub(super) fn crash(&self, crash: Crash) -> Self {
        let mut state = self.0.0.lock().expect("no test panics under the lock");
        state.dead = true;
        self.0.1.notify_all();
        let Crash::Power { arrived_percent, mut seed } = crash else {
            return Self::holding(state.cached.clone());
        };
        let mut bytes = state.durable.clone();
        for (offset, written) in &state.unsynced {
            for (index, sector) in written.chunks(SECTOR).enumerate() {
                if random(&mut seed) % 100 < arrived_percent {
                    bytes[offset + index * SECTOR..][..sector.len()].copy_from_slice(sector);
                }
            }
        }
        Self::holding(bytes)
    }

    pub(super) fn fail_writes(&self, errno: Errno) {
        self.0.0.lock().expect("no test panics under the lock").fail_write = Some(errno);
    }

    pub(super) fn fail_syncs(&self, errno: Errno) {
        self.0.0.lock().expect("no test panics under the lock").fail_sync = Some(errno);
    }

    pub(super) fn fail_reads(&self, errno: Errno) {
        self.0.0.lock().expect("no test panics under the lock").fail_read = Some(errno);
    }

    pub(super) fn heal(&self) {
        let mut state = self.0.0.lock().expect("no test panics under the lock");
        (state.fail_write, state.fail_sync, state.fail_read) = (None, None, None);
    }

    /// Makes syncs wait until released.
    pub(super) fn hold(&self, held: bool) {
        self.0.0.lock().expect("no test panics under the lock").held = held;
        self.0.1.notify_all();
    }

    pub(super) fn syncs(&self) -> u64 {
        self.0.0.lock().expect("no test panics under the lock").syncs
    }

    /// The disk rots: these bytes are no longer what was written.
    pub(super) fn rot(&self, range: Range<usize>) {
        let mut state = self.0.0.lock().expect("no test panics under the lock");
        for index in range {
            state.durable[index] ^= 0x40;
            state.cached[index] ^= 0x40;
        }
    }

    /// What a process that starts now would read.
    pub(super) fn image(&self) -> Vec<u8> {
        self.0.0.lock().expect("no test panics under the lock").cached.clone()
    }

    /// Where `needle` is stored.
    pub(super) fn find(&self, needle: &[u8]) -> Option<usize> {
        let state = self.0.0.lock().expect("no test panics under the lock");
        state.cached.windows(needle.len()).position(|window| window == needle)
    }
}

impl BlockFile for FaultyDisk {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.0.0.lock().expect("no test panics under the lock");
        let offset = aligned(buffer, offset);
        if let Some(errno) = state.fail_read {
            return Err(errno.into());
        }
        buffer.copy_from_slice(&state.cached[offset..][..buffer.len()]);
        if state.dead { Err(Errno::IO.into()) } else { Ok(()) }
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.0.0.lock().expect("no test panics under the lock");
        let offset = aligned(bytes, offset);
        if state.dead {
            return Err(Errno::IO.into());
        }
        if let Some(errno) = state.fail_write {
            return Err(errno.into());
        }
        state.cached[offset..][..bytes.len()].copy_from_slice(bytes);
        let blocks = offset / BLOCK..(offset + bytes.len()) / BLOCK;
        state.blank.retain(|block| !blocks.contains(block));
        state.unsynced.push((offset, bytes.to_vec()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.0.0.lock().expect("no test panics under the lock");
        while state.held && !state.dead {
            state = self.0.1.wait(state).expect("no test panics under the lock");
        }
        if state.dead {
            return Err(Errno::IO.into());
        }
        if let Some(errno) = state.fail_sync {
            // Like Linux after a failed write-back: the pages count as clean, and the next sync would succeed.
            state.unsynced.clear();
            return Err(errno.into());
        }
        state.syncs += 1;
        for (offset, bytes) in std::mem::take(&mut state.unsynced) {
            state.durable[offset..][..bytes.len()].copy_from_slice(&bytes);
        }
        Ok(())
    }

    fn next_hole(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        let state = self.0.0.lock().expect("no test panics under the lock");
        let from = usize::try_from(from).expect("a test's disk is small") / BLOCK;
        let hole = run(state.blank.range(from..).copied());
        drop(state);
        if hole.is_some() {
            // Groups come in between where nothing keeps them away.
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        Ok(hole)
    }
}

/// The run of blocks that begins with the first one.
fn run(blocks: impl Iterator<Item = usize>) -> Option<Range<u64>> {
    let mut blocks = blocks.peekable();
    let first = *blocks.peek()?;
    let length = blocks.zip(first..).take_while(|(block, next)| block == next).count();
    Some((first * BLOCK) as u64..((first + length) * BLOCK) as u64)
}

fn aligned(bytes: &[u8], offset: u64) -> usize {
    let offset = usize::try_from(offset).expect("a test's disk is small");
    for aligned in [bytes.as_ptr().addr(), bytes.len(), offset] {
        assert!(aligned.is_multiple_of(BLOCK), "O_DIRECT would refuse this");
    }
    offset
}

/// Splitmix64: the same seed, the same crash.
pub(super) fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
