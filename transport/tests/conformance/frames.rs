//! Frames: whole, in order, bounded, and refused when they are not what they say.

use std::time::Duration;

use bytes::Bytes;
use kennel_protocol::checksum::checksum;
use kennel_protocol::frame::{Frame, FrameError, FrameKind, Payload};
use kennel_protocol::ids::ShardId;
use kennel_protocol::limits::{WIRE_VERSION, WIRE_VERSION_MIN};
use kennel_protocol::wire::ErrorCode;
use kennel_transport::frames::{FrameReadError, FrameSink, FrameSource, FrameWriteError};
use kennel_transport::lane::Lane;
use kennel_transport::session::LaneStream;
use tokio::time::timeout;

use crate::backends::Pair;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// A frame of `payload_bytes`, cut into `pieces` equal parts and a rest.
pub(crate) fn frame(correlation: u64, head_bytes: usize, payload_bytes: usize, pieces: usize) -> Frame {
    let fill = |bytes: usize| -> Bytes {
        (0..bytes).map(|at| u8::try_from((at as u64 * 31 + correlation) % 251).expect("small")).collect()
    };
    let mut rest = fill(payload_bytes);
    let mut cut = Vec::new();
    for _ in 1..pieces {
        cut.push(rest.split_to(payload_bytes / pieces));
    }
    cut.push(rest);
    Frame { kind: FrameKind::Fetched, correlation, head: fill(head_bytes), payload: Payload::from(cut) }
}

pub(crate) async fn next(source: &mut FrameSource) -> Frame {
    source.next().await.expect("a sound lane").expect("a frame")
}

/// The bytes of a small frame as they travel.
fn frame_bytes() -> Vec<u8> {
    let frame = frame(1, 100, 200, 1);
    let mut bytes = frame.header().encode().to_vec();
    bytes.extend_from_slice(&frame.head);
    bytes.extend_from_slice(&frame.payload.into_contiguous());
    bytes
}

pub(crate) async fn sizes_in_order(pair: Pair) {
    let (mut near, mut far) = pair.lane(Lane::Shard(ShardId(3))).await;
    let sizes = [0, 1, 47, 48, 1023, 1024, 1025, 6500, 64 * KIB - 1, 64 * KIB, MIB, 16 * MIB, 3, 0];
    let frames: Vec<Frame> = (0_u64..)
        .zip(sizes)
        .flat_map(|(number, size)| {
            [frame(3 * number, 0, size, 1), frame(3 * number + 1, 40, size, 3), frame(3 * number + 2, 5000, size, 16)]
        })
        .collect();
    let expected = frames.clone();
    let sending = tokio::spawn(async move {
        for (number, frame) in frames.into_iter().enumerate() {
            // Frames of all versions are read side by side.
            near.sink.speak(if number % 2 == 0 { WIRE_VERSION_MIN } else { WIRE_VERSION });
            near.sink.send(frame).await.expect("a reader");
        }
    });
    for frame in expected {
        let received = next(&mut far.source).await;
        assert!(received == frame, "frame {} differs", frame.correlation);
        assert_eq!(received.payload.pieces().len(), 1, "a received payload is one run");
    }
    sending.await.expect("the sender");
    assert_eq!(far.source.next().await, Ok(None));
    assert_eq!(far.source.next().await, Ok(None), "the end stays the end");
}

async fn echo(mut lane: LaneStream) {
    while let Some(frame) = lane.source.next().await.expect("a sound lane") {
        lane.sink.send(frame).await.expect("a reader");
    }
}

