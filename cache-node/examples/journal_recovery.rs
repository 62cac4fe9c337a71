//! How long a node with a full journal takes to read it back, and how much memory that needs.
//!
//! `journal_recovery FOLDER [MIB [RECORD_KIB]]` makes a journal of that size in FOLDER (4096 MiB of records of 64 KiB
//! where nothing is said), fills it with live records, opens it after a proper close and after a crash, and removes it.
//! The page cache holds nothing of it: the file is read past the cache where its file system can.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use cache_node::journal::{AppendError, Appended, Journal, JournalSettings, Record, RecordClass, inspect};

/// Appends that wait for the disk at once.
const IN_FLIGHT: usize = 256;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().context("name a folder")?;
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse::<u64>());
    let bytes = number(4096).context("read the journal's size")? << 20;
    let record_bytes = number(64).context("read the records' size")? << 10;
    let settings = JournalSettings {
        path: Path::new(&folder).join("journal_recovery"),
        bytes,
        group_bytes_max: 8 << 20,
        group_linger: Duration::ZERO,
        memory_only: false,
    };
    ensure!(!settings.path.exists(), "{} exists: remove it first", settings.path.display());
    let measured = measure(&settings, usize::try_from(record_bytes).context("fit a record into memory")?);
    fs::remove_file(&settings.path).context("remove the journal")?;
    measured
}

fn measure(settings: &JournalSettings, record_bytes: usize) -> anyhow::Result<()> {
    let (journal, recovered) = Journal::open(settings)?;
    let started = Instant::now();
    let records = fill(&journal, record_bytes)?;
    let live = journal.usage().live_bytes;
    report(&format!(
        "{records} live records of {record_bytes} bytes, {} MiB, mode {:?}, written in {:?}",
        live >> 20,
        recovered.mode,
        started.elapsed()
    ));
    // What a crash would leave: the superblocks of a journal that is open.
    let open_superblock = first_blocks(&settings.path)?;
    journal.close()?;
    look(settings, live)?;
    reopen(settings, "after a proper close", records, live)?;
    let file = fs::OpenOptions::new().write(true).open(&settings.path).context("open the journal")?;
    std::os::unix::fs::FileExt::write_all_at(&file, &open_superblock, 0).context("write the superblocks")?;
    file.sync_all().context("sync the superblocks")?;
    reopen(settings, "after a crash", records, live)
}

fn first_blocks(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut blocks = vec![0; 8192];
    let file = fs::File::open(path).context("open the journal")?;
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut blocks, 0).context("read the superblocks")?;
    Ok(blocks)
}

/// Appends until there is no room.
fn fill(journal: &Journal, record_bytes: usize) -> anyhow::Result<usize> {
    let mut body = vec![0x5a; record_bytes];
    let mut waiting = std::collections::VecDeque::new();
    let mut records = 0;
    loop {
        body[..8].copy_from_slice(&(records as u64).to_le_bytes());
        let record =
            Record { head: Bytes::from_static(b"head"), body: body.clone().into(), class: RecordClass::Normal };
        match journal.append(vec![record]) {
            Ok(appended) => {
                records += 1;
                waiting.push_back(appended);
            }
            Err(AppendError::Full { .. }) if waiting.is_empty() => return Ok(records),
            Err(AppendError::Full { .. } | AppendError::Busy { .. }) => settle(waiting.pop_front())?,
            Err(error) => return Err(error.into()),
        }
        if waiting.len() == IN_FLIGHT {
            settle(waiting.pop_front())?;
        }
    }
}

fn settle(appended: Option<Appended>) -> anyhow::Result<()> {
    let appended = appended.context("something waits")?;
    Ok(appended.done.blocking_recv()??)
}

fn look(settings: &JournalSettings, live: u64) -> anyhow::Result<()> {
    reset_peak()?;
    let started = Instant::now();
    let inspection = inspect(&settings.path)?;
    let taken = started.elapsed();
    let peak = peak_mib()?;
    ensure!(inspection.damage.is_none(), "the journal is damaged");
    report(&format!("inspected in {taken:?}, {} MB/s, at most {peak} MiB of memory", rate(live, taken)));
    Ok(())
}

fn reopen(settings: &JournalSettings, when: &str, records: usize, live: u64) -> anyhow::Result<()> {
    reset_peak()?;
    let started = Instant::now();
    let (journal, recovered) = Journal::open(settings)?;
    let taken = started.elapsed();
    let peak = peak_mib()?;
    ensure!(recovered.records.len() >= records, "{} of {records} records were found", recovered.records.len());
    let mib = live >> 20;
    report(&format!(
        "{when}: {taken:?}, {} MB/s, at most {peak} MiB of memory for {mib} MiB of records",
        rate(live, taken)
    ));
    drop(recovered);
    journal.close()?;
    Ok(())
}

fn rate(bytes: u64, taken: Duration) -> u128 {
    u128::from(bytes) * 1000 / taken.as_nanos().max(1)
}

/// From now on the peak of this process's resident memory counts anew.
fn reset_peak() -> anyhow::Result<()> {
    fs::write("/proc/self/clear_refs", "5").context("reset the peak of memory")
}

fn peak_mib() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("read the process's status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("find the peak of memory")?;
    let kib = line.trim().trim_end_matches(" kB").parse::<u64>().context("read the peak of memory")?;
    Ok(kib >> 10)
}

#[expect(clippy::print_stdout, reason = "the report is what the example is for")]
fn report(line: &str) {
    println!("{line}");
}
