//! `wal-shipper barrier`: how far the retention barrier is at the server, and a way to drop it.

use std::io::{self, Write};

use anyhow::Context;
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use kennel_protocol::ids::{Incarnation, Offset, PartitionKey};
use serde::Serialize;

use crate::cli::BarrierArgs;
use crate::config::Config;
use crate::live::{LiveSession, LiveSource, PartitionPlace, TopicPlace};
use crate::report::write_json;
use crate::source::Filter;

/// The barrier of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BarrierRow {
    /// Which partition, by ids.
    pub partition: String,
    /// And by names.
    pub name: String,
    /// Where the server ends.
    pub end: u64,
    /// The server may delete what is below; `None` where nothing is stored, and nothing holds it back.
    pub barrier: Option<u64>,
    /// Messages that it keeps because of the barrier.
    pub kept: Option<u64>,
    /// Whether the stored offset was deleted now.
    pub dropped: bool,
}

/// Shows the barrier of every chosen partition, and drops it where that is wanted.
///
/// # Cancel safety
/// Safe: some barriers may be dropped and others not.
pub async fn barrier(config: &Config, args: &BarrierArgs) -> anyhow::Result<Vec<BarrierRow>> {
    let consumer = &config.barrier.consumer;
    anyhow::ensure!(!consumer.is_empty(), "`barrier.consumer` is empty: there is no barrier to look for");
    let (server, filter) = (config.iggy_server()?, config.filter()?);
    let session = server.connect().await?;
    let rows = rows(&*session, &filter, consumer, args.drop).await?;
    print(&mut io::stdout(), &rows).context("cannot print the result")?;
    if let Some(path) = &args.json {
        write_json(path, &rows).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(rows)
}

async fn rows(
    session: &dyn LiveSession,
    filter: &Filter,
    consumer: &str,
    drop: bool,
) -> anyhow::Result<Vec<BarrierRow>> {
    let mut rows = Vec::new();
    for stream in session.streams().await? {
        for topic in session.topics(stream.id).await?.unwrap_or_default() {
            let place = TopicPlace { stream: stream.id, topic: topic.id };
            let Some((topic, partitions)) = session.partitions(place).await? else { continue };
            for seen in partitions {
                let key = PartitionKey {
                    stream: stream.id,
                    topic: topic.id,
                    partition: seen.id,
                    incarnation: Incarnation(0),
                };
                if !filter.matches_names(key, &stream.name, &topic.name) {
                    continue;
                }
                let place = PartitionPlace { topic: place, partition: seen.id };
                let stored = session.stored_offset(consumer, place).await?;
                if drop && stored.is_some() {
                    session.delete_offset(consumer, place).await?;
                }
                let name = format!("{}/{}/{}", stream.name, topic.name, seen.id);
                rows.push(row(key, name, seen.end, stored, drop));
            }
        }
    }
    Ok(rows)
}

fn row(key: PartitionKey, name: String, end: Offset, stored: Option<Offset>, drop: bool) -> BarrierRow {
    let barrier = stored.map(|stored| stored.plus(1).0);
    BarrierRow {
        partition: format!("{}/{}/{}", key.stream, key.topic, key.partition),
        name,
        end: end.0,
        barrier,
        kept: barrier.map(|barrier| end.0.saturating_sub(barrier)),
        dropped: drop && stored.is_some(),
    }
}

fn print(out: &mut dyn Write, rows: &[BarrierRow]) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(["partition", "name", "ends at", "barrier", "kept", ""]);
    for row in rows {
        let number = |number: Option<u64>| number.map_or("none".to_owned(), |number| number.to_string());
        let dropped = if row.dropped { "dropped" } else { "" };
        let cells = [&row.partition, &row.name, &row.end.to_string(), &number(row.barrier), &number(row.kept)];
        table.add_row(cells.into_iter().map(String::as_str).chain([dropped]));
    }
    writeln!(out, "{table}")
}
