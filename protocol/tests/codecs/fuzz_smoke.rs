//! The fuzz targets' decoders on seeded damage to valid bytes: a short run of every target with every test run.
#![expect(clippy::disallowed_methods, reason = "what fuzzing found is read from disk, and written when it is blessed")]

use std::fs;
use std::path::{Path, PathBuf};

use crate::decoders::{self, DECODERS};
use crate::samples::{self, Draw};
use bytes::Bytes;
use kennel_protocol::frame::FrameKind;
use kennel_protocol::ids::SlabId;
use kennel_protocol::local::{Entrance, Grant, Wake, WakeReason, WakeRequest};
use kennel_protocol::object::encode_log_object;
use kennel_protocol::wire::LocalToken;

/// Valid samples that the seeds of a decoder begin with.
const SEED_SAMPLES: usize = 12;

/// Rounds per decoder: together about a second.
const ROUNDS: u64 = 4_000;

/// Something that a decoder accepts, or nearly.
fn valid(name: &str, draw: &mut Draw) -> Bytes {
    match name {
        "frame" | "message" => {
            let kind = FrameKind::ALL[draw.index(FrameKind::ALL.len())];
            let frame = samples::messages::message(kind, draw).encode(draw.number());
            if name == "message" { decoders::pack(&frame) } else { decoders::on_the_wire(&frame) }
        }
        "batch" => {
            let (partition, base) = (draw.partition(), draw.offset());
            samples::chunk(draw, partition, base).body
        }
        "claim" => samples::claim(draw).encode(),
        "manifest" => samples::manifest(draw).encode(),
        "catalog" => samples::catalog(draw).encode(),
        "journal_record" => samples::journal_record(draw).encode(),
        "key" => Bytes::from(format!("log/{}/{:020}/{:020}", draw.shard(), draw.number(), draw.number())),
        "local" => Bytes::copy_from_slice(&local_message(draw)),
        "slot" if draw.coin() => samples::open_record(draw).encode(),
        "slot" if draw.coin() => samples::seal_object(draw).encode(),
        "slot" | "log_suffix" | "log_index" => {
            let (header, entries) = samples::log_entries(draw);
            let encoded = encode_log_object(header, &entries).expect("an object");
            if name == "log_index" { decoders::index_of(&encoded) } else { encoded.to_contiguous() }
        }
        other => panic!("{other} has no sample"),
    }
}

/// A message of a node's local socket.
fn local_message(draw: &mut Draw) -> Vec<u8> {
    match draw.below(4) {
        0 => Entrance { token: LocalToken(draw.wide()) }.encode().to_vec(),
        1 => Grant { bytes: draw.number(), slab: SlabId(draw.wide()) }.encode().to_vec(),
        2 => WakeRequest { partition: draw.partition(), beyond: draw.offset() }.encode().to_vec(),
        _ => {
            let reason = if draw.coin() { WakeReason::Committed } else { WakeReason::AskNode };
            Wake { partition: draw.partition(), reason }.encode().to_vec()
        }
    }
}

/// A few flips, a splice, a cut, or noise.
fn mutate(bytes: &[u8], draw: &mut Draw) -> Vec<u8> {
    let mut mutated = bytes.to_vec();
    match draw.below(8) {
        0 => mutated.truncate(draw.index(bytes.len() + 1)),
        1 => {
            let length = draw.index(300);
            mutated = draw.bytes(length).to_vec();
        }
        2 => {
            let (from, to) = (draw.index(bytes.len() + 1), draw.index(bytes.len() + 1));
            let piece = bytes[from.min(to)..from.max(to)].to_vec();
            let at = draw.index(mutated.len() + 1);
            mutated.splice(at..at, piece);
        }
        3 if mutated.len() >= 8 => {
            // A length or an offset of extremes.
            let at = draw.index(mutated.len() - 7);
            let extreme = [0, 1, u64::from(u32::MAX), u64::MAX, 1 << 31, 1 << 62][draw.index(6)];
            mutated[at..at + 8].copy_from_slice(&extreme.to_le_bytes());
        }
        _ => {
            for _ in 0..draw.below(4) {
                let at = draw.index(mutated.len().max(1));
                if let Some(byte) = mutated.get_mut(at) {
                    *byte ^= 1 << draw.below(8);
                }
            }
        }
    }
    mutated
}

#[test]
fn no_decoder_panics() {
    for (name, decode) in DECODERS {
        let draw = &mut Draw::new(0xfeed);
        for _ in 0..ROUNDS {
            let valid = valid(name, draw);
            decode(&mutate(&valid, draw));
        }
        decode(&[]);
    }
}

#[test]
fn decoders_accept_what_is_valid() {
    for (name, decode) in DECODERS {
        let draw = &mut Draw::new(7);
        let accepted = (0..50).filter(|_| decode(&valid(name, draw))).count();
        assert_eq!(accepted, 50, "{name}: the smoke test would test nothing but refusals");
    }
}

/// The inputs that a fuzzer has found worth keeping for a decoder.
fn seeds(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(name)
}

/// With `KENNEL_BLESS` set, gives every decoder its valid samples first: a fuzzer starts from them.
#[test]
fn what_fuzzing_found_is_replayed() {
    for (name, decode) in DECODERS {
        let folder = seeds(name);
        if std::env::var_os("KENNEL_BLESS").is_some() {
            fs::create_dir_all(&folder).expect("the repository is writable");
            let draw = &mut Draw::new(11);
            for number in 0..SEED_SAMPLES {
                fs::write(folder.join(format!("valid-{number:02}")), valid(name, draw)).expect("a writable folder");
            }
        }
        let inputs = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut accepted = 0;
        for input in inputs {
            let input = fs::read(input.expect("a readable folder").path()).expect("a readable file");
            accepted += usize::from(decode(&input));
        }
        assert!(accepted >= SEED_SAMPLES / 2, "{name}: seeds without valid inputs find nothing");
    }
}
