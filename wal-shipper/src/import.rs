//! `wal-shipper import`: ships everything that a data directory holds.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use kennel_protocol::ids::ProcessId;
use kennel_transport::quic::{QuicEndpoint, QuicSettings};
use kennel_transport::tls::TlsIdentity;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::cli::ImportArgs;
use crate::config::Config;
use crate::progress::Progress;
use crate::report::{ImportReport, write_json};
use crate::ship::{Ring, ship};
use crate::source::{Filter, FoundPartition, Mapping, catalog, scan};

/// Runs an import; the report says how it went. An error means that it could not run.
///
/// # Cancel safety
/// Safe: the ring is the cursor, the next import continues.
pub async fn import(config: &Config, args: &ImportArgs) -> anyhow::Result<ImportReport> {
    let shipper = config.shipper()?;
    let (found, mapping) = choose(config)?;
    let catalog = catalog(&found, &mapping, 0).context("the names cannot be used; fix the mapping")?;
    let ring = open_ring(config)?;
    let bytes = found.iter().map(FoundPartition::bytes).sum();
    let mut progress = Progress::new(bytes);
    let started = Instant::now();
    let stop = async {
        // Without a handler the signal ends the process, which is as safe.
        let _ = tokio::signal::ctrl_c().await;
    };
    let shipped = ship(ring, config.ring.patience, shipper, &found, &catalog, &mut progress, stop).await;
    progress.finish();
    let report = ImportReport::new(&shipped?, started.elapsed());
    report.print(&mut io::stdout()).context("cannot print the result")?;
    if let Some(path) = &args.source.json {
        write_json(path, &report).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(report)
}

/// The chosen partitions of the data directory, with their names.
pub(crate) fn choose(config: &Config) -> anyhow::Result<(Vec<FoundPartition>, Mapping)> {
    let file = &config.source.mapping;
    let mapping = if file.as_os_str().is_empty() { Mapping::default() } else { Mapping::load(file)? };
    let filter = Filter::new(&config.source.include, &config.source.exclude)?;
    let mut found = scan(config.data_dir()?)?;
    found.retain(|partition| filter.matches(partition.key, &mapping));
    for partition in &mut found {
        *partition = partition.clone().recreated(mapping.recreated(partition.key));
    }
    anyhow::ensure!(!found.is_empty(), "there is no partition to ship in {}", config.data_dir()?.display());
    Ok((found, mapping))
}

pub(crate) fn open_ring(config: &Config) -> anyhow::Result<Ring> {
    let [ca, certificate, key] = config.tls_files()?;
    let identity = TlsIdentity::load(&ca, &certificate, &key)?;
    let endpoint = QuicEndpoint::bind_any(&identity, QuicSettings::default())?;
    Ok(Ring::new(Arc::new(endpoint.connector()), config.seeds()?, process_id()?))
}

/// Names this start of the process.
fn process_id() -> anyhow::Result<ProcessId> {
    let mut bytes = [0; 16];
    let filled = getrandom(&mut bytes, GetRandomFlags::empty()).context("the system gives no random bytes")?;
    anyhow::ensure!(filled == bytes.len(), "the system gave too few random bytes");
    Ok(ProcessId(u128::from_le_bytes(bytes)))
}
