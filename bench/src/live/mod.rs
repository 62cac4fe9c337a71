//! What Kennel does beside a real Iggy server, in numbers: `bench live SCENARIO --server PROGRAM`.
//!
//! | file | what it is |
//! |---|---|
//! | `visible` | how soon a message that is sent to the server is read from the ring |
//! | `polls` | polls of the stock SDK through a gateway, beside polls of the server |
//! | `cost` | what a shipper takes of the processor, and what it makes the server take |
//! | `proof` | a million messages, shippers that are killed, a server that restarts: every message compared |
//! | `cluster` | three servers of which the leader is killed: the ring holds what the others hold |
//! | `soak` | thousands of partitions, bursts and topics that come and go: does memory stay flat |
//! | `server`, `world` | the processes |
//!
//! It looks from outside, as `measure` does. Everything is judged beside the same done on the server in the same run.

mod cluster;
mod cost;
mod polls;
mod proof;
pub(crate) mod server;
mod soak;
mod visible;
mod world;

use std::path::PathBuf;

use crate::measure::PlaceArgs;

pub use server::{IggyServer, IggyServerSettings, client_at, create_topic, send};

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct LiveArgs {
    /// What to do.
    #[arg(value_enum)]
    pub scenario: Scenario,
    /// The Iggy server's program.
    #[arg(long, value_name = "PROGRAM", env = "IGGY_SERVER_BIN")]
    pub server: PathBuf,
    /// The server's configuration file, if it needs one.
    #[arg(long, value_name = "FILE", env = "IGGY_SERVER_CONFIG")]
    pub server_config: Option<PathBuf>,
    /// `proof` and `cluster`: how many messages; `visible` and `polls`: how many samples of each side.
    #[arg(long)]
    pub count: Option<u64>,
    /// All but `visible` and `polls`: how many partitions.
    #[arg(long)]
    pub partitions: Option<u32>,
    /// `cost` and `soak`: how long.
    #[arg(long)]
    pub seconds: Option<u64>,
    /// `proof`: a Python with the package `apache-iggy`, to read with it as well.
    #[arg(long, value_name = "PROGRAM", env = "KENNEL_IGGY_PYTHON")]
    pub python: Option<PathBuf>,
    /// The ring, and the result.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// From sending a message until it is read.
    Visible,
    /// Polls through a gateway.
    Polls,
    /// What shipping costs where most partitions are quiet.
    Cost,
    /// Everything is read back equal, whatever is killed.
    Proof,
    /// The same beside three servers of which the leader is killed.
    Cluster,
    /// Memory stays flat.
    Soak,
}

/// Runs a scenario. The last line printed is the verdict.
///
/// # Errors
/// If a process does not start or ends, or if a message is lost or wrong.
///
/// # Cancel safety
/// Safe: the processes end with it.
pub async fn live(args: LiveArgs) -> anyhow::Result<bool> {
    match args.scenario {
        Scenario::Visible => visible::visible(&args).await,
        Scenario::Polls => polls::polls(&args).await,
        Scenario::Cost => cost::cost(&args).await,
        Scenario::Proof => proof::proof(&args).await,
        Scenario::Cluster => cluster::cluster(&args).await,
        Scenario::Soak => soak::soak(&args).await,
    }
}
