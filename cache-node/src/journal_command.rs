//! `cache-node journal ...`: looks at a journal, or makes one on a device. It parses and prints; the library does it.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use cache_node::inspect::JournalSummary;
use clap::{Args, Subcommand};
use kennel_protocol::ids::JournalId;

use crate::{Configuration, layers, say};

#[derive(Subcommand)]
pub(crate) enum JournalCommand {
    /// Print what a journal holds, also while a node uses it. Fails where something is damaged.
    Inspect(Inspect),
    /// Make an empty journal on a block device, whatever it holds now.
    Format(Format),
}

#[derive(Args)]
pub(crate) struct Inspect {
    /// Of the node whose journal it is.
    #[command(flatten)]
    configuration: Configuration,
    /// The journal's file or device, instead of the configured one.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "assignments"])]
    path: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// List every record.
    #[arg(long)]
    records: bool,
}

#[derive(Args)]
pub(crate) struct Format {
    /// The block device, by a name that stays, as in /dev/disk/by-id.
    #[arg(long, value_name = "PATH")]
    device: PathBuf,
    /// Use so much of it, as in "64 GiB". All of it where it is not said.
    #[arg(long, value_name = "SIZE")]
    size: Option<bytesize::ByteSize>,
    /// The id of a journal that lies there and is to be destroyed.
    #[arg(long, value_name = "JOURNAL")]
    replace: Option<JournalId>,
    /// What the device holds may go.
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(command: &JournalCommand) -> anyhow::Result<()> {
    match command {
        JournalCommand::Inspect(inspect) => print_summary(inspect),
        JournalCommand::Format(format) => make(format),
    }
}

fn print_summary(inspect: &Inspect) -> anyhow::Result<()> {
    let summary = if let Some(path) = &inspect.path {
        JournalSummary::read(path, None, inspect.records)?
    } else {
        let settings = layers(&inspect.configuration)?.settings()?;
        JournalSummary::read(&settings.journal.path, Some(settings.node.id.0), inspect.records)?
    };
    if inspect.json {
        say(&serde_json::to_string_pretty(&summary).context("print JSON")?);
    } else {
        say(summary.to_string().trim_end());
    }
    if summary.is_damaged() {
        let hint = if summary.is_in_use { " (or was being written: look again)" } else { "" };
        bail!("{} is damaged{hint}", summary.path);
    }
    Ok(())
}

fn make(format: &Format) -> anyhow::Result<()> {
    let device = format.device.display();
    if !format.yes {
        bail!("this destroys what {device} holds: say --yes if it may go");
    }
    let made = cache_node::journal::format(&format.device, format.size.map(|size| size.as_u64()), format.replace)?;
    say(&format!("{device} holds the empty journal {} of {} bytes", made.journal, made.bytes));
    Ok(())
}
