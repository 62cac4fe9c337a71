//! Which shards this node owns and who owns the others, for views, forwarding and gossip.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use kennel_core::shard::RoleChange;
use kennel_protocol::ids::{Epoch, NodeId, ShardId};
use kennel_protocol::wire::ShardView;

/// What is known of one shard.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    epoch: Epoch,
    owner: Option<NodeId>,
}

/// Everybody's roles, as far as this node knows. The newest epoch counts, whoever told of it.
#[derive(Debug)]
pub(super) struct Roles {
    node: NodeId,
    shards: Mutex<BTreeMap<ShardId, Known>>,
}

impl Roles {
    pub(super) fn new(node: NodeId, shard_count: u16) -> Self {
        let shards = (0..shard_count).map(|shard| (ShardId(shard), Known::default())).collect();
        Self { node, shards: Mutex::new(shards) }
    }

    /// Takes what a machine of this node says.
    pub(super) fn changed(&self, shard: ShardId, change: RoleChange) {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let known = shards.entry(shard).or_default();
        match change {
            RoleChange::Owner { epoch } => *known = Known { epoch, owner: Some(self.node) },
            RoleChange::NotOwner { epoch, owner } => {
                let owner = owner.filter(|owner| *owner != self.node);
                if epoch > known.epoch || known.owner == Some(self.node) || owner.is_some() && epoch == known.epoch {
                    *known = Known { epoch: epoch.max(known.epoch), owner };
                }
            }
            RoleChange::Halted => known.owner = known.owner.filter(|owner| *owner != self.node),
        }
    }

    /// Takes what another node says of itself.
    pub(super) fn heard(&self, shard: ShardId, epoch: Epoch, owner: NodeId) {
        if owner == self.node {
            return;
        }
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = shards.get_mut(&shard) else { return };
        if epoch > known.epoch || epoch == known.epoch && known.owner.is_none() {
            *known = Known { epoch, owner: Some(owner) };
        }
    }

    pub(super) fn owner(&self, shard: ShardId) -> (Epoch, Option<NodeId>) {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        shards.get(&shard).map_or((Epoch(0), None), |known| (known.epoch, known.owner))
    }

    pub(super) fn views(&self) -> Vec<ShardView> {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        shards
            .iter()
            .map(|(shard, known)| ShardView { shard: *shard, epoch: known.epoch, owner: known.owner })
            .collect()
    }
}
