//! The newest catalogue in memory, on every node; and, on the owner of its shard, what may follow it (PROTOCOL R29).
//!
//! One task owns the picture and does one thing at a time. The owner of the catalogue's shard reads the bucket once per
//! epoch and writes the next catalogue; every other node asks the owner, no more often than [`LOOK_INTERVAL`] and only
//! while somebody asks it, and reads the bucket where there is no owner. That two nodes may think that they own the shard
//! does no harm: a revision is created once. The book does not know what changed, or who may ask.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kennel_protocol::catalog::Catalog;
use kennel_protocol::ids::{Epoch, NodeId, ShardId};
use kennel_protocol::wire::{
    CatalogAck, CatalogOffer, CatalogPut, CatalogRequest, CatalogVerdict, Catalogued, ErrorCode, Message, Role,
    WireError,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

use super::catalog_store::{CatalogStore, Created};
use super::peers::Peers;
use super::roles::Roles;
use super::serve::refuse;
use crate::bucket::BucketError;

/// The shard under whose claim the catalogue lives (PROTOCOL R29).
const CATALOG_SHARD: ShardId = ShardId(0);

/// How old a look at the owner may be before another one: names change when people change them, and four questions a
/// second are nothing to an owner.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// How old an owner's own look at the bucket may be: only a node that wrongly thinks that it is the owner writes beside it.
const OWNER_LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// How long the owner may take to answer another node: it answers from memory.
const OWNER_PATIENCE: Duration = Duration::from_secs(2);

/// How long somebody with an older picture at hand waits for a newer one.
const FRESH_PATIENCE: Duration = Duration::from_millis(500);

/// Questions that wait for the keeper. Askers wait when it is full.
const QUESTIONS_MAX: usize = 64;

/// A catalogue as it stands: decoded, and as it travels.
#[derive(Debug)]
pub(super) struct StandingCatalog {
    pub(super) revision: u64,
    pub(super) catalog: Catalog,
    pub(super) bytes: Bytes,
}

/// What a node holds of the catalogue. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct CatalogBook {
    node: NodeId,
    roles: Arc<Roles>,
    standing: watch::Receiver<Option<Arc<StandingCatalog>>>,
    looked: Arc<Mutex<Option<Instant>>>,
    questions: mpsc::Sender<Question>,
}

type Answer<T> = oneshot::Sender<Result<T, WireError>>;

#[derive(Debug)]
enum Question {
    /// Look whether there is something newer.
    Look(Option<Answer<()>>),
    Offer(CatalogOffer, Answer<CatalogVerdict>),
    Put(CatalogPut, Answer<CatalogAck>),
}

impl CatalogBook {
    /// A book, and the keeper that must run for it.
    pub(super) fn new(node: NodeId, roles: Arc<Roles>, peers: Peers, store: CatalogStore) -> (Self, Keeper) {
        let (newest, standing) = watch::channel(None);
        let (questions, queue) = mpsc::channel(QUESTIONS_MAX);
        let looked = Arc::new(Mutex::new(None));
        let book = Self { node, roles: Arc::clone(&roles), standing, looked: Arc::clone(&looked), questions };
        (book, Keeper { node, roles, peers, store, newest, read_in: None, looked, last: Ok(()), queue })
    }

    /// The newest catalogue that this node has seen, at once. If the last look is older than it should be, one is begun.
    pub(super) fn standing(&self) -> Option<Arc<StandingCatalog>> {
        if age(&self.looked).is_none_or(|age| age > LOOK_INTERVAL) {
            // Where the queue is full, a look is on its way already.
            let _ = self.questions.try_send(Question::Look(None));
        }
        self.standing.borrow().clone()
    }

    /// The newest catalogue after a look; one that is at hand if the look takes long.
    ///
    /// # Cancel safety
    /// Safe: a look that was begun goes on.
    pub(super) async fn fresh(&self) -> Result<Option<Arc<StandingCatalog>>, WireError> {
        let at_hand = self.standing.borrow().clone();
        let look = self.ask(|answer| Question::Look(Some(answer)));
        match at_hand {
            Some(at_hand) => {
                // Names decide nothing: an older picture is better than none.
                let _ = timeout(FRESH_PATIENCE, look).await;
                Ok(self.standing.borrow().clone().or(Some(at_hand)))
            }
            None => look.await.map(|()| self.standing.borrow().clone()),
        }
    }

