//! What a read out of a slab takes, beside a copy of as many bytes: `cargo run --release -p kennel-slab --example speed`.
//!
//! Look-up, copy and verification of records of 64 KiB, one at a time and sixteen in a row; every read another place, as
//! for a reader that reads on. The copies take turns with the reads, so that both see the same machine.
#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use kennel_protocol::checksum::checksum;
use kennel_protocol::entry::MessageIdentity;
use kennel_protocol::ids::{Epoch, Offset, PartitionKey, SlabId};
use kennel_slab::{RecordHead, Slab, SlabReader, Wanted};

const SLAB_BYTES: u64 = 64 << 20;
const RECORD_BYTES: usize = 64 << 10;
const RECORDS: u64 = 900;
const ROUNDS: u64 = 20_000;

fn identity(offset: u64) -> MessageIdentity {
    MessageIdentity { offset: Offset(offset), base_timestamp: offset, checksum: offset }
}

fn fill(slab: &mut Slab, partition: PartitionKey) {
    let body: Vec<u8> = (0..RECORD_BYTES).map(|byte| byte.to_le_bytes()[0].wrapping_mul(31)).collect();
    for offset in 0..RECORDS {
        let head = RecordHead {
            partition,
            base: Offset(offset),
            end: Offset(offset + 1),
            epoch: Epoch(1),
            trim: Offset(0),
            stored: Offset(0),
            committed: Offset(offset + 1),
            previous: offset.checked_sub(1).map(identity),
            last: identity(offset),
            body_bytes: u32::try_from(RECORD_BYTES).expect("short"),
            body_checksum: checksum(&body),
        };
        assert!(slab.put(&head, &body), "a record is far shorter than the slab");
    }
}

fn times() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 1_000_000_000, 3).expect("constant bounds are valid")
}

fn keep(times: &mut Histogram<u64>, taken: Duration) {
    times.saturating_record(u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX).max(1));
}

#[expect(clippy::cast_precision_loss, reason = "numbers for people")]
fn say(what: &str, bytes: usize, times: &Histogram<u64>) -> f64 {
    let (median, late) = (times.value_at_quantile(0.5), times.value_at_quantile(0.99));
    let rate = bytes as f64 / median as f64;
    println!("{what:<28} p50 {:>8.2} us  p99 {:>8.2} us  {rate:>6.2} GB/s", median as f64 / 1e3, late as f64 / 1e3);
    rate
}

fn main() {
    let partition = "1/1/0".parse().expect("a partition");
    let mut slab = Slab::create(SLAB_BYTES, SlabId(1)).expect("sealed memory");
    fill(&mut slab, partition);
    let reader = SlabReader::map(slab.descriptor(), SLAB_BYTES, SlabId(1)).expect("the same memory");
    // What is copied beside lies in shared memory of the same length, too, and is walked through in the same steps.
    let source = vec![7_u8; usize::try_from(SLAB_BYTES).expect("64 bits")];
    for (name, records) in [("64 KiB", 1), ("1 MiB", 16)] {
        let bytes = RECORD_BYTES * usize::try_from(records).expect("small");
        let (mut reads, mut copies) = (times(), times());
        for round in 0..ROUNDS / records {
            let from = round * records * 7 % (RECORDS - records);
            let last = from.checked_sub(1).map(identity);
            let wanted = Wanted {
                partition,
                from: Offset(from),
                bytes_max: bytes,
                messages_max: u64::MAX,
                epoch: Epoch(1),
                last,
            };
            let began = Instant::now();
            let read = reader.read(&wanted).expect("nobody overwrites it");
            keep(&mut reads, began.elapsed());
            assert_eq!(black_box(read).batches.len(), bytes);
            let at = usize::try_from(from).expect("small") * RECORD_BYTES;
            let began = Instant::now();
            let copy = source[at..at + bytes].to_vec();
            keep(&mut copies, began.elapsed());
            black_box(copy);
        }
        let read = say(&format!("{name} read and verified"), bytes, &reads);
        let copy = say(&format!("{name} copied"), bytes, &copies);
        println!("{name}: {:.0}% of a copy", 100.0 * read / copy);
    }
}
