//! Placements under way: from a command to writes, from their completions to one answer.
//!
//! An answer is given once. Memory is held until the library says that nothing reads it, whoever has been answered
//! what: a placement that nobody waits for any more stays here until its last write has ended.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::advert::LandingAdvert;
use crate::counters::Counters;
use crate::error::FabricError;
use crate::limits::PLACEMENTS_MAX;
use crate::open::SendBuffer;
use crate::peers::{PeerUse, Peers};
use crate::plan::{Write, cut};
use crate::sys::{Code, Done, Kind, Payload, Peer, RawEndpoint, Remote, Transfer};

/// How long a write that met a broken connection is tried again. A refusal breaks it, and libraries make it anew within
/// some milliseconds (5 to 20 were measured); a peer that is gone is one by then.
const RECONNECT_PATIENCE: Duration = Duration::from_millis(500);

/// What was placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Bytes, from the landing's first on.
    pub len: usize,
}

/// What a command's caller waits for.
pub(crate) type Answer = oneshot::Sender<Result<Placed, FabricError>>;

/// One placement, or an attempt to read, which is only made to show that it is refused.
pub(crate) struct Command {
    pub(crate) kind: Kind,
    pub(crate) advert: LandingAdvert,
    /// What to write. Of a read: as many bytes as it asks for.
    pub(crate) pieces: Vec<Bytes>,
    pub(crate) deadline: Instant,
    pub(crate) answer: Answer,
}

struct Placement {
    peer: PeerUse,
    deadline: Instant,
    reconnect_until: Instant,
    bytes: usize,
    /// Writes that have not ended.
    left: usize,
    /// Nobody, once it was answered.
    answer: Option<Answer>,
}

/// All placements of an endpoint.
pub(crate) struct Placements {
    peers: Peers,
    under_way: BTreeMap<u64, Placement>,
    /// Writes that the provider could not take yet.
    unposted: VecDeque<Transfer>,
    send_buffers: Vec<SendBuffer>,
    send_bytes: usize,
    copies: bool,
    next: u64,
}

impl Placements {
    pub(crate) fn new(peers: Peers, send_buffers: Vec<SendBuffer>, send_bytes: usize, copies: bool) -> Self {
        let (under_way, unposted) = (BTreeMap::new(), VecDeque::new());
        Self { peers, under_way, unposted, send_buffers, send_bytes, copies, next: 0 }
    }

    /// Takes a command: its writes wait to be posted, or it is answered at once.
    pub(crate) fn start(&mut self, raw: &mut RawEndpoint, counters: &Counters, command: Command, now: Instant) {
        let Command { kind, advert, pieces, deadline, answer } = command;
        let bytes = pieces.iter().map(Bytes::len).sum();
        let remote = Remote { address: advert.address, key: advert.key };
        let begun = match self.peers.check(&advert.fabric_address) {
            _ if self.under_way.len() >= PLACEMENTS_MAX => Err(FabricError::Busy),
            Err(error) => Err(error.into()),
            Ok(()) => self.begin(raw, advert.fabric_address, pieces),
        };
        match begun {
            Ok((peer, payloads)) => {
                let id = self.next;
                self.next += 1;
                let place = |at| Remote { address: remote.address.wrapping_add(at), ..remote };
                let transfer = |(at, payload)| Transfer { id, kind, peer: peer.peer, remote: place(at), payload };
                let (left, reconnect_until) = (payloads.len(), now + RECONNECT_PATIENCE);
                self.unposted.extend(payloads.into_iter().map(transfer));
                self.under_way
                    .insert(id, Placement { peer, deadline, reconnect_until, bytes, left, answer: Some(answer) });
            }
            Err(error) => reply(Some(answer), counters, Err(error)),
        }
    }

    /// The peer and the memory of a placement: both, or neither is taken.
    fn begin(
        &mut self,
        raw: &mut RawEndpoint,
        fabric_address: Vec<u8>,
        pieces: Vec<Bytes>,
    ) -> Result<(PeerUse, Vec<(u64, Payload)>), FabricError> {
        let peer = self.peers.begin(raw, fabric_address).map_err(|code| raw.transfer_error(code))?;
        match self.payloads(raw, pieces) {
            Ok(payloads) => Ok((peer, payloads)),
            Err(error) => {
                self.peers.end(&peer);
                Err(error)
            }
        }
    }

    /// The writes' memory: as it lies, or copied to send buffers, of which there are enough or none is taken.
    fn payloads(&mut self, raw: &RawEndpoint, pieces: Vec<Bytes>) -> Result<Vec<(u64, Payload)>, FabricError> {
        let write_bytes_max = raw.offer().write_bytes_max();
        if !self.copies {
            let writes = cut(pieces, write_bytes_max, raw.offer().pieces_max());
            return Ok(writes.into_iter().map(|Write { at, pieces }| (at, Payload::Pieces(pieces))).collect());
        }
        let writes = cut(pieces, write_bytes_max.min(self.send_bytes), usize::MAX);
        let first = self.send_buffers.len().checked_sub(writes.len()).ok_or(FabricError::NoSendBuffer)?;
        let buffers = self.send_buffers.drain(first..);
        Ok(writes.into_iter().zip(buffers).map(|(write, buffer)| (write.at, filled(buffer, &write.pieces))).collect())
    }

