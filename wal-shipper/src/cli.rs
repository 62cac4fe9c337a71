//! The command line: what a person types, turned into settings.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use figment::value::Value;

use crate::config::Wait;

/// Ships what an Iggy server has written to the Kennel ring.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ship everything that a data directory holds, and wait until the ring has it.
    Import(ImportArgs),
    /// Show and verify what a data directory holds. Needs no ring.
    Inspect(InspectArgs),
    /// Print the commented defaults of the configuration.
    Config,
}

/// Which partitions.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// A configuration file; see `wal-shipper config`.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The Iggy server's data directory: the one that holds `streams`.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Names for stream and topic ids (TOML).
    #[arg(long, value_name = "FILE")]
    pub mapping: Option<PathBuf>,
    /// Only what matches: stream[/topic[/partition]], by id or name, with * and ?. May be repeated.
    #[arg(long = "stream", value_name = "PATTERN")]
    pub include: Vec<String>,
    /// Not what matches. May be repeated.
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// Also write the result to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `wal-shipper inspect`
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Which partitions.
    #[command(flatten)]
    pub source: SourceArgs,
}

/// `wal-shipper import`
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Which partitions.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Nodes of the ring, `host:port`, separated by commas. One that answers is enough.
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    pub ring: Vec<String>,
    /// A directory with ca.pem, shipper.pem and shipper.key.
    #[arg(long, value_name = "DIR")]
    pub tls_dir: Option<PathBuf>,
    /// The CA's certificate.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// This shipper's certificate.
    #[arg(long, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// When the import is done.
    #[arg(long, value_enum)]
    pub wait: Option<Wait>,
}

impl SourceArgs {
    /// As settings.
    pub fn flags(&self) -> Vec<(&'static str, Value)> {
        let mut flags = Vec::new();
        push_path(&mut flags, "source.data_dir", self.data_dir.as_ref());
        push_path(&mut flags, "source.mapping", self.mapping.as_ref());
        push_list(&mut flags, "source.include", &self.include);
        push_list(&mut flags, "source.exclude", &self.exclude);
        flags
    }
}

impl ImportArgs {
    /// As settings.
    pub fn flags(&self) -> Vec<(&'static str, Value)> {
        let mut flags = self.source.flags();
        push_list(&mut flags, "ring.addresses", &self.ring);
        push_path(&mut flags, "tls.directory", self.tls_dir.as_ref());
        push_path(&mut flags, "tls.ca", self.ca.as_ref());
        push_path(&mut flags, "tls.certificate", self.cert.as_ref());
        push_path(&mut flags, "tls.key", self.key.as_ref());
        if let Some(wait) = self.wait {
            let word = match wait {
                Wait::Committed => "committed",
                Wait::Stored => "stored",
            };
            flags.push(("import.wait", word.into()));
        }
        flags
    }
}

fn push_path(flags: &mut Vec<(&'static str, Value)>, key: &'static str, path: Option<&PathBuf>) {
    flags.extend(path.map(|path| (key, path.display().to_string().into())));
}

fn push_list(flags: &mut Vec<(&'static str, Value)>, key: &'static str, list: &[String]) {
    if !list.is_empty() {
        flags.push((key, list.to_vec().into()));
    }
}
