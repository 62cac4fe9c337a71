//! The command line: what a person types, turned into settings.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use figment::value::Value;
use kennel_protocol::ids::PartitionKey;

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
    /// Ship from a running Iggy server, what it has and whatever comes, until told to stop.
    Run(RunArgs),
    /// Show how far the retention barrier is at the Iggy server, or drop it. Needs no ring.
    Barrier(BarrierArgs),
    /// Say that diverged partitions of a running server began a new history: shippers ship it as a new incarnation.
    Recreate(RecreateArgs),
    /// Write what the ring holds into an Iggy server, under the same names, and compare it there.
    Restore(RestoreArgs),
    /// Show and verify what a data directory holds. Needs no ring.
    Inspect(InspectArgs),
    /// Check that a configuration can be used by `run`, and say what it amounts to.
    CheckConfig(RunArgs),
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
    /// Where to.
    #[command(flatten)]
    pub ring: RingArgs,
    /// When the import is done.
    #[arg(long, value_enum)]
    pub wait: Option<Wait>,
}

/// Where the ring is, and who we are to it.
#[derive(Debug, Args)]
pub struct RingArgs {
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
}

/// Where a running Iggy server is, and who we are to it. Passwords come from a file or the environment.
#[derive(Debug, Args)]
pub struct IggyArgs {
    /// A configuration file; see `wal-shipper config`.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The Iggy server, `host:port`, or several nodes of its cluster, separated by commas.
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    pub iggy: Vec<String>,
    /// Who signs in there.
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// A file that holds the password.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Only what matches: stream[/topic[/partition]], by id or name, with * and ?. May be repeated.
    #[arg(long = "stream", value_name = "PATTERN")]
    pub include: Vec<String>,
    /// Not what matches. May be repeated.
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
}

/// `wal-shipper run`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Where from.
    #[command(flatten)]
    pub iggy: IggyArgs,
    /// Where to.
    #[command(flatten)]
    pub ring: RingArgs,
    /// The server's data directory, if it can be read here: what is far behind is read from its files.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where health, status and metrics are told, `ip:port`.
    #[arg(long, value_name = "ADDR")]
    pub http: Option<String>,
}

/// `wal-shipper recreate`
#[derive(Debug, Args)]
pub struct RecreateArgs {
    /// A configuration file; see `wal-shipper config`.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the ring is.
    #[command(flatten)]
    pub ring: RingArgs,
    /// Partitions by ids, as stream/topic/partition. What the ring holds of them stays readable under the old key.
    #[arg(required = true, value_name = "PARTITION")]
    pub partitions: Vec<PartitionKey>,
}

/// `wal-shipper restore`
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Where to.
    #[command(flatten)]
    pub iggy: IggyArgs,
    /// Where from.
    #[command(flatten)]
    pub ring: RingArgs,
    /// Let the messages of topics that are whole in the end expire as they did at the source, counted from now.
    #[arg(long)]
    pub with_expiry: bool,
    /// Also write the result to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `wal-shipper barrier`
#[derive(Debug, Args)]
pub struct BarrierArgs {
    /// Where.
    #[command(flatten)]
    pub iggy: IggyArgs,
    /// Delete the stored offsets: the server may then delete what is not in the bucket. Stop the shippers first, or set
    /// `barrier.consumer = ""` for them.
    #[arg(long)]
    pub drop: bool,
    /// Also write the result to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
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
        flags.extend(self.ring.flags());
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

impl RingArgs {
    /// As settings.
    pub fn flags(&self) -> Vec<(&'static str, Value)> {
        let mut flags = Vec::new();
        push_list(&mut flags, "ring.addresses", &self.ring);
        push_path(&mut flags, "tls.directory", self.tls_dir.as_ref());
        push_path(&mut flags, "tls.ca", self.ca.as_ref());
        push_path(&mut flags, "tls.certificate", self.cert.as_ref());
        push_path(&mut flags, "tls.key", self.key.as_ref());
        flags
    }
}

impl IggyArgs {
    /// As settings.
    pub fn flags(&self) -> Vec<(&'static str, Value)> {
        let mut flags = Vec::new();
        push_list(&mut flags, "iggy.addresses", &self.iggy);
        flags.extend(self.username.clone().map(|name| ("iggy.username", name.into())));
        push_path(&mut flags, "iggy.password_file", self.password_file.as_ref());
        push_list(&mut flags, "source.include", &self.include);
        push_list(&mut flags, "source.exclude", &self.exclude);
        flags
    }
}

impl RestoreArgs {
    /// As settings.
    pub fn flags(&self) -> Vec<(&'static str, Value)> {
        let mut flags = self.iggy.flags();
        flags.extend(self.ring.flags());
        flags
    }
}

impl RunArgs {
    /// As settings.
    pub fn flags(&self) -> Vec<(&'static str, Value)> {
        let mut flags = self.iggy.flags();
        flags.extend(self.ring.flags());
        push_path(&mut flags, "source.data_dir", self.data_dir.as_ref());
        flags.extend(self.http.clone().map(|address| ("http.listen", address.into())));
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
