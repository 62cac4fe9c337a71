//! Agrees with the ring, and so with other shippers, on the next catalogue (PROTOCOL R29).
//!
//! One read of what stands, one offer that names it, and again if another shipper was quicker. What is to change is the
//! caller's business: [`kennel_protocol::catalog::merge`] for pictures, its rules of lives for incarnations. A ring of
//! wire version 1 cannot be read; it is given the picture under the time as its revision, as it was before.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kennel_protocol::catalog::{Catalog, MergeError};
use kennel_protocol::frame::FrameKind;
use kennel_protocol::ids::ShardId;
use kennel_protocol::object::ObjectError;
use kennel_protocol::wire::{
    CatalogAck, CatalogOffer, CatalogPut, CatalogRequest, CatalogVerdict, Catalogued, Message, View, ViewRequest,
    Welcome,
};
use kennel_transport::close::{CloseCode, SessionError};
use kennel_transport::lane::Lane;
use kennel_transport::rpc::{CallError, Caller};
use kennel_transport::session::Session;
use tokio::time::Instant;

use super::ring::{Ring, RingError};

/// The shard whose owner keeps the catalogue (PROTOCOL R29).
const CATALOG_SHARD: ShardId = ShardId(0);

/// How long the owner may take for one answer: a few requests to a bucket that may be slow.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// How often one call offers again because another shipper was quicker. Of N shippers that start at once one succeeds in
/// every round, so this serves more of them than a source has.
const ROUNDS_MAX: u32 = 32;

