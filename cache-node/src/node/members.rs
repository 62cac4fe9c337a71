//! From gossip to placement: what is seen, once it has stood, becomes a ring, and the ring tells each shard its candidates.

use std::sync::Arc;

use kennel_core::membership::{Membership, Settled};
use kennel_core::ring::Ring;
use kennel_core::shard::{Input, Placement};
use kennel_protocol::ids::{NodeId, ShardId};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

use super::clock::Clock;
use super::peers::Peers;
use super::roles::Roles;
use super::shard_task::ShardInput;
use crate::gossip::GossipView;

/// Watches gossip and places the shards.
pub(super) struct Members {
    pub(super) clock: Clock,
    pub(super) settled: Settled,
    pub(super) copies: usize,
    pub(super) peers: Peers,
    pub(super) roles: Arc<Roles>,
    pub(super) shards: Vec<mpsc::Sender<ShardInput>>,
    pub(super) current: watch::Sender<Option<Arc<Membership>>>,
}

impl Members {
    /// Runs until gossip ends or `stop` says so.
    pub(super) async fn run(mut self, mut gossip: watch::Receiver<GossipView>, mut stop: watch::Receiver<bool>) {
        loop {
            let view = gossip.borrow_and_update().clone();
            self.hear(&view);
            let settled = self.settled.observe(self.clock.now(), view.members).map(Option::<&Membership>::cloned);
            match settled {
                Ok(Some(membership)) => self.place(membership).await,
                Ok(None) => {}
                Err(error) => tracing::warn!(error = %error, "gossip shows an impossible membership; ignored"),
            }
            if !self.wait(&mut gossip, &mut stop).await {
                return;
            }
        }
    }

    /// Waits for news; places the shards when a change has stood long enough meanwhile.
    async fn wait(&mut self, gossip: &mut watch::Receiver<GossipView>, stop: &mut watch::Receiver<bool>) -> bool {
        loop {
            let due = self.settled.poll_timeout().map(|due| self.clock.wall(due));
            let expiry = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = gossip.changed() => return changed.is_ok(),
                () = stopped(stop) => return false,
                () = expiry => {}
            }
            if let Some(membership) = self.settled.expire(self.clock.now()).cloned() {
                self.place(membership).await;
            }
        }
    }

    fn hear(&self, view: &GossipView) {
        for (shard, (owner, ownership)) in &view.shards {
            self.roles.heard(*shard, ownership.epoch, *owner);
        }
        if let Ok(seen) = Membership::new(0, view.members.clone()) {
            self.peers.learn(&seen);
        }
    }

    async fn place(&self, membership: Membership) {
        let nodes: Vec<NodeId> = membership.members().iter().map(|member| member.node).collect();
        tracing::info!(version = membership.version(), ?nodes, "the membership has settled");
        let shard_count = u16::try_from(self.shards.len()).expect("a cluster's shards are counted in 16 bits");
        let ring = Ring::new(&membership, shard_count, self.copies);
        let members: Vec<_> = membership.members().iter().map(|member| (member.node, member.journal)).collect();
        for (shard, inbox) in (0..).map(ShardId).zip(&self.shards) {
            let placement = Placement { members: members.clone(), candidates: ring.candidates(shard).to_vec() };
            let input = ShardInput::Machine(Input::Placement(Arc::new(placement)));
            if inbox.send(input).await.is_err() {
                return;
            }
        }
        self.current.send_replace(Some(Arc::new(membership)));
    }
}

/// Returns once the node stops. The guard that the channel gives must not live across an await.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}
