//! Answers questions: views, positions, partitions, catalogues, fetches. Asks the owner where this node does not know.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kennel_core::membership::Membership;
use kennel_protocol::batch::batches;
use kennel_protocol::entry::MessageIdentity;
use kennel_protocol::frame::{Frame, FrameKind, Payload};
use kennel_protocol::ids::{Epoch, NodeId, Offset, ShardId};
use kennel_protocol::wire::{
    AdvertBytes, ErrorCode, FabricOffer, Fetch, FetchFrom, FetchInto, Fetched, Landed, LandingOutcome, Landings,
    LocalOffer, Message, NodeAddress, Partitions, PositionsRequest, Role, Served, View, WireError,
};
use kennel_slab::cut::RunMarks;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::catalog_book::CatalogBook;
use super::peers::Peers;
use super::roles::Roles;
use super::serve::{Guest, refuse};
use super::shard_task::ShardInput;
use crate::fabric::Fabric;
use crate::local::{Answered, Local, LocalGuest};
use crate::metrics::{self, Tier};
use crate::read::{FetchedPieces, ReadOutcome, Reader};

/// How long a question may take beyond what its asker is willing to wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// Everything that questions are answered from.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) node: NodeId,
    pub(super) shards: Vec<mpsc::Sender<ShardInput>>,
    pub(super) reader: Arc<Reader>,
    pub(super) roles: Arc<Roles>,
    pub(super) peers: Peers,
    pub(super) catalog: CatalogBook,
    pub(super) membership: watch::Receiver<Option<Arc<Membership>>>,
    /// What readers of this host share with the node; `None` where that is off.
    pub(super) local: Option<Arc<Local>>,
    /// What writes answers into readers' memory, and lends landings to other nodes; `None` where that is off.
    pub(super) fabric: Option<Arc<Fabric>>,
}

/// An answer to a fetch, from here or from the owner.
#[derive(Debug)]
pub(super) enum Batches {
    /// From here, as it lies in memory.
    Here(FetchedPieces),
    /// From the owner.
    There(Fetched),
}

impl Answers {
    /// The answer to a question as a frame. Errors are answers.
    pub(super) async fn frame(&self, question: Message, guest: &Guest, correlation: u64) -> Frame {
        match question {
            Message::Fetch(fetch) => match self.fetch(fetch).await {
                Ok(batches) => {
                    self.share(&fetch, &batches, &guest.local);
                    batches.into_frame(correlation)
                }
                Err(error) => Message::Error(error).encode(correlation),
            },
            Message::FetchInto(FetchInto { fetch, advert }) => match self.fetch(fetch).await {
                Ok(batches) => {
                    self.share(&fetch, &batches, &guest.local);
                    self.land(batches, &advert, guest, correlation).await
                }
                Err(error) => Message::Error(error).encode(correlation),
            },
            Message::FabricRequest(request) => {
                let offer = self.fabric.as_ref().map(|fabric| fabric.offer(request));
                Message::FabricOffer(offer.unwrap_or(FabricOffer { provider: None })).encode(correlation)
            }
            Message::LandingsRequest(request) if guest.role == Role::Node => {
                let landings = self.fabric.as_ref().map(|fabric| fabric.lend(&guest.fabric, &request));
                let none = Landings { offered: false, lent: Vec::new() };
                Message::Landings(landings.unwrap_or(none)).encode(correlation)
            }
            Message::LocalRequest(request) => {
                let offer = self.local.as_ref().map(|local| local.offer(request, &guest.local));
                Message::LocalOffer(offer.unwrap_or(LocalOffer { socket: None })).encode(correlation)
            }
            question => self.answer(question, guest.role).await.unwrap_or_else(Message::Error).encode(correlation),
        }
    }

    /// Lays what a reader of this host was answered where others of the host find it.
    fn share(&self, fetch: &Fetch, answer: &Batches, guest: &LocalGuest) {
        let Some(local) = self.local.as_ref().filter(|_| guest.has_slab() && answer.bytes() > 0) else { return };
        let asked_there = fetch.from == FetchFrom::Offset(answer.range().0);
        let previous = fetch.last.filter(|_| asked_there);
        let shard_count = u16::try_from(self.shards.len()).expect("a cluster's shards are counted in 16 bits");
        if let Some(answered) = answer.answered(previous) {
            local.answered(fetch.partition.shard(shard_count), &answered);
        }
    }

    /// Writes an answer where its reader wants it, or puts it inline.
    async fn land(&self, batches: Batches, advert: &AdvertBytes, guest: &Guest, correlation: u64) -> Frame {
        let outcome = match &self.fabric {
            Some(fabric) => fabric.place(&guest.fabric, advert, batches.pieces()).await,
            None => LandingOutcome::Untouched,
        };
        batches.into_landed(outcome, correlation)
    }