/// Why there is no agreement on a catalogue. Shipping goes on without: it needs no names.
#[derive(Debug, thiserror::Error)]
pub enum AgreeError {
    /// No node can be spoken to. Retry.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// Nobody owns the catalogue's shard now. Wait.
    #[error("shard {CATALOG_SHARD}, which keeps the catalogue, has no owner now")]
    NoOwner,
    /// The session broke. Retry.
    #[error("the session to the catalogue's owner broke")]
    Session(#[source] SessionError),
    /// No answer, or a refusal. Retry: an offer that stands already is not written twice.
    #[error("the catalogue's owner gave no answer")]
    Call(#[source] CallError),
    /// The node answered something else. Fix the node.
    #[error("the node answered with another message than was due")]
    Unexpected,
    /// The ring's catalogue cannot be read by this build. Fix: upgrade this side.
    #[error("the ring's catalogue cannot be read")]
    Unreadable(#[source] ObjectError),
    /// Others were quicker every time. Wait.
    #[error("other shippers changed the catalogue {ROUNDS_MAX} times meanwhile")]
    Contested,
    /// What is seen does not go together with what stands. Fix: the names.
    #[error("the names do not go together with those that the ring has")]
    Merge(#[from] MergeError),
}

/// What is to follow the catalogue that stands, if there is one; `None` where nothing is to change.
pub type CatalogChange<'a> = dyn Fn(Option<&Catalog>) -> Result<Option<Catalog>, MergeError> + Send + Sync + 'a;

/// Makes what `change` says of the standing catalogue the next one, and returns what stands in the end: `None` if there is
/// none and none is wanted. `change` is asked again with what stands whenever another shipper was quicker; it answers
/// `None` where nothing is to change, so one that always does reads.
///
/// # Cancel safety
/// Safe: an offer may stand all the same, which the next call finds.
pub async fn agree(ring: &Ring, change: &CatalogChange<'_>) -> Result<Option<Catalog>, AgreeError> {
    let owner = Owner::find(ring).await?;
    let agreed = if owner.version < FrameKind::CatalogOffer.since() {
        owner.put(change).await
    } else {
        owner.offer(change).await
    };
    owner.session.close(CloseCode::DONE, "the catalogue is agreed on");
    agreed
}

/// The owner of the catalogue's shard, on a session of its own.
struct Owner {
    session: Arc<dyn Session>,
    control: Caller,
    version: u16,
}

impl Owner {
    async fn find(ring: &Ring) -> Result<Self, AgreeError> {
        let (session, welcome) = ring.first_node(Duration::ZERO).await?;
        let first = Self::open(session, &welcome).await?;
        let view = match first.ask(Message::ViewRequest(ViewRequest)).await {
            Ok(Message::View(view)) => Ok(view),
            Ok(_) => Err(AgreeError::Unexpected),
            Err(error) => Err(error),
        };
        let owner = view.and_then(|view| owner_in(&view).ok_or(AgreeError::NoOwner));
        if owner.as_ref().is_ok_and(|(node, _)| *node == welcome.node) {
            return Ok(first);
        }
        first.session.close(CloseCode::DONE, "another node owns the catalogue");
        let (node, address) = owner?;
        let (session, welcome) = ring.connect(address, Some(node)).await?;
        Self::open(session, &welcome).await
    }

    async fn open(session: Arc<dyn Session>, welcome: &Welcome) -> Result<Self, AgreeError> {
        let lane = session.open(Lane::Control).await.map_err(AgreeError::Session)?;
        // Nothing comes unasked.
        let (control, _) = Caller::new(lane);
        Ok(Self { session, control: control.speaking(welcome.version), version: welcome.version })
    }

    async fn ask(&self, question: Message) -> Result<Message, AgreeError> {
        self.control.call(question, Instant::now() + ANSWER_WAIT).await.map_err(AgreeError::Call)
    }

    async fn offer(&self, change: &CatalogChange<'_>) -> Result<Option<Catalog>, AgreeError> {
        let mut standing = None;
        for _ in 0..ROUNDS_MAX {
            standing = self.newest(standing).await?;
            let Some(mut next) = change(standing.as_ref())? else { return Ok(standing) };
            let base = standing.as_ref().map(|standing| standing.revision);
            next.revision = standing.as_ref().unwrap_or(&Catalog::default()).next_revision();
            let offer = CatalogOffer { base, catalog: next.encode() };
            match self.ask(Message::CatalogOffer(offer)).await? {
                Message::CatalogVerdict(CatalogVerdict { taken: true, revision }) => {
                    next.revision = revision.unwrap_or(next.revision);
                    return Ok(Some(next));
                }
                Message::CatalogVerdict(verdict) => tracing::debug!(?verdict, "another shipper was quicker"),
                _ => return Err(AgreeError::Unexpected),
            }
        }
        Err(AgreeError::Contested)
    }

    /// What stands, where `known` is what stood before.
    async fn newest(&self, known: Option<Catalog>) -> Result<Option<Catalog>, AgreeError> {
        let newer_than = known.as_ref().map(|known| known.revision);
        match self.ask(Message::CatalogRequest(CatalogRequest { newer_than })).await? {
            Message::Catalogued(Catalogued { revision: Some(revision), catalog: Some(bytes) }) => {
                let catalog = Catalog::decode(&bytes).map_err(AgreeError::Unreadable)?;
                // What counts is the revision under which it stands.
                Ok(Some(Catalog { revision, ..catalog }))
            }
            Message::Catalogued(_) => Ok(known),
            _ => Err(AgreeError::Unexpected),
        }
    }

    /// As wire version 1 has it: unseen, under the time.
    async fn put(&self, change: &CatalogChange<'_>) -> Result<Option<Catalog>, AgreeError> {
        let Some(mut next) = change(None)? else { return Ok(None) };
        next.revision = now_micros();
        let put = CatalogPut { revision: next.revision, catalog: next.encode() };
        match self.ask(Message::CatalogPut(put)).await? {
            Message::CatalogAck(CatalogAck { .. }) => Ok(Some(next)),
            _ => Err(AgreeError::Unexpected),
        }
    }
}

fn owner_in(view: &View) -> Option<(kennel_protocol::ids::NodeId, SocketAddr)> {
    let owner = view.shards.iter().find(|shard| shard.shard == CATALOG_SHARD)?.owner?;
    let node = view.nodes.iter().find(|node| node.node == owner)?;
    Some((owner, node.address.parse().ok()?))
}

/// Orders a catalogue after earlier ones where they cannot be read: files carry no revision.
fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
