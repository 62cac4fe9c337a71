//! Making a prefix a cluster, once, and refusing to run on somebody else's.

use std::time::Duration;

use kennel_protocol::ids::ClusterId;
use kennel_protocol::keys::CLUSTER_KEY;
use kennel_protocol::limits::SHARD_COUNT_MAX;
use kennel_protocol::object::{CLUSTER_FORMAT, ClusterIdentity, ObjectError};
use tokio::time::sleep;

use super::create::CreateOutcome;
use super::error::BucketError;
use super::store::Bucket;
use crate::random;

/// How often the same bytes are sent while neither they nor others are found.
const TRIES_MAX: u32 = 5;
/// The pause after the first try; each further one is longer by as much.
const PAUSE: Duration = Duration::from_millis(200);

/// Why a node must not run on this prefix.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The shard count cannot be had. *Fix* the setting.
    #[error("shard_count {wanted} is not between 1 and {SHARD_COUNT_MAX}")]
    ShardCountOutOfRange {
        /// What the settings ask for.
        wanted: u16,
    },
    /// Another cluster lives here. *Fix* the url, or the cluster id.
    #[error("the prefix belongs to cluster {found}, and this node is configured for {wanted}; choose another prefix")]
    OtherCluster {
        /// Whose prefix it is.
        found: ClusterId,
        /// Whom the node is configured for.
        wanted: ClusterId,
    },
    /// The shard count is another. It is fixed when a prefix is created. *Fix* the setting.
    #[error(
        "the cluster was created with shard_count {found}, which never changes; this node is configured for {wanted}"
    )]
    OtherShardCount {
        /// What the cluster has.
        found: u16,
        /// What the settings ask for.
        wanted: u16,
    },
    /// The identity cannot be read: damaged, or of a format that this build does not know. *Stop*, or upgrade.
    #[error(
        "the object `{CLUSTER_KEY}` is not an identity that this build can read; is the url right, and the build new?"
    )]
    Unreadable {
        /// What is wrong with it.
        #[source]
        source: ObjectError,
    },
    /// Sent again and again, and still neither there nor refused. *Retry*.
    #[error("the bucket neither keeps nor refuses the object `{CLUSTER_KEY}`")]
    Unsettled {
        /// What the last try got.
        #[source]
        source: Option<BucketError>,
    },
    /// The bucket could not be asked, or refused. As that error says.
    #[error("the cluster's identity could not be read or created")]
    Bucket {
        /// Why.
        #[source]
        source: BucketError,
    },
}

/// The identity of the cluster under the bucket's prefix, created if the prefix is empty.
///
/// Of several nodes that start at once one creates it, and all return the same. `cluster` is the id that the node
/// is configured for; `None` takes what is there, or a random one.
///
/// Cancel safety: dropped before it ends, the identity may have been created; calling again returns it.
pub async fn establish_cluster(
    bucket: &Bucket,
    shard_count: u16,
    cluster: Option<ClusterId>,
) -> Result<ClusterIdentity, ClusterError> {
    if !(1..=SHARD_COUNT_MAX).contains(&shard_count) {
        return Err(ClusterError::ShardCountOutOfRange { wanted: shard_count });
    }
    let wanted = ClusterIdentity {
        cluster: cluster.unwrap_or_else(|| ClusterId(random::id())),
        shard_count,
        format: CLUSTER_FORMAT,
    };
    let bytes = wanted.encode();
    let mut last = None;
    for tries in 1..=TRIES_MAX {
        // Whatever is there is the identity, whoever wrote it: nothing has to be known about one's own tries.
        let there = bucket.get(CLUSTER_KEY).await.map_err(|source| ClusterError::Bucket { source })?;
        if let Some(there) = there {
            let found = ClusterIdentity::decode(&there).map_err(|source| ClusterError::Unreadable { source })?;
            return agree(found, shard_count, cluster);
        }
        match bucket.create(CLUSTER_KEY, vec![bytes.clone()]).await {
            CreateOutcome::Done => return Ok(wanted),
            CreateOutcome::Exists => {}
            CreateOutcome::Unknown(source) => {
                last = Some(source);
                sleep(PAUSE * tries).await;
            }
            CreateOutcome::Failed(source) => return Err(ClusterError::Bucket { source }),
        }
    }
    Err(ClusterError::Unsettled { source: last })
}

fn agree(
    found: ClusterIdentity,
    shard_count: u16,
    cluster: Option<ClusterId>,
) -> Result<ClusterIdentity, ClusterError> {
    match cluster {
        Some(wanted) if wanted != found.cluster => Err(ClusterError::OtherCluster { found: found.cluster, wanted }),
        _ if found.shard_count != shard_count => {
            Err(ClusterError::OtherShardCount { found: found.shard_count, wanted: shard_count })
        }
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::future::join_all;

    use super::super::settings::BucketSettings;
    use super::*;

    async fn empty_bucket() -> Bucket {
        let url = format!("memory://{:x}/prefix", random::id());
        Bucket::connect(&BucketSettings::at(url)).await.expect("a bucket")
    }

    #[tokio::test]
    async fn nodes_that_start_at_once_agree() {
        let bucket = empty_bucket().await;
        let nodes = join_all((0..16).map(|_| establish_cluster(&bucket, 8, None))).await;
        let identities: Vec<_> = nodes.into_iter().map(|node| node.expect("an identity")).collect();
        assert!(identities.iter().all(|identity| identity == &identities[0]), "{identities:?}");
        assert_eq!(identities[0].shard_count, 8);
    }

    #[tokio::test]
    async fn somebody_elses_prefix_is_refused() {
        let bucket = empty_bucket().await;
        let mine = ClusterId(7);
        establish_cluster(&bucket, 8, Some(mine)).await.expect("an empty prefix");
        let again = establish_cluster(&bucket, 8, None).await.expect("the same settings");
        assert_eq!(again.cluster, mine);
        let other = establish_cluster(&bucket, 8, Some(ClusterId(8))).await;
        assert!(matches!(other, Err(ClusterError::OtherCluster { found, .. }) if found == mine), "{other:?}");
        let other = establish_cluster(&bucket, 9, Some(mine)).await;
        assert!(matches!(other, Err(ClusterError::OtherShardCount { found: 8, wanted: 9 })), "{other:?}");
        let none = establish_cluster(&bucket, 0, Some(mine)).await;
        assert!(matches!(none, Err(ClusterError::ShardCountOutOfRange { wanted: 0 })), "{none:?}");
    }

    #[tokio::test]
    async fn what_is_no_identity_is_left_alone() {
        let bucket = empty_bucket().await;
        let outcome = bucket.create(CLUSTER_KEY, vec![Bytes::from_static(b"a file of somebody else")]).await;
        assert!(matches!(outcome, CreateOutcome::Done), "{outcome:?}");
        let refused = establish_cluster(&bucket, 8, None).await;
        assert!(matches!(refused, Err(ClusterError::Unreadable { .. })), "{refused:?}");
    }
}