    /// Posts what the provider takes. What it has no room for now waits, others' writes do not wait for it.
    pub(crate) fn post(&mut self, raw: &mut RawEndpoint, counters: &Counters, now: Instant) {
        let mut full: Vec<Peer> = Vec::new();
        for _ in 0..self.unposted.len() {
            let Some(transfer) = self.unposted.pop_front() else { return };
            let peer = transfer.peer;
            if full.contains(&peer) {
                self.unposted.push_back(transfer);
                continue;
            }
            match raw.post(transfer) {
                Ok(()) => {}
                Err((transfer, code)) if code == Code::AGAIN || self.may_reconnect(transfer.id, code, now) => {
                    full.push(peer);
                    self.unposted.push_back(*transfer);
                }
                Err((transfer, code)) => {
                    let error = raw.transfer_error(code);
                    self.ended(counters, *transfer, Err(error));
                }
            }
        }
    }

    /// Whether to try again what met a broken connection: the same bytes to the same place do no harm twice, as long as
    /// nobody was told how it went.
    fn may_reconnect(&self, id: u64, code: Code, now: Instant) -> bool {
        let waits = |placement: &Placement| placement.answer.is_some() && now < placement.reconnect_until;
        code == Code::NOT_CONNECTED && self.under_way.get(&id).is_some_and(waits)
    }

    /// Takes what the library says has ended.
    pub(crate) fn finish(&mut self, counters: &Counters, done: impl Iterator<Item = Done>, now: Instant) {
        for Done { transfer, result } in done {
            match result {
                Err((code, _)) if self.may_reconnect(transfer.id, code, now) => self.unposted.push_back(transfer),
                Err((Code(code), text)) => self.ended(counters, transfer, Err(FabricError::Transfer { code, text })),
                Ok(()) => self.ended(counters, transfer, Ok(())),
            }
        }
    }

    fn ended(&mut self, counters: &Counters, transfer: Transfer, result: Result<(), FabricError>) {
        let id = transfer.id;
        self.take_back(transfer.payload);
        let Some(placement) = self.under_way.get_mut(&id) else { return };
        placement.left -= 1;
        let bytes = placement.bytes;
        match result {
            Err(error) => {
                reply(placement.answer.take(), counters, Err(error));
                self.drop_unposted(id);
            }
            Ok(()) if placement.left == 0 => reply(placement.answer.take(), counters, Ok(Placed { len: bytes })),
            Ok(()) => {}
        }
        self.remove_if_ended(id);
    }

    /// Answers what is late, and forgets the peers that it went to: a write that has not ended goes on owning its
    /// memory.
    pub(crate) fn expire(&mut self, raw: &mut RawEndpoint, counters: &Counters, now: Instant) {
        let late = |placement: &Placement| placement.answer.is_some() && placement.deadline <= now;
        let late: Vec<u64> =
            self.under_way.iter().filter(|(_, placement)| late(placement)).map(|(id, _)| *id).collect();
        for id in late {
            self.drop_unposted(id);
            let placement = self.under_way.get_mut(&id).expect("nothing was removed since");
            if placement.left > 0 {
                Counters::add(&counters.quarantined, 1);
                self.peers.forget(raw, &placement.peer);
            }
            reply(placement.answer.take(), counters, Err(FabricError::Deadline));
            self.remove_if_ended(id);
        }
    }

    fn drop_unposted(&mut self, id: u64) {
        for _ in 0..self.unposted.len() {
            let Some(transfer) = self.unposted.pop_front() else { return };
            if transfer.id != id {
                self.unposted.push_back(transfer);
                continue;
            }
            self.take_back(transfer.payload);
            self.under_way.get_mut(&id).expect("its writes are counted in it").left -= 1;
        }
    }

    fn remove_if_ended(&mut self, id: u64) {
        if self.under_way.get(&id).is_some_and(|placement| placement.left == 0)
            && let Some(placement) = self.under_way.remove(&id)
        {
            self.peers.end(&placement.peer);
        }
    }

    fn take_back(&mut self, payload: Payload) {
        if let Payload::Registered { memory, region, .. } = payload {
            self.send_buffers.push(SendBuffer { memory, region });
        }
    }

    /// Whether somebody waits for an answer.
    pub(crate) fn is_awaited(&self) -> bool {
        self.under_way.values().any(|placement| placement.answer.is_some())
    }

    /// Answers everybody, after everything was closed.
    pub(crate) fn close(self) {
        for placement in self.under_way.into_values() {
            if let Some(answer) = placement.answer {
                let _ = answer.send(Err(FabricError::Closed));
            }
        }
    }
}

fn filled(buffer: SendBuffer, pieces: &[Bytes]) -> Payload {
    let SendBuffer { mut memory, region } = buffer;
    let mut bytes = 0;
    for piece in pieces {
        memory.copy_in(bytes, piece);
        bytes += piece.len();
    }
    Payload::Registered { memory, region, bytes }
}

/// Answers, and counts. Whoever has left is not told.
fn reply(answer: Option<Answer>, counters: &Counters, result: Result<Placed, FabricError>) {
    let Some(answer) = answer else { return };
    match &result {
        Ok(placed) => {
            Counters::add(&counters.placed, 1);
            Counters::add(&counters.placed_bytes, placed.len as u64);
        }
        Err(_) => Counters::add(&counters.failed, 1),
    }
    let _ = answer.send(result);
}
