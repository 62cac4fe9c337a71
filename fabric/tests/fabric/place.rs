//! What is placed arrives as it was, and what cannot be placed is said so at once.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kennel_fabric::{EndpointSettings, FabricError};

use crate::support::{block_on, carry, each, pair, pattern, soon};

const LENGTHS: [usize; 14] =
    [1, 2, 63, 64, 65, 4095, 4096, 4097, 65_536, 100_001, 1 << 20, (1 << 20) + 1, 3 << 20, 8 << 20];

#[test]
fn bytes_of_any_length_arrive_as_they_were() {
    each(8 << 20, |library, settings| {
        let (node, reader) = pair(library, &settings);
        for (salt, length) in LENGTHS.into_iter().enumerate() {
            let bytes = pattern(length, salt);
            assert_eq!(carry(&node, &reader, &bytes).expect("placed"), bytes, "{length}");
        }
        let values = node.counters().values();
        assert_eq!((values.placed, values.failed), (LENGTHS.len() as u64, 0));
        assert_eq!(values.placed_bytes, LENGTHS.iter().sum::<usize>() as u64);
        assert_eq!(carry(&node, &reader, &Bytes::new()).expect("nothing to do").len(), 0);
    });
}

#[test]
fn many_at_once_arrive_each_in_its_own_landing() {
    each(1 << 20, |library, settings| {
        let (node, reader) = pair(library, &settings);
        block_on(async {
            for round in 0..10 {
                let one = async |number: usize| {
                    let bytes = pattern(1 + 130_000 * number / 2, round * 16 + number);
                    let mut landing = reader.landing().expect("sixteen are free");
                    // More pieces than any provider gathers, so that there are several writes.
                    let pieces =
                        (0..9).map(|piece| bytes.slice(bytes.len() * piece / 9..bytes.len() * (piece + 1) / 9));
                    let placed = node.place(landing.advert(), pieces.collect(), soon()).await.expect("placed");
                    assert_eq!(landing.filled(placed.len).expect("it fits"), bytes);
                };
                tokio::join!(one(0), one(1), one(2), one(3), one(4), one(5), one(6), one(15));
            }
        });
        let values = node.counters().values();
        assert_eq!((values.placed, values.failed, values.quarantined), (80, 0, 0));
    });
}

#[test]
fn registered_send_buffers_carry_the_same_bytes() {
    each(1 << 20, |library, settings| {
        let settings = EndpointSettings { always_copy: true, send_bytes: 64 << 10, send_count: 16, ..settings };
        let (node, reader) = pair(library, &settings);
        for round in 0..3 {
            for length in [1, 65_535, 65_536, 65_537, 1 << 20] {
                let bytes = pattern(length, round);
                assert_eq!(carry(&node, &reader, &bytes).expect("placed"), bytes, "{length}");
            }
        }
        let mut landing = reader.landing().expect("free");
        let many = EndpointSettings { send_count: 3, ..settings };
        let (few, _) = pair(library, &many);
        let result = block_on(few.place(landing.advert(), vec![pattern(1 << 20, 0)], soon()));
        assert!(matches!(result, Err(FabricError::NoSendBuffer)), "{result:?}");
        assert_eq!(carry(&few, &reader, &pattern(9, 9)).expect("three are still there"), pattern(9, 9));
    });
}

#[test]
fn a_pool_that_is_empty_says_so_at_once_and_fills_again() {
    each(4096, |library, settings| {
        let (node, reader) = pair(library, &settings);
        let taken: Vec<_> = (0..16).map(|_| reader.landing().expect("free")).collect();
        let started = Instant::now();
        assert!(matches!(reader.landing(), Err(FabricError::NoLanding { lost: 0 })));
        assert!(started.elapsed() < Duration::from_millis(100));
        drop(taken);
        let kept: Vec<_> = (0..16).map(|salt| carry(&node, &reader, &pattern(100, salt)).expect("placed")).collect();
        assert!(matches!(reader.landing(), Err(FabricError::NoLanding { lost: 0 })), "held as bytes");
        assert!(kept.iter().enumerate().all(|(salt, bytes)| *bytes == pattern(100, salt)), "each has its own");
        let part = kept[3].slice(10..20);
        drop(kept);
        assert_eq!(part, pattern(100, 3).slice(10..20), "a part holds the whole");
        assert_eq!((0..16).take_while(|_| reader.landing().map(std::mem::forget).is_ok()).count(), 15);
    });
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_sent() {
    each(4096, |library, settings| {
        let (node, reader) = pair(library, &settings);
        let mut landing = reader.landing().expect("free");
        let result = block_on(node.place(landing.advert(), vec![pattern(4097, 0)], soon()));
        assert!(matches!(result, Err(FabricError::TooLong { bytes: 4097, room: 4096 })), "{result:?}");
        assert!(matches!(landing.filled(4097), Err(FabricError::TooLong { .. })));
        let unadvertised = reader.landing().expect("free");
        assert!(unadvertised.filled(1).is_err(), "nobody was told of it");
        let mut landing = reader.landing().expect("free");
        let _ = landing.advert();
        landing.unused();
    });
}
