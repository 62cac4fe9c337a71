//! Sessions: who comes in, on which lane, and who answers.
//!
//! Questions can be asked on any lane; chunks and copies come on the lanes of their shards. What a session may do follows
//! from its role, which its certificate must allow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kennel_core::shard::{Input, SessionId};
use kennel_protocol::ids::{NodeId, ShardId};
use kennel_protocol::wire::{ErrorCode, Hello, Message, Role, ShardMessage, Ship, ShipAck, Welcome, WireError};
use kennel_transport::close::CloseCode;
use kennel_transport::handshake::{HelloPolicy, handshake_server};
use kennel_transport::lane::Lane;
use kennel_transport::rpc::{Caller, Inbound, Incoming};
use kennel_transport::session::{LaneStream, Listener, Session};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::answers::Answers;
use super::read_lane;
use super::shard_task::ShardInput;
use super::verify::{bodies_hold, verified_ship};
use crate::fabric::FabricGuest;
use crate::local::LocalGuest;

/// How long a session may take to say hello.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);

/// Lanes that one session may have open: as many as the transport allows. A node keeps one for each shard that it has with
/// another node.
const LANES_MAX: usize = 1024;

/// Takes sessions and hands what they say to whom it concerns.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) policy: HelloPolicy,
    pub(super) answers: Arc<Answers>,
    pub(super) shards: Vec<mpsc::Sender<ShardInput>>,
    pub(super) sessions: Arc<Semaphore>,
    pub(super) shippers: AtomicU64,
}

/// Who is at the other end.
#[derive(Debug, Clone)]
pub(super) struct Guest {
    pub(super) role: Role,
    node: Option<NodeId>,
    /// The wire version that was agreed on.
    pub(super) version: u16,
    /// Whether it shares this host's memory.
    pub(super) local: Arc<LocalGuest>,
    /// How it goes with its landings.
    pub(super) fabric: Arc<FabricGuest>,
}

