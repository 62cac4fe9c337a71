//! The way to the bucket and back: requests take effect late, not at all, or without an answer.

use core::time::Duration;

use kennel_core::shard::{BucketId, BucketRequest, BucketResult, CreateOutcome, Input, SlotBody};
use kennel_protocol::ids::{Lsn, ProcessId, Slot};
use kennel_protocol::object::OpenRecord;

use super::World;
use crate::event::Event;
use crate::oracle::objects::{
    claims_are_dense, deletes_what_a_manifest_dropped, owner_writes_its_own_log, seal_goes_into_the_first_gap,
};
use crate::oracle::{Violation, is_on_a_quorum};

/// How long a stuck request may take to land.
const STUCK_MAX: Duration = Duration::from_secs(20);

/// How much longer than usual a sluggish bucket takes at most.
const SLUGGISH_TIMES: u32 = 60;

/// A request under way.
#[derive(Debug)]
pub struct Flight {
    /// Who asked.
    pub node: usize,
    boot: u64,
    process: ProcessId,
    id: BucketId,
    request: BucketRequest,
    /// What it found, once it took effect.
    result: Option<BucketResult>,
    /// What is answered whatever it found.
    told: Option<BucketResult>,
    answered: bool,
    /// It does not take effect (any more).
    void: bool,
}

