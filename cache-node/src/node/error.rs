//! Why a node does not run. Each says in one line what to do.

use std::io;
use std::path::PathBuf;

use kennel_fabric::FabricError;
use kennel_protocol::journal_record::JournalRecordError;
use kennel_transport::quic::BindError;
use kennel_transport::tls::IdentityError;

use crate::bucket::{BucketError, ClusterError, ProbeError};
use crate::gossip::GossipError;
use crate::http::HttpError;
use crate::journal::JournalError;
use crate::local::LocalError;
use crate::read::CacheError;

/// Why a node did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The gateway cannot start. Fix the setting that it names.
    #[error("the gateway cannot start")]
    Gateway(#[source] kennel_gateway::GatewayError),
    /// The local socket cannot be made. Fix: `listen.local`.
    #[error("cannot listen for readers of this host (listen.local)")]
    Local(#[source] LocalError),
    /// The fabric is required and cannot be had. Fix what the source names, or `fabric.mode`.
    #[error("no fabric (fabric.mode is \"require\")")]
    Fabric(#[source] FabricError),
    /// The node's directory cannot be made or written. Fix: `node.directory`.
    #[error("cannot write {} (node.directory)", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The certificates cannot be used. Fix: `[tls]`, or make some with `cache-node certs`.
    #[error("the certificates cannot be used ([tls]; `cache-node certs` makes some for development)")]
    Certificates(#[source] IdentityError),
    /// The bucket cannot be used as configured. Fix: `[bucket]`.
    #[error("the bucket cannot be used ([bucket])")]
    Bucket(#[source] BucketError),
    /// The bucket does not do what ownership rests on. Fix: use another store.
    #[error("the bucket was probed and refused")]
    Probe(#[source] ProbeError),
    /// The bucket holds another cluster or format. Fix: the URL's prefix, or `[cluster]`.
    #[error("the bucket belongs to something else")]
    Cluster(#[source] ClusterError),
    /// The journal cannot be used. Fix: `[journal]`, or stop the other process.
    #[error("the journal cannot be used ([journal])")]
    Journal(#[source] JournalError),
    /// The journal was written by another build. Keep it and run that build.
    #[error("the journal holds a record that this build cannot read; run the build that wrote it")]
    JournalRecord(#[source] JournalRecordError),
    /// The cache cannot be used. Fix: `[cache]`.
    #[error("the block cache cannot be used ([cache])")]
    Cache(#[source] CacheError),
    /// The QUIC address cannot be used. Fix: `listen.quic`.
    #[error("cannot take sessions: is another process there? (listen.quic)")]
    Quic(#[source] BindError),
    /// Gossip cannot start.
    #[error("cannot gossip")]
    Gossip(#[source] GossipError),
    /// HTTP cannot start.
    #[error("cannot serve status and metrics")]
    Http(#[source] HttpError),
    /// The system does not deliver signals.
    #[error("cannot listen for signals")]
    Signal(#[source] io::Error),
    /// Something happened that the node cannot live with. Look, then start it again.
    #[error("the node cannot go on: {0}")]
    Failed(String),
}
