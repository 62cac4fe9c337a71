//! Who owns what, as the best informed node says: all are asked, again and again, so that a silent one delays nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use kennel_protocol::ids::{Epoch, ShardId};
use kennel_protocol::wire::{Message, View, ViewRequest};
use kennel_transport::lane::Lane;
use kennel_transport::rpc::Caller;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use wal_shipper::ship::Ring;

/// The newest owner of each shard, and where it is.
pub(crate) type Owners = BTreeMap<ShardId, (Epoch, SocketAddr)>;

/// Between two questions to one node.
const LOOK: Duration = Duration::from_millis(20);
/// A node that does not answer for so long is gone, or paused: a new session will tell.
const ANSWER: Duration = Duration::from_millis(500);

/// Asks every node for its view, for as long as `tasks` live.
pub(crate) fn watch_views(ring: &Ring, nodes: Vec<SocketAddr>, tasks: &mut JoinSet<()>) -> watch::Receiver<Owners> {
    let (owners, known) = watch::channel(Owners::new());
    for node in nodes {
        let (ring, owners) = (ring.clone(), owners.clone());
        tasks.spawn(async move {
            loop {
                // Whatever went wrong: a new session.
                if let Ok(Some((session, caller))) = timeout(ANSWER * 2, open(&ring, node)).await {
                    ask(&caller, &owners).await;
                    drop(session);
                }
                sleep(LOOK).await;
            }
        });
    }
    known
}

type Asked = (std::sync::Arc<dyn kennel_transport::session::Session>, Caller);

async fn open(ring: &Ring, node: SocketAddr) -> Option<Asked> {
    let (session, _) = ring.connect(node, None).await.ok()?;
    let (caller, _unasked) = Caller::new(session.open(Lane::Control).await.ok()?);
    Some((session, caller))
}

async fn ask(caller: &Caller, owners: &watch::Sender<Owners>) {
    while let Ok(Message::View(view)) = caller.call(Message::ViewRequest(ViewRequest), Instant::now() + ANSWER).await {
        owners.send_if_modified(|owners| learn(owners, &view));
        sleep(LOOK).await;
    }
}

fn learn(owners: &mut Owners, view: &View) -> bool {
    let mut learned = false;
    for shard in &view.shards {
        let owner = view.nodes.iter().find(|node| Some(node.node) == shard.owner);
        let Some(address) = owner.and_then(|owner| owner.address.parse().ok()) else { continue };
        if owners.get(&shard.shard).is_none_or(|(epoch, _)| *epoch < shard.epoch) {
            owners.insert(shard.shard, (shard.epoch, address));
            learned = true;
        }
    }
    learned
}