pub(crate) async fn many_lanes(pair: Pair) {
    const LANES: u16 = 200;
    let far = pair.far.clone();
    let accepting = tokio::spawn(async move {
        for number in 0..LANES {
            let lane = far.accept().await.expect("a lane");
            assert_eq!(lane.lane, Lane::Shard(ShardId(number)), "lanes come in the order of opening");
            tokio::spawn(echo(lane));
        }
    });
    let mut lanes = Vec::new();
    for number in 0..LANES {
        lanes.push(pair.near.open(Lane::Shard(ShardId(number))).await.expect("a lane"));
    }
    for round in 0..3 {
        for (number, lane) in (0_u64..).zip(&mut lanes) {
            lane.sink.send(frame(number * 10 + round, 20, 3000, 2)).await.expect("a reader");
        }
        for (number, lane) in (0_u64..).zip(&mut lanes) {
            assert_eq!(next(&mut lane.source).await.correlation, number * 10 + round);
        }
    }
    accepting.await.expect("all lanes");
}

pub(crate) async fn both_directions(pair: Pair) {
    let (near, far) = pair.lane(Lane::Read).await;
    let run = async |mut sink: FrameSink, mut source: FrameSource, first: u64| {
        let sending = tokio::spawn(async move {
            for number in first..first + 20 {
                sink.send(frame(number, 10, MIB, 2)).await.expect("a reader");
            }
            sink
        });
        let theirs = 1000 - first;
        for number in theirs..theirs + 20 {
            assert_eq!(next(&mut source).await.correlation, number);
        }
        sending.await.expect("the sender");
    };
    tokio::join!(run(near.sink, near.source, 0), run(far.sink, far.source, 1000));
}

pub(crate) async fn fed_frames(pair: Pair) {
    let (mut near, mut far) = pair.lane(Lane::Control).await;
    for number in 0..2000 {
        near.sink.feed(frame(number, 60, 100, 1)).await.expect("room");
    }
    near.sink.flush().await.expect("a reader");
    for number in 0..2000 {
        assert_eq!(next(&mut far.source).await, frame(number, 60, 100, 1));
    }
}

pub(crate) async fn slow_reader(pair: Pair) {
    let (mut slow, mut slow_far) = pair.lane(Lane::Bulk).await;
    let (mut quick, mut quick_far) = pair.lane(Lane::Control).await;
    let mut taken = 0;
    while let Ok(sent) = timeout(Duration::from_millis(300), slow.sink.send(frame(taken, 0, MIB, 1))).await {
        sent.expect("a reader");
        taken += 1;
        assert!(taken <= 6, "{taken} MiB were taken although nobody reads");
    }
    assert!(taken > 0, "nothing was taken at all");
    quick.sink.send(frame(7, 0, MIB, 1)).await.expect("a reader");
    assert_eq!(next(&mut quick_far.source).await.correlation, 7);
    // The frame whose send was cancelled is in part on its way: it arrives whole.
    let flushing = tokio::spawn(async move { slow.sink.flush().await.expect("a reader") });
    for number in 0..=taken {
        assert_eq!(next(&mut slow_far.source).await.correlation, number);
    }
    flushing.await.expect("the flush");
}

pub(crate) async fn cancelled_flush(pair: Pair) {
    let (mut near, mut far) = pair.lane(Lane::Bulk).await;
    near.sink.feed(frame(1, 10, 16 * MIB, 4)).await.expect("room");
    let expected = frame(1, 10, 16 * MIB, 1);
    let reading = tokio::spawn(async move {
        assert!(next(&mut far.source).await == expected);
        assert_eq!(next(&mut far.source).await.correlation, 2);
    });
    while timeout(Duration::from_micros(200), near.sink.flush()).await.is_err() {}
    near.sink.send(frame(2, 0, 0, 1)).await.expect("a reader");
    reading.await.expect("the reader");
}

