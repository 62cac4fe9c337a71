//! `wal-shipper recreate`: an operator's word that a partition of a running server began a new history, where the ring and
//! the server hold different messages (PROTOCOL R15). Shippers that run hear of it within seconds and ship it anew.

use anyhow::Context;
use kennel_protocol::catalog::{Catalog, life_after_purge};
use kennel_protocol::ids::{Incarnation, PartitionKey};

use crate::cli::RecreateArgs;
use crate::config::Config;
use crate::import::open_ring;
use crate::ship::{AgreeError, Ring, agree};

/// Begins a new life of partitions, and prints their keys.
///
/// # Cancel safety
/// Some may have begun and others not: look at what it printed.
pub async fn recreate(config: &Config, args: &RecreateArgs) -> anyhow::Result<Vec<PartitionKey>> {
    let ring = open_ring(config)?;
    let mut begun = Vec::new();
    for partition in &args.partitions {
        let key = begin_anew(&ring, *partition).await?;
        begun.push(key.with_context(|| format!("the ring's catalogue does not list {partition}"))?);
    }
    Ok(begun)
}

/// Gives a partition's ids the life after the one that stands, whatever life is named; answers the new key, or `None` if
/// the ring does not know the ids.
///
/// # Cancel safety
/// It may have begun all the same; called again, it begins one more.
pub async fn begin_anew(ring: &Ring, partition: PartitionKey) -> Result<Option<PartitionKey>, AgreeError> {
    let agreed = agree(ring, &|standing| Ok(standing.and_then(|standing| risen(standing, partition)))).await?;
    let life = agreed.and_then(|agreed| agreed.incarnation(partition.stream, partition.topic, partition.partition));
    Ok(life.map(|incarnation| PartitionKey { incarnation, ..partition }))
}

fn risen(standing: &Catalog, partition: PartitionKey) -> Option<Catalog> {
    let mut next = standing.clone();
    let stream = next.streams.iter_mut().find(|stream| stream.id == partition.stream)?;
    let topic = stream.topics.iter_mut().find(|topic| topic.id == partition.topic)?;
    let entry = topic.partitions.iter_mut().find(|entry| entry.id == partition.partition)?;
    let before: Incarnation = entry.incarnation;
    entry.incarnation = life_after_purge(before, Some(before));
    Some(next)
}