    /// The answer to any question but a fetch.
    pub(super) async fn answer(&self, question: Message, asker: Role) -> Result<Message, WireError> {
        match question {
            Message::ViewRequest(_) => Ok(Message::View(self.view())),
            Message::PositionsRequest(request) => self.positions(request).await,
            Message::CompareRequest(request) => self.compare(request).await,
            Message::PartitionsRequest(request) => self.partitions(request.shard).await,
            Message::CatalogRequest(request) => self.catalog.answer(request, asker).await,
            // Readers may not say what things are called.
            Message::CatalogPut(put) if asker == Role::Shipper => self.catalog.put(put).await,
            Message::CatalogOffer(offer) if asker == Role::Shipper => self.catalog.offer(offer).await,
            Message::Fetch(fetch) => match self.fetch(fetch).await? {
                Batches::Here(pieces) => Ok(Message::Fetched(pieces.into_fetched())),
                Batches::There(fetched) => Ok(Message::Fetched(fetched)),
            },
            _ => Err(refuse(ErrorCode::NotAllowed, "this is no question for a node", None)),
        }
    }

    fn view(&self) -> View {
        let membership = self.membership.borrow().clone();
        let members = membership.as_ref().map_or(&[][..], |membership| membership.members());
        let nodes = members.iter().map(|member| NodeAddress {
            node: member.node,
            address: member.address.clone(),
            zone: member.zone.0.clone(),
        });
        let shard_count = u16::try_from(self.shards.len()).expect("a cluster's shards are counted in 16 bits");
        View { shard_count, nodes: nodes.collect(), shards: self.roles.views() }
    }

    pub(super) fn inbox(&self, shard: ShardId) -> Result<&mpsc::Sender<ShardInput>, WireError> {
        let unknown = || refuse(ErrorCode::NotAllowed, format!("there is no shard {shard}"), None);
        self.shards.get(usize::from(shard.0)).ok_or_else(unknown)
    }

    pub(super) async fn ask_shard<T>(
        &self,
        shard: ShardId,
        question: impl FnOnce(oneshot::Sender<T>) -> ShardInput,
    ) -> Result<T, WireError> {
        let stopping = || refuse(ErrorCode::Stopping, "the node is stopping", None);
        let (answer, answered) = oneshot::channel();
        self.inbox(shard)?.send(question(answer)).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())
    }

    pub(super) fn moved(&self, shard: ShardId) -> WireError {
        match self.roles.owner(shard) {
            (_, Some(owner)) => refuse(ErrorCode::Moved, format!("node {owner} owns shard {shard}"), Some(owner)),
            (_, None) => refuse(ErrorCode::NoOwner, format!("shard {shard} has no owner yet"), None),
        }
    }

    async fn positions(&self, request: PositionsRequest) -> Result<Message, WireError> {
        let shard = request.shard;
        let positions = self.ask_shard(shard, |answer| ShardInput::Positions(request, answer)).await?;
        positions.map(Message::Positions).ok_or_else(|| self.moved(shard))
    }

    /// The owner's partitions; where it cannot be asked, what this node and the bucket know.
    async fn partitions(&self, shard: ShardId) -> Result<Message, WireError> {
        if let Some((epoch, partitions)) = self.ask_shard(shard, ShardInput::Partitions).await? {
            return Ok(Message::Partitions(Partitions { shard, epoch, partitions }));
        }
        if let Some(owner) = self.other_owner(shard) {
            let question = Message::PartitionsRequest(kennel_protocol::wire::PartitionsRequest { shard });
            if let Ok(answer) = self.peers.ask(owner, question, Instant::now() + PATIENCE).await {
                return Ok(answer);
            }
        }
        let refreshed = self.reader.reads(shard).index.refresh(Duration::from_secs(1)).await;
        refreshed.map_err(|error| refuse(ErrorCode::BucketUnavailable, error.to_string(), None))?;
        Ok(Message::Partitions(self.reader.partitions(shard)))
    }

    fn other_owner(&self, shard: ShardId) -> Option<NodeId> {
        self.roles.owner(shard).1.filter(|owner| *owner != self.node)
    }

    /// Batches from this node, else from the owner, else what the bucket has.
    pub(super) async fn fetch(&self, fetch: Fetch) -> Result<Batches, WireError> {
        let started = Instant::now();
        let answer = self.find(fetch).await?;
        // A wait for news is not the time of an answer.
        if answer.bytes() > 0 {
            metrics::record_fetch(answer.tier(), answer.bytes(), started.elapsed());
        }
        Ok(answer)
    }

    async fn find(&self, fetch: Fetch) -> Result<Batches, WireError> {
        let shard_count = u16::try_from(self.shards.len()).expect("a cluster's shards are counted in 16 bits");
        match self.reader.fetch(&fetch).await? {
            ReadOutcome::Answer(pieces) => return Ok(Batches::Here(pieces)),
            ReadOutcome::AskOwner => {}
        }
        if let Some(owner) = self.other_owner(fetch.partition.shard(shard_count)) {
            let deadline = Instant::now() + Duration::from_millis(fetch.wait_millis.into()) + PATIENCE;
            let question = Message::Fetch(Fetch { forwarded: true, ..fetch });
            match self.peers.ask(owner, question, deadline).await {
                Ok(Message::Fetched(fetched)) => return Ok(Batches::There(fetched)),
                Ok(_) => {}
                Err(super::peers::ForwardError::Call {
                    source: kennel_transport::rpc::CallError::Refused(error),
                    ..
                }) if !is_passing(error.code) => return Err(error),
                Err(error) => tracing::debug!(error = %error, "the owner could not be asked; the bucket answers"),
            }
        }
        match self.reader.fetch(&Fetch { forwarded: true, ..fetch }).await? {
            ReadOutcome::Answer(pieces) => Ok(Batches::Here(pieces)),
            ReadOutcome::AskOwner => Err(self.moved(fetch.partition.shard(shard_count))),
        }
    }
}