    /// The answer to somebody who asks. Another node is answered by the owner only: two that take each other for the
    /// owner would wait for each other.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn answer(&self, request: CatalogRequest, asker: Role) -> Result<Message, WireError> {
        if asker == Role::Node {
            owned(&self.roles, self.node)?;
        }
        let standing = self.fresh().await?;
        let newer =
            standing.as_ref().filter(|standing| request.newer_than.is_none_or(|known| known < standing.revision));
        let catalog = newer.map(|standing| standing.bytes.clone());
        Ok(Message::Catalogued(Catalogued { revision: standing.as_ref().map(|standing| standing.revision), catalog }))
    }

    /// Whether an offered catalogue stands now.
    ///
    /// # Cancel safety
    /// Safe: the offer may stand all the same.
    pub(super) async fn offer(&self, offer: CatalogOffer) -> Result<Message, WireError> {
        self.ask(|answer| Question::Offer(offer, answer)).await.map(Message::CatalogVerdict)
    }

    /// Takes a catalogue as wire version 1 puts it: it stands if its revision is higher.
    ///
    /// # Cancel safety
    /// Safe: it may stand all the same.
    pub(super) async fn put(&self, put: CatalogPut) -> Result<Message, WireError> {
        self.ask(|answer| Question::Put(put, answer)).await.map(Message::CatalogAck)
    }

    async fn ask<T>(&self, question: impl FnOnce(Answer<T>) -> Question) -> Result<T, WireError> {
        let stopping = || refuse(ErrorCode::Stopping, "the node is stopping", None);
        let (answer, answered) = oneshot::channel();
        self.questions.send(question(answer)).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())?
    }
}

fn age(looked: &Mutex<Option<Instant>>) -> Option<Duration> {
    looked.lock().unwrap_or_else(PoisonError::into_inner).map(|looked| looked.elapsed())
}

/// The one who looks, and who writes where this node owns the catalogue's shard.
#[derive(Debug)]
pub(super) struct Keeper {
    node: NodeId,
    roles: Arc<Roles>,
    peers: Peers,
    store: CatalogStore,
    newest: watch::Sender<Option<Arc<StandingCatalog>>>,
    /// The epoch of the own ownership in which the bucket was read.
    read_in: Option<Epoch>,
    looked: Arc<Mutex<Option<Instant>>>,
    /// How the last look went.
    last: Result<(), WireError>,
    queue: mpsc::Receiver<Question>,
}