impl Flight {
    /// Whether somebody waits for the answer.
    pub fn is_awaited(&self) -> bool {
        !self.answered
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutFate {
    /// What is asked.
    Done,
    /// Nothing, and the caller knows.
    Failed,
    /// Nothing, and the caller does not know.
    NothingUnknown,
    /// What is asked, and the caller does not know.
    DoneUnknown,
    /// What is asked, and the client's own retry finds it there.
    DoneExists,
    /// Nothing, and the store says that something stands there.
    NothingExists,
    /// The caller gives up after a while; it lands after this time.
    Stuck(Duration),
    /// Nothing happens, and for so long nobody says so.
    Silent(Duration),
}

impl World {
    pub(super) fn ask_bucket(&mut self, node: usize, id: BucketId, request: BucketRequest) {
        let process = self.nodes[node].process;
        let verdict = self.watch_request(process, &request);
        self.judge(verdict);
        let scripted = self.put_script.and_then(|script| script(node, &request));
        let scripted = self.falls_silent(&request).or(scripted);
        let spell = scripted.is_none().then(|| self.under_a_spell(&request)).flatten();
        let fate = scripted.or(spell).unwrap_or_else(|| self.draw_fate(node, &request));
        let boot = self.nodes[node].boot;
        let (result, answered, void) = (None, false, false);
        let mut flight = Flight { node, boot, process, id, request, result, told: None, answered, void };
        let there = self.bucket_delay();
        let back = self.bucket_delay();
        let (lands, answers) = match fate {
            PutFate::Stuck(length) => (there + length, there + back * 3),
            PutFate::Silent(length) => (there, there + length),
            _ => (there, there + back),
        };
        let nothing = [PutFate::Failed, PutFate::NothingUnknown, PutFate::NothingExists];
        flight.void = nothing.contains(&fate) || matches!(fate, PutFate::Silent(_));
        flight.told = told(&flight.request, fate);
        self.flights_made += 1;
        let number = self.flights_made;
        self.flights.insert(number, flight);
        self.after(lands, Event::Apply { flight: number });
        self.after(answers, Event::Answer { flight: number });
    }

    pub(super) fn apply(&mut self, number: u64) {
        let Some(mut flight) = self.flights.remove(&number) else { return };
        if !flight.void {
            let (process, request) = (flight.process, &flight.request);
            let before = self.rules_before(process, request);
            self.judge(before);
            let fresh = self.is_fresh(request);
            let (result, wrote) = self.bucket.apply(request);
            let result = self.perhaps_stale(request, result);
            let result = self.perhaps_garbled(flight.node, request, result);
            let result = self.nodes[flight.node].remembers(self.plan.broken, result);
            self.trace.event(self.now, 7, number);
            self.trace.line(self.now, || {
                let late = if flight.answered { " (late)" } else { "" };
                format!("bucket{late} {} for n{}: {result:?}", crate::describe::request(request), flight.node + 1)
            });
            if wrote && fresh {
                self.watch_open(&flight.request);
            }
            if wrote && matches!(flight.request, BucketRequest::CreateClaim(_)) {
                self.ambush(flight.node);
            }
            flight.result = Some(result);
        }
        flight.void = true;
        if !flight.answered {
            self.flights.insert(number, flight);
        }
    }

    pub(super) fn answer(&mut self, number: u64) {
        let Some(flight) = self.flights.get_mut(&number) else { return };
        flight.answered = true;
        let result = flight.told.clone().or_else(|| flight.result.clone());
        let result = result.unwrap_or(BucketResult::Created(CreateOutcome::Unknown));
        let (node, boot, id, process) = (flight.node, flight.boot, flight.id, flight.process);
        if let (BucketRequest::CreateSlot { epoch, slot, .. }, BucketResult::Created(outcome)) =
            (&flight.request, &result)
        {
            self.oracle.objects.created(process, (*epoch, *slot), *outcome);
        }
        if flight.void {
            self.flights.remove(&number);
        }
        if self.nodes[node].is_boot(boot) {
            self.feed(node, Input::Bucket(id, result));
        }
    }

    /// The process is gone: what it had under way lands now, later or never, and nobody hears of it.
    pub(super) fn abandon_flights(&mut self, node: usize) {
        let numbers: Vec<u64> =
            self.flights.iter().filter(|(_, flight)| flight.node == node).map(|(n, _)| *n).collect();
        for number in numbers {
            let Some(mut flight) = self.flights.remove(&number) else { continue };
            if flight.void || self.draws.bucket.chance(400) {
                continue;
            }
            if self.draws.bucket.chance(300) {
                flight.answered = true;
                let delay = self.draws.bucket.scale(Duration::from_millis(100), STUCK_MAX);
                self.flights_made += 1;
                self.flights.insert(self.flights_made, flight);
                self.after(delay, Event::Apply { flight: self.flights_made });
            } else {
                flight.answered = true;
                self.flights.insert(number, flight);
            }
        }
    }

    pub(super) fn bucket_back(&mut self, node: Option<usize>) {
        match node {
            Some(node) => self.bucket_down[node] = false,
            None => self.bucket_down.fill(false),
        }
    }

    fn bucket_delay(&mut self) -> Duration {
        let usual = self.draws.bucket.duration(Duration::from_millis(1), self.plan.weather.bucket_max / 2);
        if self.now < self.spells.sluggish { self.draws.depths.scale(usual, usual * SLUGGISH_TIMES) } else { usual }
    }

    fn draw_fate(&mut self, node: usize, request: &BucketRequest) -> PutFate {
        let weather = &self.plan.weather;
        let draws = &mut self.draws.bucket;
        let creates = is_create(request);
        if self.bucket_down[node] {
            return if creates && draws.chance(500) { PutFate::NothingUnknown } else { PutFate::Failed };
        }
        if draws.chance(weather.bucket_fail) {
            return if creates && draws.chance(500) { PutFate::NothingUnknown } else { PutFate::Failed };
        }
        if !creates {
            return PutFate::Done;
        }
        if draws.chance(weather.bucket_lost_answer) {
            return PutFate::DoneUnknown;
        }
        if draws.chance(weather.bucket_false_exists) {
            return if draws.chance(500) { PutFate::DoneExists } else { PutFate::NothingExists };
        }
        if draws.chance(weather.bucket_stuck) {
            return PutFate::Stuck(draws.scale(Duration::from_millis(50), STUCK_MAX));
        }
        PutFate::Done
    }

    fn watch_request(&mut self, process: ProcessId, request: &BucketRequest) -> Result<(), Violation> {
        let BucketRequest::CreateSlot { epoch, slot, body } = request else { return Ok(()) };
        self.oracle.objects.put_id_names_exact_bytes(process, (*epoch, *slot), body)?;
        owner_writes_its_own_log(&self.bucket, process, (*epoch, *slot), body)?;
        match body.as_ref() {
            SlotBody::Open(record) => self.opening_is_adopted(record),
            SlotBody::Log { .. } | SlotBody::Seal(_) => Ok(()),
        }
    }

    /// PROTOCOL R11: whatever an epoch begins with is on a quorum of its copies before it opens.
    fn opening_is_adopted(&self, record: &OpenRecord) -> Result<(), Violation> {
        let (Some(claim), Some(last)) = (self.bucket.claim(record.epoch), record.adopted.0.checked_sub(1)) else {
            return Ok(());
        };
        is_on_a_quorum(claim, record.epoch, Lsn(last), |id| {
            self.nodes.iter().map(|node| &node.journal).find(|journal| journal.id == id)
        })
    }

    fn rules_before(&self, process: ProcessId, request: &BucketRequest) -> Result<(), Violation> {
        match request {
            BucketRequest::CreateClaim(claim) => {
                let own = claim.process == process;
                Violation::unless(own, "one_process_per_epoch", || format!("{process} creates {claim:?}"))?;
                claims_are_dense(&self.bucket, claim)
            }
            BucketRequest::CreateSlot { epoch, slot, body } if matches!(body.as_ref(), SlotBody::Seal(_)) => {
                seal_goes_into_the_first_gap(&self.bucket, *epoch, *slot)
            }
            BucketRequest::DeleteSlots { .. } => deletes_what_a_manifest_dropped(&self.bucket, request),
            _ => Ok(()),
        }
    }

    /// An open record landed: the older logs have ended, and the record says where.
    fn watch_open(&mut self, request: &BucketRequest) {
        let BucketRequest::CreateSlot { epoch, slot: Slot(0), body } = request else { return };
        if !matches!(body.as_ref(), SlotBody::Open(_)) {
            return;
        }
        self.trace.line(self.now, || format!("epoch {epoch} is open"));
        let verdict = self.read_log_below(*epoch);
        self.judge(verdict);
    }

    /// Whether a slot never held anything: what lands where something was collected counts for nothing.
    fn is_fresh(&self, request: &BucketRequest) -> bool {
        let BucketRequest::CreateSlot { epoch, slot, .. } = request else { return false };
        self.bucket.first_in(*epoch, *slot).is_none()
    }
}

fn told(request: &BucketRequest, fate: PutFate) -> Option<BucketResult> {
    if !is_create(request) && fate != PutFate::Done {
        return Some(BucketResult::Unreachable);
    }
    let outcome = match fate {
        PutFate::Done => return None,
        PutFate::Failed => CreateOutcome::Failed,
        PutFate::NothingUnknown | PutFate::DoneUnknown | PutFate::Stuck(_) | PutFate::Silent(_) => {
            CreateOutcome::Unknown
        }
        PutFate::DoneExists | PutFate::NothingExists => CreateOutcome::Exists,
    };
    Some(BucketResult::Created(outcome))
}

pub(super) fn is_create(request: &BucketRequest) -> bool {
    !matches!(
        request,
        BucketRequest::FindClaim { .. }
            | BucketRequest::ReadClaim { .. }
            | BucketRequest::ReadSlot { .. }
            | BucketRequest::NewestManifest
    )
}
