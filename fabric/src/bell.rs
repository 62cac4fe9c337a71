//! A bell for the endpoint's thread: rung by anybody, heard in the same wait as the fabric's own descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::time::Timespec;

/// The bell.
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Rings. Ringing twice before it is heard is ringing once.
    pub(crate) fn ring(&self) {
        // It fails only where it was rung as often as a number can count, and then it is ringing.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Sleeps until it rings, the other descriptor has something, or the time is over; silences it.
    pub(crate) fn wait(&self, other: Option<BorrowedFd<'_>>, at_most: Duration) {
        let mut descriptors = vec![PollFd::new(&self.0, PollFlags::IN)];
        let other = other.as_ref().map(AsFd::as_fd);
        descriptors.extend(other.map(|other| PollFd::from_borrowed_fd(other, PollFlags::IN)));
        let timeout = Timespec { tv_sec: 0, tv_nsec: at_most.min(Duration::from_millis(999)).subsec_nanos().into() };
        // An interrupted wait is a short one: its caller looks round and waits again.
        let _ = poll(&mut descriptors, Some(&timeout));
        let _ = rustix::io::read(&self.0, &mut [0_u8; 8]);
    }
}
