//! One session to a node: small questions on its control lane, one lane per shard for chunks.
//!
//! Lanes are opened when first used. Whatever breaks ends the whole session: the machine then asks anew where
//! everything stands, which is simpler than to mend a lane and as quick.

use std::collections::BTreeMap;
use std::sync::Arc;

use kennel_core::shipper::Input;
use kennel_protocol::ids::{NodeId, ShardId};
use kennel_protocol::wire::{ErrorCode, Message, Ship, Welcome};
use kennel_transport::close::{CloseCode, SessionError};
use kennel_transport::lane::Lane;
use kennel_transport::rpc::{CallError, Caller, Inbound};
use kennel_transport::session::Session;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::driver::Event;

/// Frames that wait for one shard's lane. The machine counts at least 4 KiB for a chunk and lets 24 MiB of a shard be
/// under way, so 6,144 frames at most: a full queue is a bug or a dead lane.
const LANE_QUEUE_MAX: usize = 8192;

/// A session that stands.
#[derive(Debug)]
pub(crate) struct Link {
    node: NodeId,
    /// Tells this session from earlier ones to the same node.
    number: u64,
    session: Arc<dyn Session>,
    control: Caller,
    /// The wire version that was agreed on.
    version: u16,
    lanes: BTreeMap<ShardId, mpsc::Sender<Ship>>,
    events: mpsc::Sender<Event>,
}

impl Link {
    /// Opens the control lane of a session that was welcomed, and watches for its end.
    pub(super) async fn open(
        Welcome { node, version, .. }: Welcome,
        number: u64,
        session: Arc<dyn Session>,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, SessionError> {
        let lane = session.open(Lane::Control).await?;
        let (control, _unasked) = Caller::new(lane);
        let control = control.speaking(version);
        tokio::spawn(watch(node, number, Arc::clone(&session), events.clone()));
        Ok(Self { node, number, session, control, version, lanes: BTreeMap::new(), events })
    }

    pub(super) fn node(&self) -> NodeId {
        self.node
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// A handle to ask questions with; clones outlive a change of links.
    pub(super) fn control(&self) -> Caller {
        self.control.clone()
    }

    /// Queues chunks on the shard's lane.
    pub(super) fn send(&mut self, ship: Ship) {
        let lane = self.lanes.entry(ship.shard).or_insert_with(|| {
            let (sender, ships) = mpsc::channel(LANE_QUEUE_MAX);
            let (lane, session) = ((ship.shard, self.version), Arc::clone(&self.session));
            tokio::spawn(run_lane(self.node, lane, session, ships, self.events.clone()));
            sender
        });
        if lane.try_send(ship).is_err() {
            self.session.close(ErrorCode::Busy.into(), "a lane takes no more chunks");
        }
    }

    /// Ends the session.
    pub(super) fn close(&self) {
        self.session.close(CloseCode::DONE, "the shipper is done");
    }
}

async fn watch(node: NodeId, number: u64, session: Arc<dyn Session>, events: mpsc::Sender<Event>) {
    let error = session.closed().await;
    match error {
        SessionError::ClosedHere => tracing::debug!(%node, "the session is closed"),
        error => tracing::warn!(%node, %error, "the session ended"),
    }
    // A closed channel means that the driver is done.
    let _ = events.send(Event::LinkLost { node, number }).await;
}

/// Sends a shard's chunks, in the wire version that was agreed on, and passes on what its owner says, until either direction ends.
async fn run_lane(
    node: NodeId,
    (shard, version): (ShardId, u16),
    session: Arc<dyn Session>,
    ships: mpsc::Receiver<Ship>,
    events: mpsc::Sender<Event>,
) {
    let lane = match session.open(Lane::Shard(shard)).await {
        Ok(lane) => lane,
        Err(error) => return tracing::debug!(%node, %shard, %error, "the lane could not be opened"),
    };
    let (caller, inbound) = Caller::new(lane);
    let caller = caller.speaking(version);
    let why = tokio::select! {
        why = send_all(caller, ships) => why,
        why = receive_all(node, inbound, events) => why,
    };
    if let Some(why) = why {
        // That a session is over is told once, where it is watched.
        tracing::debug!(%node, %shard, why, "the lane ended");
        session.close(ErrorCode::Internal.into(), &why);
    }
}

async fn send_all(caller: Caller, mut ships: mpsc::Receiver<Ship>) -> Option<String> {
    while let Some(ship) = ships.recv().await {
        match caller.send(Message::Ship(ship)).await {
            Ok(()) => {}
            Err(error) => return Some(describe(&error)),
        }
    }
    None
}

async fn receive_all(node: NodeId, mut inbound: Inbound, events: mpsc::Sender<Event>) -> Option<String> {
    loop {
        match inbound.next().await {
            Ok(incoming) => match incoming.message {
                Message::ShipAck(ack) => {
                    if events.send(Event::Input(Input::ShipAck { from: node, ack })).await.is_err() {
                        return None;
                    }
                }
                Message::Error(error) => return Some(format!("{:?}: {}", error.code, error.message)),
                _ => return Some("the node sent something else than an acknowledgement".to_owned()),
            },
            Err(over) => return Some(over.to_string()),
        }
    }
}

/// Asks a node; `None` if it did not answer what was asked, for whatever reason.
pub(super) async fn ask(control: Caller, question: Message, deadline: Instant) -> Option<Message> {
    match control.call(question, deadline).await {
        Ok(answer) => Some(answer),
        Err(error) => {
            tracing::debug!(error = describe(&error), "a question was not answered");
            None
        }
    }
}

fn describe(error: &CallError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