/// Whether the same question may be answered here although the owner did not.
fn is_passing(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::Moved
            | ErrorCode::NoOwner
            | ErrorCode::Busy
            | ErrorCode::Stopping
            | ErrorCode::Internal
            | ErrorCode::Stale
    )
}

impl Batches {
    fn into_frame(self, correlation: u64) -> Frame {
        match self {
            Self::Here(pieces) => pieces.into_frame(correlation),
            Self::There(fetched) => Message::Fetched(fetched).encode(correlation),
        }
    }

    /// The frame that says what became of a landing; its payload is what does not lie there.
    fn into_landed(self, outcome: LandingOutcome, correlation: u64) -> Frame {
        let is_inline = !matches!(outcome, LandingOutcome::Placed(_));
        let (head, pieces) = match self {
            Self::Here(mut here) => {
                let pieces = std::mem::take(&mut here.batches);
                (here.into_fetched(), pieces)
            }
            Self::There(mut there) => {
                let batches = std::mem::take(&mut there.batches);
                (there, vec![batches])
            }
        };
        let mut frame = Message::Landed(Landed { fetched: head, outcome }).encode(correlation);
        if is_inline {
            frame.payload = Payload::from(pieces);
        }
        frame
    }

    /// The batches as they lie in memory.
    fn pieces(&self) -> Vec<Bytes> {
        match self {
            Self::Here(here) => here.batches.clone(),
            Self::There(there) => vec![there.batches.clone()],
        }
    }

    /// As it is laid into memory that is shared.
    /// What another node said is verified first, as a reader would: who finds it there does not do it again.
    fn answered(&self, previous: Option<MessageIdentity>) -> Option<Answered> {
        let (partition, trim, stored, committed, pieces) = match self {
            Self::Here(here) => (here.partition, here.trim, here.stored, here.committed, here.batches.clone()),
            Self::There(there) => {
                let mut views = batches(&there.batches);
                if !views.all(|view| view.and_then(|view| view.verify()).is_ok()) {
                    return None;
                }
                (there.partition, there.trim, there.stored, there.committed, vec![there.batches.clone()])
            }
        };
        let marks = RunMarks { partition, epoch: self.epoch(), trim, stored, committed };
        Some(Answered { marks, start: self.range().0, previous, pieces })
    }

    /// The offset answered from, and where to go on.
    pub(super) fn range(&self) -> (Offset, Offset) {
        match self {
            Self::Here(pieces) => (pieces.start, pieces.next),
            Self::There(fetched) => (fetched.start, fetched.next),
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Here(pieces) => pieces.batches.iter().map(|piece| piece.len() as u64).sum(),
            Self::There(fetched) => fetched.batches.len() as u64,
        }
    }

    fn tier(&self) -> Tier {
        match self {
            Self::Here(pieces) => match pieces.served {
                Served::Tail | Served::Journal | Served::Nothing => Tier::Tail,
                Served::CacheMemory | Served::CacheDisk => Tier::Cache,
                Served::Bucket => Tier::Bucket,
            },
            Self::There(_) => Tier::Peer,
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        match self {
            Self::Here(pieces) => pieces.epoch,
            Self::There(fetched) => fetched.epoch,
        }
    }

    /// The last message of the answer.
    pub(super) fn last(&self) -> Option<MessageIdentity> {
        let newest = match self {
            Self::Here(pieces) => pieces.batches.last()?,
            Self::There(fetched) => &fetched.batches,
        };
        let batch = batches(newest).filter_map(Result::ok).last()?;
        batch.messages().filter_map(Result::ok).last().map(|message| message.identity())
    }

    /// The frame of a push.
    pub(super) fn into_followed(self, correlation: u64) -> Frame {
        match self {
            Self::Here(pieces) => Frame { kind: FrameKind::Followed, ..pieces.into_frame(correlation) },
            Self::There(fetched) => Message::Followed(fetched).encode(correlation),
        }
    }
}
