//! Opening a journal: format where there is none, recover where there is one, start the threads.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use kennel_protocol::ids::JournalId;

use super::Journal;
use super::aligned::AlignedBuffer;
use super::damage::Damage;
use super::error::JournalError;
use super::file::{BlockFile, DiskFile, IoMode, Storage};
use super::fill::{Filler, GROUPS_IN_DISK_MAX};
use super::foreign::{Content, look};
use super::layout::{BLOCK, Place, RING_START, Superblock};
use super::memory::MemoryJournal;
use super::prewrite::{Prewriter, Prewritten};
use super::record::RecoveredRecord;
use super::recovery::{Scan, scan};
use super::ring::Ring;
use super::settings::{BYTES_MIN, Bounds, JournalSettings};
use super::shared::{Shared, Threads};
use super::space::Space;
use super::write::{Disk, Writer};

/// What was found when the journal was opened.
#[derive(Debug)]
pub struct Recovered {
    /// The journal's id: a new one if it was formatted now, is in memory only, or is damaged (PROTOCOL R5).
    pub journal: JournalId,
    /// Every record that completed and was not freed, in the order of the ids; freed ones and ones that never
    /// completed may be among them.
    pub records: Vec<RecoveredRecord>,
    /// Whether it was formatted now.
    pub fresh: bool,
    /// What is wrong, if something that was durable does not verify any more. The records that do are above.
    pub damaged: Option<Damage>,
    /// Bytes of an incomplete last group that were cut: nobody was told that they were durable.
    pub torn_bytes: u64,
    /// How the storage is reached.
    pub mode: IoMode,
}

pub(super) fn open(settings: &JournalSettings) -> Result<(Journal, Recovered), JournalError> {
    settings.check()?;
    if settings.memory_only {
        return Ok(open_memory(settings));
    }
    let path = &settings.path;
    let present = Storage::at(path)? != Storage::Absent;
    let file = if present { DiskFile::open(path, false)? } else { create(settings)? };
    let mode = file.mode;
    let size = file.size().map_err(JournalError::io(path, "find the file's size"))?;
    if present {
        check_content(&file, size, path)?;
    }
    let (journal, mut recovered) = open_on(Arc::new(file), size, mode, settings)?;
    recovered.fresh |= !present;
    Ok((journal, recovered))
}

/// Refuses what holds something else, or held a journal whose superblocks are gone: neither is blank.
fn check_content(file: &DiskFile, size: u64, path: &Path) -> Result<(), JournalError> {
    if file.is_device && file.mode == IoMode::Buffered {
        tracing::warn!(path = %path.display(), "the device refuses O_DIRECT: the journal goes through the page cache");
    }
    match look(file, size).map_err(JournalError::io(path, "read both ends of it"))? {
        Content::Blank | Content::Journal => Ok(()),
        Content::Foreign(found) if file.is_device => Err(JournalError::Foreign { path: path.to_owned(), found }),
        Content::Foreign(reason) => Err(JournalError::Unreadable { path: path.to_owned(), reason }),
    }
}

fn open_memory(settings: &JournalSettings) -> (Journal, Recovered) {
    let journal = JournalId(crate::random::id());
    let recovered =
        Recovered { journal, records: Vec::new(), fresh: true, damaged: None, torn_bytes: 0, mode: IoMode::Memory };
    (Journal::over_memory(journal, MemoryJournal::new(settings.bytes)), recovered)
}

