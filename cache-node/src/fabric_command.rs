//! `cache-node fabric-selftest`: what an operator runs before switching the fabric on. It parses and prints; the fabric
//! tests itself.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::Args;
use kennel_fabric::{FabricChoice, selftest};

use crate::say;

#[derive(Args)]
pub(crate) struct FabricSelftest {
    /// libfabric, if not the first that is found.
    #[arg(long, value_name = "FILE")]
    library: Option<PathBuf>,
    /// The provider, as libfabric names it. Those of software must be named; else it is that of the card.
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// The device, where there are several.
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// The own address on it, for providers with addresses of IP.
    #[arg(long, value_name = "IP")]
    source: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the self-test and prints its report.
///
/// # Errors
/// If it cannot be run, or something that must be refused is not.
pub(crate) fn run(arguments: &FabricSelftest) -> anyhow::Result<()> {
    let FabricSelftest { library, provider, domain, source, json } = arguments;
    let choice = FabricChoice {
        library: library.clone(),
        provider: provider.clone(),
        domain: domain.clone(),
        source: source.clone(),
    };
    let report = selftest(&choice).context("test the fabric")?;
    say(&if *json { serde_json::to_string_pretty(&report)? } else { report.to_string() });
    ensure!(report.passed(), "the fabric is not fit for use: leave fabric.mode off");
    Ok(())
}