impl Serving {
    /// Takes sessions until `stop` says so.
    pub(super) async fn run(self: Arc<Self>, mut listener: Box<dyn Listener>, mut stop: watch::Receiver<bool>) {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                accepted = listener.accept() => match accepted {
                    Ok(session) => self.admit(session, &mut tasks),
                    Err(_) => break,
                },
                Some(_) = tasks.join_next() => {}
            }
        }
        listener.close();
        tasks.shutdown().await;
    }

    fn admit(self: &Arc<Self>, session: Arc<dyn Session>, tasks: &mut JoinSet<()>) {
        let Ok(permit) = Arc::clone(&self.sessions).try_acquire_owned() else {
            session.close(CloseCode::from(ErrorCode::Busy), "too many sessions; limits.sessions_max bounds them");
            return;
        };
        let serving = Arc::clone(self);
        tasks.spawn(async move {
            serving.serve(session).await;
            drop(permit);
        });
    }

    async fn serve(self: Arc<Self>, session: Arc<dyn Session>) {
        let deadline = Instant::now() + HELLO_PATIENCE;
        let guest = match handshake_server(&*session, &self.policy, deadline).await {
            Ok((Hello { role, node, .. }, Welcome { version, .. })) => {
                Guest { role, node, version, local: Arc::default(), fabric: Arc::default() }
            }
            Err(error) => {
                tracing::info!(peer = %session.peer(), error = %error, "refused a session");
                return;
            }
        };
        let mut lanes = JoinSet::new();
        loop {
            tokio::select! {
                accepted = session.accept() => match accepted {
                    Ok(lane) if lanes.len() < LANES_MAX => {
                        lanes.spawn(Arc::clone(&self).lane(guest.clone(), lane));
                    }
                    Ok(_) => session.close(CloseCode::from(ErrorCode::Busy), "too many lanes"),
                    Err(_) => break,
                },
                Some(_) = lanes.join_next() => {}
            }
        }
        lanes.shutdown().await;
    }

    async fn lane(self: Arc<Self>, guest: Guest, lane: LaneStream) {
        match lane.lane {
            Lane::Shard(shard) if usize::from(shard.0) < self.shards.len() => match guest.role {
                Role::Node => self.copies(guest, lane).await,
                Role::Shipper => self.chunks(shard, lane).await,
                Role::Client => read_lane::run(Arc::clone(&self.answers), guest, lane).await,
            },
            _ => read_lane::run(Arc::clone(&self.answers), guest, lane).await,
        }
    }

    /// A lane between nodes. Answers go over the own link to the node.
    async fn copies(&self, guest: Guest, lane: LaneStream) {
        let Some(from) = guest.node else { return };
        // Nothing is asked here, so nothing needs to be told apart: a task between the transport and the shard is saved.
        let LaneStream { sink: _open, mut source, .. } = lane;
        while let Ok(Some(frame)) = source.next().await {
            let message = match Message::decode(frame) {
                Ok(message) => message,
                Err(error) => return source.refuse(error.code()),
            };
            // The sender repeats what is not acknowledged.
            let Some(message) = self.between_nodes(message, &guest, from) else { continue };
            let Some(inbox) = self.shards.get(usize::from(message.stamp().shard.0)) else { continue };
            if inbox.send(ShardInput::Machine(Input::Peer { from, message })).await.is_err() {
                return;
            }
        }
    }

    /// What another node says of a shard, if its bodies are what they are said to be.
    fn between_nodes(&self, message: Message, guest: &Guest, from: NodeId) -> Option<ShardMessage> {
        let (shard, message) = match message {
            Message::Shard(message) => (message.stamp().shard, Some(message).filter(bodies_hold)),
            Message::PlacedCopy(placed) => {
                let fabric = self.answers.fabric.as_ref()?;
                (placed.stamp().shard, fabric.take_copy(&guest.fabric, placed))
            }
            _ => return None,
        };
        if message.is_none() {
            tracing::warn!(node = %from, %shard, "a body from another node does not match its checksum; dropped");
        }
        message
    }

    /// A shipper's lane to one shard.
    async fn chunks(&self, shard: ShardId, lane: LaneStream) {
        let session = SessionId(self.shippers.fetch_add(1, Ordering::Relaxed) + 1);
        let inbox = &self.shards[usize::from(shard.0)];
        let (caller, inbound) = Caller::new(lane);
        if inbox.send(ShardInput::ShipperUp(session, caller.clone())).await.is_err() {
            return;
        }
        self.take_chunks(session, shard, &caller, inbound).await;
        drop(inbox.send(ShardInput::ShipperDown(session)).await);
    }

    async fn take_chunks(&self, session: SessionId, shard: ShardId, caller: &Caller, mut inbound: Inbound) {
        let inbox = &self.shards[usize::from(shard.0)];
        while let Ok(Incoming { correlation, message }) = inbound.next().await {
            match message {
                Message::Ship(ship) if ship.shard == shard => {
                    let ship = self.verified(ship, caller).await;
                    if !ship.chunks.is_empty()
                        && inbox.send(ShardInput::Machine(Input::Ship { session, ship })).await.is_err()
                    {
                        return;
                    }
                }
                question => {
                    let answer = self.answers.answer(question, Role::Shipper).await;
                    if correlation.expects_answer()
                        && caller.reply(correlation, answer.unwrap_or_else(Message::Error)).await.is_err()
                    {
                        return;
                    }
                }
            }
        }
    }

    /// What holds of a ship; what does not is answered at once.
    async fn verified(&self, ship: Ship, caller: &Caller) -> Ship {
        let (shard, epoch) = (ship.shard, ship.epoch);
        let (ship, problems) = verified_ship(ship, self.policy.shard_count);
        if !problems.is_empty() {
            tracing::warn!(%shard, partitions = problems.len(), "chunks that do not verify were refused");
            let ack = ShipAck { shard, epoch, marks: Vec::new(), problems, refusal: None };
            drop(caller.send(Message::ShipAck(ack)).await);
        }
        ship
    }
}

/// An error for the other side.
pub(super) fn refuse(code: ErrorCode, message: impl Into<String>, node: Option<NodeId>) -> WireError {
    WireError { code, message: message.into(), offset: None, node }
}