/// Makes a new file under another name first, so that a crash on the way never leaves half a journal at `path`.
fn create(settings: &JournalSettings) -> Result<DiskFile, JournalError> {
    let path = &settings.path;
    let mut draft = path.clone().into_os_string();
    draft.push(".formatting");
    let draft = PathBuf::from(draft);
    let file = DiskFile::open(&draft, true)?;
    let ring_bytes = JournalSettings::ring_bytes(settings.bytes);
    file.preallocate(RING_START + ring_bytes).map_err(JournalError::io(path, "reserve its space"))?;
    let file = Arc::new(file);
    let superblock = blank_superblock(ring_bytes);
    Ring::new(file.clone(), ring_bytes)
        .write_superblock(&superblock)
        .map_err(JournalError::io(path, "write the superblock"))?;
    fs::rename(&draft, path).map_err(JournalError::io(path, "take its final name"))?;
    sync_folder(path).map_err(JournalError::io(path, "sync its folder"))?;
    Ok(Arc::into_inner(file).expect("the ring that shared it is gone"))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

pub(super) fn blank_superblock(ring_bytes: u64) -> Superblock {
    Superblock {
        journal: JournalId(crate::random::id()),
        lineage: crate::random::id(),
        ring_bytes,
        generation: 0,
        start: Place::default(),
        end: Place::default(),
        next_record: 0,
        clean: true,
        holes: Vec::new(),
    }
}

/// Opens the journal on `file`, which has `size` bytes. A file whose superblocks are zeros is formatted in place: that
/// is how a raw device begins.
pub(super) fn open_on(
    file: Arc<dyn BlockFile>,
    size: u64,
    mode: IoMode,
    settings: &JournalSettings,
) -> Result<(Journal, Recovered), JournalError> {
    let failed = |action| JournalError::io(&settings.path, action);
    let found = read_superblock(&*file, size).map_err(failed("read the superblock"))?;
    let fresh = matches!(found, Found::Blank);
    let superblock = match found {
        Found::Present(superblock) => superblock,
        Found::Blank if size < BYTES_MIN => {
            let reason = format!("it has {size} bytes, a journal at least {BYTES_MIN}");
            return Err(JournalError::Unreadable { path: settings.path.clone(), reason });
        }
        Found::Blank => blank_superblock(JournalSettings::ring_bytes(size.min(settings.bytes))),
        Found::Unreadable(reason) => return Err(JournalError::Unreadable { path: settings.path.clone(), reason }),
    };
    let ring_bytes = superblock.ring_bytes;
    if ring_bytes != JournalSettings::ring_bytes(settings.bytes) {
        tracing::warn!(ring_bytes, wanted = settings.bytes, "the journal keeps the size that it was formatted with");
    }
    let ring = Ring::new(file, ring_bytes);
    let scan = if fresh { Scan::default() } else { scan(&ring, &superblock).map_err(failed("read the log"))? };
    let superblock = succeed(&superblock, &scan);
    // This sync also makes durable what was only read from a cache: a group that was never synced may have been found
    // whole, and from now on the node answers with it.
    ring.write_superblock(&superblock).map_err(failed("write the superblock"))?;
    start(ring, superblock, scan, mode, fresh, settings)
}

/// The superblock under which the node goes on after `scan`.
fn succeed(found: &Superblock, scan: &Scan) -> Superblock {
    let journal = if scan.is_damaged() { JournalId(crate::random::id()) } else { found.journal };
    Superblock {
        journal,
        generation: found.generation + 1,
        start: scan.head,
        end: scan.end,
        next_record: scan.next_record,
        clean: false,
        holes: scan.holes.clone(),
        lineage: found.lineage,
        ring_bytes: found.ring_bytes,
    }
}

fn start(
    ring: Ring,
    superblock: Superblock,
    scan: Scan,
    mode: IoMode,
    fresh: bool,
    settings: &JournalSettings,
) -> Result<(Journal, Recovered), JournalError> {
    let bounds = Bounds::new(settings, ring.bytes());
    let Superblock { journal, lineage, generation: opening, .. } = superblock;
    let shared = Arc::new(Shared::new(bounds, restore(bounds, &scan), scan.next_record));
    let (sender, groups) = sync_channel(GROUPS_IN_DISK_MAX);
    let prewritten = Arc::new(Prewritten::new());
    let prewriter = Prewriter {
        shared: shared.clone(),
        file: ring.file().clone(),
        prewritten: prewritten.clone(),
        end: RING_START + ring.bytes(),
    };
    let reads = ring.clone();
    let disk = Disk::new(Writer {
        shared: shared.clone(),
        ring: ring.clone(),
        prewritten,
        end: scan.end,
        next_record: scan.next_record,
        superblock,
    });
    let filler = Filler {
        shared: shared.clone(),
        ring,
        lineage,
        opening,
        linger: settings.group_linger,
        next_record: scan.next_record,
        groups: sender,
        disk: disk.clone(),
    };
    let threads = [
        thread::Builder::new().name("journal-disk".to_owned()).spawn(move || disk.run(groups)),
        thread::Builder::new().name("journal-fill".to_owned()).spawn(move || filler.run()),
        thread::Builder::new().name("journal-ahead".to_owned()).spawn(move || prewriter.run()),
    ];
    let threads: io::Result<Vec<_>> = threads.into_iter().collect();
    let threads = threads.map_err(JournalError::io(&settings.path, "start its threads"))?;
    let recovered = Recovered {
        journal,
        fresh,
        damaged: scan.is_damaged().then_some(scan.damage),
        records: scan.records.into_iter().map(|(id, found)| found.into_recovered(id)).collect(),
        torn_bytes: scan.torn_bytes,
        mode,
    };
    Ok((Journal::over_log(journal, shared, reads, Threads::new(threads)), recovered))
}

fn restore(bounds: Bounds, scan: &Scan) -> Space {
    let mut space = Space::new(bounds, scan.end);
    for group in &scan.groups {
        space.restore_group(group.place, group.seed);
    }
    for (id, found) in &scan.records {
        space.restore_record(*id, found.bytes, (found.group, found.at));
    }
    space.release();
    space
}

pub(super) enum Found {
    /// Zeros: never formatted.
    Blank,
    Present(Superblock),
    /// Neither copy is a superblock that this build reads, and why.
    Unreadable(String),
}

/// The newer of the two copies.
pub(super) fn read_superblock(file: &dyn BlockFile, size: u64) -> io::Result<Found> {
    if size < RING_START {
        return Ok(Found::Unreadable(format!("it has only {size} bytes")));
    }
    let mut buffer = AlignedBuffer::new(2 * BLOCK);
    file.read_exact_at(buffer.bytes_mut(), 0)?;
    if buffer.bytes().iter().all(|byte| *byte == 0) {
        return Ok(Found::Blank);
    }
    let (first, second) = buffer.bytes().split_at(BLOCK);
    let newest = match (Superblock::decode(first), Superblock::decode(second)) {
        (Ok(first), Ok(second)) => {
            if second.generation > first.generation {
                second
            } else {
                first
            }
        }
        (Ok(one), Err(_)) | (Err(_), Ok(one)) => one,
        (Err(reason), Err(_)) => return Ok(Found::Unreadable(reason)),
    };
    // The numbers of a superblock are far from overflow.
    if RING_START + newest.ring_bytes > size {
        let reason = format!("it was formatted with {} bytes and has {size}", RING_START + newest.ring_bytes);
        return Ok(Found::Unreadable(reason));
    }
    Ok(Found::Present(newest))
}
