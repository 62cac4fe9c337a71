//! `wal-shipper restore`: everything that was chosen, several partitions at once, and what came of it.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use kennel_client::{Client, ClientSettings, PartitionReport};
use kennel_protocol::catalog::Catalog;
use kennel_protocol::ids::PartitionKey;
use kennel_transport::tls::TlsIdentity;
use tokio::task::JoinSet;

use super::copy::{Copied, CopyError, copy};
use super::expiry::set_expiries;
use super::iggy::IggyTarget;
use super::plan::{TopicPlan, plan};
use super::report::RestoreReport;
use super::target::{Place, Target, Topics};
use crate::cli::RestoreArgs;
use crate::config::Config;
use crate::live::IggyServer;
use crate::report::write_json;

/// Partitions that are written at once, each on a session of its own: Iggy answers a session's requests one by one.
const WRITERS: usize = 4;

/// A partition, and where it goes.
type Job = (usize, PartitionKey, Place);

/// What became of each, by its place in the order.
type Results = Vec<(usize, PartitionKey, Place, Result<Copied, CopyError>)>;

/// Restores what was chosen; the report says how it went. An error means that it could not run.
///
/// # Cancel safety
/// Safe: run it again, and it goes on where the target ends.
pub async fn restore(config: &Config, args: &RestoreArgs) -> anyhow::Result<RestoreReport> {
    let started = Instant::now();
    let (server, filter) = (config.iggy_server()?, config.filter()?);
    let client = open_ring(config).await?;
    let catalog = client.catalog(None).await.context("cannot read the names")?;
    let catalog = catalog.context("the ring knows no names: nothing can be restored by name")?;
    let topics = plan(&catalog, &filter);
    anyhow::ensure!(!topics.is_empty(), "the ring names nothing that was chosen");
    let known = client.partitions().await.context("cannot list the ring's partitions")?;
    let mut target = IggyTarget::connect(server.clone()).await.context("cannot use the Iggy server")?;
    for topic in &topics {
        let prepared = target.prepare(topic).await;
        prepared.with_context(|| format!("cannot prepare {}/{}", topic.stream, topic.topic))?;
    }
    let mut report = RestoreReport {
        nameless: nameless(&catalog, &known),
        topics_with_expiry: topics.iter().filter(|topic| topic.message_expiry_micros.is_some()).count(),
        ..RestoreReport::default()
    };
    let bar = progress(&topics, &known);
    let stop = tokio::signal::ctrl_c();
    let restored = tokio::select! {
        restored = restore_all(client, server, jobs(&topics), bar.clone()) => Some(restored),
        // Without a handler the signal ends the process, which is as safe.
        _ = stop => None,
    };
    bar.finish_and_clear();
    report.finished = restored.is_some();
    let mut results = restored.unwrap_or_default();
    results.sort_by_key(|(number, ..)| *number);
    for (_, partition, place, result) in &results {
        report.add(partition.to_string(), place, result);
    }
    if args.with_expiry && report.finished {
        // The session stood idle while others wrote: it may be closed by now. If there is no new one, each topic says so.
        if let Err(error) = target.reconnect().await {
            tracing::warn!(%error, "no session to set expiries on");
        }
        let whole = results.iter().filter(|(.., result)| result.is_ok()).map(|(_, partition, ..)| *partition).collect();
        for (topic, set) in set_expiries(&mut target, &topics, &whole).await {
            report.add_expiry(topic, set);
        }
    }
    report.seconds = started.elapsed().as_secs_f64();
    report.print(&mut io::stdout()).context("cannot print the result")?;
    if let Some(path) = &args.json {
        write_json(path, &report).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(report)
}

async fn open_ring(config: &Config) -> anyhow::Result<Client> {
    let [ca, certificate, key] = config.tls_files()?;
    let identity = TlsIdentity::load(&ca, &certificate, &key)?;
    // How much there is to restore is asked of nodes: what shared memory says of an end is as old as the batches there.
    let settings = ClientSettings { local: false, ..ClientSettings::new(config.seeds()?) };
    Client::connect(settings, &identity).await.context("cannot reach the ring")
}

fn jobs(topics: &[TopicPlan]) -> VecDeque<Job> {
    let places = topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| {
            let (stream, topic) = (topic.stream.clone(), topic.topic.clone());
            (*partition, Place { stream, topic, partition: partition.partition.0 })
        })
    });
    places.enumerate().map(|(number, (partition, place))| (number, partition, place)).collect()
}

/// Partitions that the ring holds under ids which the catalogue does not list.
fn nameless(catalog: &Catalog, known: &[PartitionReport]) -> usize {
    let named: BTreeSet<_> = catalog.partitions().map(|key| (key.stream, key.topic, key.partition)).collect();
    let ids = known.iter().map(|report| report.partition).map(|key| (key.stream, key.topic, key.partition));
    ids.filter(|ids| !named.contains(ids)).collect::<BTreeSet<_>>().len()
}

/// A bar over messages; hidden where nobody looks.
fn progress(topics: &[TopicPlan], known: &[PartitionReport]) -> ProgressBar {
    let chosen: BTreeSet<_> = topics.iter().flat_map(|topic| &topic.partitions).collect();
    let of_chosen = known.iter().filter(|report| chosen.contains(&report.partition));
    let messages = of_chosen.map(|report| report.committed.0.saturating_sub(report.trim.0)).sum();
    let bar = if io::stderr().is_terminal() { ProgressBar::new(messages) } else { ProgressBar::hidden() };
    let template = "{bar:32} {pos}/{len} messages  {per_sec}  {msg}";
    bar.set_style(ProgressStyle::with_template(template).expect("a constant template is valid"));
    bar
}

async fn restore_all(client: Client, server: IggyServer, jobs: VecDeque<Job>, bar: ProgressBar) -> Results {
    let jobs = Arc::new(Mutex::new(jobs));
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        writers.spawn(write(client.clone(), server.clone(), Arc::clone(&jobs), bar.clone()));
    }
    let mut results = Vec::new();
    while let Some(written) = writers.join_next().await {
        results.extend(written.expect("a writer does not panic"));
    }
    results
}

/// One writer: takes partitions until there are no more.
async fn write(client: Client, server: IggyServer, jobs: Arc<Mutex<VecDeque<Job>>>, bar: ProgressBar) -> Results {
    let mut results = Vec::new();
    let mut session = None;
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some((number, partition, place)) = job else { return results };
        bar.set_message(place.to_string());
        let mut target = match session.take() {
            Some(target) => target,
            None => match IggyTarget::connect(server.clone()).await {
                Ok(target) => target,
                Err(error) => {
                    results.push((number, partition, place, Err(error.into())));
                    continue;
                }
            },
        };
        let seen = |messages| bar.inc(messages);
        let result = copy(&client, &mut target, (partition, &place), &seen).await;
        if let Err(error) = &result {
            tracing::error!(%place, %partition, error = %error, "the partition is not whole; the others go on");
        }
        // A session that saw trouble may be no good.
        session = result.is_ok().then_some(target);
        results.push((number, partition, place, result));
    }
}