impl Keeper {
    /// Keeps the book until `stop` says so.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let question = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                question = self.queue.recv() => question,
            };
            // An answer that nobody waits for any more is dropped.
            match question {
                Some(Question::Look(answer)) => {
                    let looked = self.look().await;
                    if let Some(answer) = answer {
                        drop(answer.send(looked));
                    }
                }
                Some(Question::Offer(offer, answer)) => drop(answer.send(self.offer(offer).await)),
                Some(Question::Put(put, answer)) => drop(answer.send(self.put(put).await)),
                None => return,
            }
        }
    }

    /// Looks, unless the last look is young enough.
    async fn look(&mut self) -> Result<(), WireError> {
        let (epoch, owner) = self.roles.owner(CATALOG_SHARD);
        let mine = owner == Some(self.node);
        let unread = mine && self.read_in != Some(epoch);
        let interval = if mine && self.last.is_ok() { OWNER_LOOK_INTERVAL } else { LOOK_INTERVAL };
        let young = age(&self.looked).is_some_and(|age| age < interval);
        if !young || unread && self.last.is_ok() {
            self.last = match owner {
                Some(owner) if !mine && self.look_at(owner).await.is_some() => Ok(()),
                _ => self.look_into_bucket().await,
            };
            if mine && self.last.is_ok() {
                self.read_in = Some(epoch);
            }
            *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        self.last.clone()
    }

    /// Asks the owner; `None` if it could not be asked, or did not know.
    async fn look_at(&self, owner: NodeId) -> Option<()> {
        let request = CatalogRequest { newer_than: self.revision() };
        let deadline = Instant::now() + OWNER_PATIENCE;
        match self.peers.ask(owner, Message::CatalogRequest(request), deadline).await {
            Ok(Message::Catalogued(Catalogued { revision: Some(revision), catalog: Some(bytes) })) => {
                match StandingCatalog::read(revision, bytes).await {
                    Ok(read) => {
                        self.stands(read);
                        Some(())
                    }
                    Err(error) => {
                        tracing::warn!(%owner, error = error.message, "the catalogue of another node cannot be read");
                        None
                    }
                }
            }
            Ok(Message::Catalogued(_)) => Some(()),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(error = %error, "the owner has no catalogue to give; the bucket answers");
                None
            }
        }
    }

    async fn look_into_bucket(&self) -> Result<(), WireError> {
        if let Some((revision, bytes)) = self.store.newest_above(self.revision()).await.map_err(unavailable)? {
            self.stands(StandingCatalog::read(revision, bytes).await?);
        }
        Ok(())
    }

    async fn offer(&mut self, offer: CatalogOffer) -> Result<CatalogVerdict, WireError> {
        let offered = decode(offer.catalog.clone()).await?;
        self.read_as_writer().await?;
        let standing = self.newest.borrow().clone();
        let revision = standing.as_ref().map(|standing| standing.revision);
        if standing.is_some_and(|standing| standing.catalog.lists_the_same(&offered)) {
            return Ok(CatalogVerdict { taken: true, revision });
        }
        if offer.base != revision {
            return Ok(CatalogVerdict { taken: false, revision });
        }
        if offered.revision != revision.unwrap_or_default().saturating_add(1) {
            return Err(refuse(ErrorCode::Malformed, "a catalogue's revision is one more than its base", None));
        }
        let taken = self.write(offered.revision, offer.catalog, offered).await?;
        Ok(CatalogVerdict { taken, revision: self.revision() })
    }

    async fn put(&mut self, put: CatalogPut) -> Result<CatalogAck, WireError> {
        let catalog = decode(put.catalog.clone()).await?;
        self.read_as_writer().await?;
        let revision = put.revision.max(catalog.revision);
        let standing = self.newest.borrow().clone();
        let newer = standing.as_ref().is_none_or(|standing| standing.revision < revision);
        if newer && !standing.is_some_and(|standing| standing.catalog.lists_the_same(&catalog)) {
            self.write(revision, put.catalog, catalog).await?;
        }
        let revision = self.revision().unwrap_or(revision);
        Ok(CatalogAck { revision, incarnation_next: kennel_protocol::ids::Incarnation(0) })
    }

    /// Only the owner of the catalogue's shard writes, and only knowing what stands.
    async fn read_as_writer(&mut self) -> Result<(), WireError> {
        let epoch = owned(&self.roles, self.node)?;
        if self.read_in != Some(epoch) {
            self.look_into_bucket().await?;
            self.read_in = Some(epoch);
        }
        Ok(())
    }

    /// Whether the catalogue of this revision is this one now. If not, what stands is known afterwards.
    async fn write(&self, revision: u64, bytes: Bytes, catalog: Catalog) -> Result<bool, WireError> {
        match self.store.create(revision, bytes.clone()).await.map_err(unavailable)? {
            Created::Ours => {
                self.stands(StandingCatalog { revision, catalog, bytes });
                Ok(true)
            }
            Created::Taken => {
                self.look_into_bucket().await?;
                Ok(false)
            }
        }
    }

    fn revision(&self) -> Option<u64> {
        self.newest.borrow().as_ref().map(|standing| standing.revision)
    }

    /// Takes a newer catalogue; an older one changes nothing.
    fn stands(&self, read: StandingCatalog) {
        self.newest.send_if_modified(|standing| {
            let newer = standing.as_ref().is_none_or(|standing| standing.revision < read.revision);
            if newer {
                tracing::debug!(revision = read.revision, "a newer catalogue");
                *standing = Some(Arc::new(read));
            }
            newer
        });
    }
}

impl StandingCatalog {
    async fn read(revision: u64, bytes: Bytes) -> Result<Self, WireError> {
        let catalog = decode(bytes.clone()).await?;
        Ok(Self { revision, catalog, bytes })
    }
}

/// Decodes away from the tasks that serve: the largest catalogue has a million partitions.
async fn decode(bytes: Bytes) -> Result<Catalog, WireError> {
    let decoded = tokio::task::spawn_blocking(move || Catalog::decode(&bytes)).await;
    let decoded = decoded.map_err(|_| refuse(ErrorCode::Stopping, "the node is stopping", None))?;
    decoded.map_err(|error| refuse(ErrorCode::Malformed, error.to_string(), None))
}

#[expect(clippy::needless_pass_by_value, reason = "it maps the errors of results")]
fn unavailable(error: BucketError) -> WireError {
    refuse(ErrorCode::BucketUnavailable, error.to_string(), None)
}

/// The epoch in which this node owns the catalogue's shard.
fn owned(roles: &Roles, node: NodeId) -> Result<Epoch, WireError> {
    match roles.owner(CATALOG_SHARD) {
        (epoch, Some(owner)) if owner == node => Ok(epoch),
        (_, Some(owner)) => {
            let message = format!("node {owner} owns shard {CATALOG_SHARD}, which keeps the catalogue");
            Err(refuse(ErrorCode::Moved, message, Some(owner)))
        }
        (_, None) => Err(refuse(ErrorCode::NoOwner, "the catalogue's shard has no owner yet", None)),
    }
}
