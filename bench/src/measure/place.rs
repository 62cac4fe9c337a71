//! What measurements have in common on the command line: the ring that is started, and where the result goes.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::stage::{Stage, StageSettings};

/// A ring on this machine.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PlaceArgs {
    /// Where cache-node and wal-shipper are; beside this program by default.
    #[arg(long, value_name = "DIR")]
    pub programs: Option<PathBuf>,
    /// Where nodes, logs and the bucket go, on the disk that is meant; emptied first.
    #[arg(long, value_name = "DIR", default_value = "kennel-bench")]
    pub directory: PathBuf,
    /// A setting of the nodes, as `cache-node --set` takes it. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub assignments: Vec<String>,
    /// Also write the result to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl PlaceArgs {
    /// The directory, from the root on.
    pub(crate) fn directory(&self) -> anyhow::Result<PathBuf> {
        std::path::absolute(&self.directory).context("find the directory")
    }

    /// Starts so many nodes with the measurement's settings, over which those of the command line go.
    pub(crate) fn start(&self, nodes: usize, mut assignments: Vec<String>) -> anyhow::Result<Stage> {
        assignments.extend(self.assignments.iter().cloned());
        let programs = programs(self.programs.as_deref())?;
        Stage::start(StageSettings { programs, directory: self.directory()?, nodes, assignments })
    }
}

/// Where cache-node is: as named, or beside this program.
pub(crate) fn programs(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let directory = match named {
        Some(named) => std::path::absolute(named).context("find the programs")?,
        None => std::env::current_exe().context("find this program")?.parent().context("a directory")?.to_owned(),
    };
    ensure!(directory.join("cache-node").exists(), "cache-node is not in {}; name its directory", directory.display());
    Ok(directory)
}
