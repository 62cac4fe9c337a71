//! The endpoint's one thread: takes commands, makes progress, keeps deadlines, gives landings new keys.
//!
//! It alone touches the library. It sleeps on the completion queue's descriptor and on a bell, and wakes by itself
//! every few milliseconds while something is awaited: a completion that a library forgot to announce must not be waited
//! for for ever.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::counters::Counters;
use crate::landing::{Pool, Target};
use crate::open::register;
use crate::placements::{Command, Placements};
use crate::sys::{Done, LandingMemory, RawEndpoint};

/// How long the thread sleeps at most while something is awaited. Where descriptors work it is woken long before.
const TICK: Duration = Duration::from_millis(5);

/// How long it sleeps at most else: some providers take connections without an event.
const IDLE_TICK: Duration = Duration::from_millis(250);

/// How long it pauses between two looks where the provider has no descriptor.
const POLL_PAUSE: Duration = Duration::from_micros(20);

/// The thread's state.
pub(crate) struct Driver {
    pub(crate) raw: RawEndpoint,
    pub(crate) pool: Arc<Pool>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) placements: Placements,
    /// Whether a closed registration ends a write that has begun.
    pub(crate) ends_writes_on_close: bool,
    /// Memory that a write which has begun may still go to. Let go of when everything is closed.
    pub(crate) retired: Vec<LandingMemory>,
    /// As many as there are landings: what is locked is at most twice what was asked for.
    pub(crate) retired_max: usize,
}

impl Driver {
    /// Works until the endpoint is closed, or the library's queue is broken.
    pub(crate) fn run(mut self) {
        let pool = Arc::clone(&self.pool);
        let mut done: Vec<Done> = Vec::new();
        while !pool.is_closed() {
            let now = Instant::now();
            while let Ok(command) = self.commands.try_recv() {
                self.placements.start(&mut self.raw, &pool.counters, command, now);
            }
            self.placements.post(&mut self.raw, &pool.counters, now);
            if self.raw.poll(&mut done).is_err() {
                break;
            }
            // What failed may be tried again, after a pause.
            let quiet = done.iter().all(|done| done.result.is_err());
            self.placements.finish(&pool.counters, done.drain(..), now);
            for target in pool.take_spent() {
                self.renew(target);
            }
            self.placements.expire(&mut self.raw, &pool.counters, Instant::now());
            if quiet {
                self.sleep();
            }
        }
        pool.close();
        let Self { raw, placements, .. } = self;
        // Everything is closed before memory is let go of, and before anybody hears of it.
        drop(raw);
        pool.clear();
        placements.close();
    }

    /// Closes a landing's key, and makes the landing free under another.
    fn renew(&mut self, target: Target) {
        let Target { memory, region, .. } = target;
        // What cannot be closed keeps its memory, and the landing is lost.
        let memory = self.raw.deregister(region).ok().and_then(|()| self.safe_memory(memory));
        match memory.and_then(|memory| register(&mut self.raw, memory).ok()) {
            Some(target) => self.pool.put_back(target),
            None => Counters::add(&self.pool.counters.landings_lost, 1),
        }
    }

    /// Memory that nothing writes, for a landing whose key was closed.
    fn safe_memory(&mut self, memory: LandingMemory) -> Option<LandingMemory> {
        if self.ends_writes_on_close {
            return Some(memory);
        }
        let bytes = memory.bytes();
        self.retired.push(memory);
        if self.retired.len() > self.retired_max {
            return None;
        }
        LandingMemory::create(bytes).ok()
    }

    fn sleep(&self) {
        let busy = self.placements.is_awaited() || self.pool.is_expecting();
        match self.raw.descriptor() {
            Some(_) if !self.raw.may_wait() => {}
            Some(descriptor) => self.pool.bell.wait(Some(descriptor), if busy { TICK } else { IDLE_TICK }),
            None if busy => thread::sleep(POLL_PAUSE),
            None => self.pool.bell.wait(None, TICK),
        }
    }
}