pub(crate) async fn cancelled_read(pair: Pair) {
    let (mut near, mut far) = pair.lane(Lane::Bulk).await;
    let bytes = Bytes::from(frame_bytes());
    let sending = tokio::spawn(async move {
        for _ in 0..5 {
            for at in (0..bytes.len()).step_by(29) {
                let part = bytes.slice(at..bytes.len().min(at + 29));
                near.sink.send_unframed(part).await.expect("a reader");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    for _ in 0..5 {
        let received = loop {
            if let Ok(received) = timeout(Duration::from_micros(500), next(&mut far.source)).await {
                break received;
            }
        };
        assert_eq!(received, frame(1, 100, 200, 1));
    }
    sending.await.expect("the sender");
}

pub(crate) async fn cancelled_accept(pair: Pair) {
    let near = pair.near.clone();
    let opening = tokio::spawn(async move {
        let mut lanes = Vec::new();
        for number in 0..100 {
            lanes.push(near.open(Lane::Shard(ShardId(number))).await.expect("a lane"));
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
        lanes
    });
    for number in 0..100 {
        let lane = loop {
            if let Ok(lane) = timeout(Duration::from_micros(50), pair.far.accept()).await {
                break lane.expect("a lane");
            }
        };
        assert_eq!(lane.lane, Lane::Shard(ShardId(number)));
    }
    opening.await.expect("the opener");
}

/// Sends until the peer's refusal arrives.
async fn until_stopped(sink: &mut FrameSink) -> FrameWriteError {
    loop {
        if let Err(error) = sink.send(frame(9, 0, 10, 1)).await {
            return error;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn check_refused(pair: &Pair, bytes: Vec<u8>, code: ErrorCode) -> FrameError {
    let (mut near, mut far) = pair.lane(Lane::Control).await;
    near.sink.send(frame(5, 10, 10, 1)).await.expect("a reader");
    near.sink.send_unframed(bytes.into()).await.expect("a reader");
    assert_eq!(next(&mut far.source).await.correlation, 5, "what came before counts");
    let refused = far.source.next().await.expect_err("a refusal");
    let FrameReadError::Refused(error) = refused.clone() else { panic!("{refused:?}") };
    assert_eq!(error.code(), code);
    assert_eq!(far.source.next().await, Err(refused), "a broken lane stays broken");
    assert_eq!(until_stopped(&mut near.sink).await, FrameWriteError::StoppedByPeer { code: code.into() });
    error
}

pub(crate) async fn damage_refused(pair: Pair) {
    let cases = [
        (0, ErrorCode::Malformed),       // the magic
        (13, ErrorCode::Checksum),       // the header
        (48 + 7, ErrorCode::Checksum),   // the head
        (48 + 110, ErrorCode::Checksum), // the payload
    ];
    for (at, code) in cases {
        let mut bytes = frame_bytes();
        bytes[at] ^= 0x40;
        check_refused(&pair, bytes, code).await;
    }
    // The session and its other lanes live on.
    let (mut near, mut far) = pair.lane(Lane::Control).await;
    near.sink.send(frame(1, 0, 0, 1)).await.expect("a reader");
    assert_eq!(next(&mut far.source).await.correlation, 1);
}

/// A sound header that claims the largest lengths that its fields can say, and nothing behind it: were the length
/// believed, the reader would wait for it.
pub(crate) async fn giant_refused(pair: Pair) {
    for at in [8, 12] {
        let mut header = frame_bytes();
        header.truncate(48);
        header[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let own = checksum(&header[..40]);
        header[40..].copy_from_slice(&own.to_le_bytes());
        let error = check_refused(&pair, header, ErrorCode::FrameTooLarge).await;
        let bytes = u64::from(u32::MAX);
        let expected = [FrameError::HeadTooLarge { bytes }, FrameError::PayloadTooLarge { bytes }];
        assert!(expected.contains(&error), "{error:?}");
    }
}

pub(crate) async fn giant_not_sent(pair: Pair) {
    let (mut near, mut far) = pair.lane(Lane::Control).await;
    let piece = Bytes::from(vec![0; MIB]);
    let payload = Payload::from(vec![piece; 73]);
    let giant = Frame { kind: FrameKind::Ship, correlation: 1, head: Bytes::new(), payload };
    let refused = near.sink.send(giant).await.expect_err("larger than any payload may be");
    assert!(matches!(refused, FrameWriteError::TooLarge(FrameError::PayloadTooLarge { .. })), "{refused:?}");
    near.sink.send(frame(2, 0, 1, 1)).await.expect("a sound lane");
    assert_eq!(next(&mut far.source).await.correlation, 2);
}
