//! How fast the journal takes appends on this disk, beside what the disk gives to plain `O_DIRECT` writes.
//!
//! `journal_speed FOLDER [GROUP_MIB]` makes a 2 GiB journal in FOLDER, measures, and removes it.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use cache_node::journal::{AppendError, Appended, Journal, JournalSettings, Record, RecordClass};

const JOURNAL_BYTES: u64 = 2 << 30;
/// Bytes of each measurement: more than a lap, so that wrapping and freeing are part of it.
const MEASURED_BYTES: usize = 3 << 30;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().context("name a folder")?;
    let group_mib: usize = arguments.next().map_or(Ok(8), |text| text.parse()).context("read the group's size")?;
    let settings = JournalSettings {
        path: Path::new(&folder).join("journal_speed"),
        bytes: JOURNAL_BYTES,
        group_bytes_max: group_mib << 20,
        group_linger: Duration::ZERO,
        memory_only: false,
    };
    ensure!(!settings.path.exists(), "{} exists: remove it first", settings.path.display());
    let (journal, recovered) = Journal::open(&settings)?;
    report(&format!("mode {:?}, groups of {group_mib} MiB; first lap:", recovered.mode));
    for round in 0..3 {
        for (bytes, in_flight) in [(1 << 20, 32), (64 << 10, 256), (4 << 10, 1), (4 << 10, 1024)] {
            let total = if bytes == 4 << 10 { in_flight * bytes * 200 } else { MEASURED_BYTES };
            measure(&journal, round, bytes, in_flight, total)?;
        }
    }
    let started = Instant::now();
    drop(journal);
    let (journal, _) = Journal::open(&settings)?;
    report(&format!("reopened in {:?}", started.elapsed()));
    drop(journal);
    fs::remove_file(&settings.path).context("remove the journal")
}

/// Keeps `in_flight` appends of `bytes` bytes waiting until `total` bytes are durable; frees all but the newest.
fn measure(journal: &Journal, round: u32, bytes: usize, in_flight: usize, total: usize) -> anyhow::Result<()> {
    let body = Bytes::from(vec![0x5a; bytes]);
    let started = Instant::now();
    let mut waiting: VecDeque<(Appended, Instant)> = VecDeque::new();
    let mut latencies = Vec::new();
    let mut begun = 0;
    while begun < total || !waiting.is_empty() {
        let record = Record { head: Bytes::from_static(b"head"), body: body.clone(), class: RecordClass::Normal };
        if begun < total && waiting.len() < in_flight {
            match journal.append(vec![record]) {
                Ok(appended) => {
                    waiting.push_back((appended, Instant::now()));
                    begun += bytes;
                    continue;
                }
                Err(AppendError::Full { .. } | AppendError::Busy { .. }) if !waiting.is_empty() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let (appended, since) = waiting.pop_front().context("something waits")?;
        let ids = appended.each_id();
        appended.done.blocking_recv()??;
        latencies.push(since.elapsed());
        journal.free(ids);
    }
    let rate = total as u128 * 1000 / started.elapsed().as_nanos();
    latencies.sort_unstable();
    let (half, worst) = (latencies[latencies.len() / 2], latencies[latencies.len() * 99 / 100]);
    let kib = bytes >> 10;
    report(&format!("round {round}: {kib} KiB x {in_flight}: {rate} MB/s, p50 {half:?}, p99 {worst:?}"));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the report is what the example is for")]
fn report(line: &str) {
    println!("{line}");
}
