//! Calls over one lane: answers find their questions, and what is unknown is never called failed.

use std::time::Duration;

use kennel_protocol::frame::FrameKind;
use kennel_protocol::ids::{Epoch, ShardId};
use kennel_protocol::wire::{CatalogRequest, Catalogued, ErrorCode, Message, Partitions, PartitionsRequest, WireError};
use kennel_transport::close::{Advice, SessionError};
use kennel_transport::frames::FrameReadError;
use kennel_transport::lane::Lane;
use kennel_transport::rpc::{CallError, Caller, Correlation, Inbound, LaneOver};
use tokio::time::Instant;

use crate::backends::Pair;

fn question(number: u16) -> Message {
    Message::PartitionsRequest(PartitionsRequest { shard: ShardId(number) })
}

fn answer(number: u16) -> Message {
    Message::Partitions(Partitions { shard: ShardId(number), epoch: Epoch(1), partitions: Vec::new() })
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

async fn callers(pair: &Pair) -> ((Caller, Inbound), (Caller, Inbound)) {
    let (near, far) = pair.lane(Lane::Control).await;
    (Caller::new(near), Caller::new(far))
}

/// Answers every question with its own number, in an order of its own.
async fn serve((caller, mut inbound): (Caller, Inbound)) {
    while let Ok(incoming) = inbound.next().await {
        let caller = caller.clone();
        tokio::spawn(async move {
            let Message::PartitionsRequest(request) = incoming.message else { panic!("{incoming:?}") };
            tokio::time::sleep(Duration::from_millis(u64::from(request.shard.0 % 7))).await;
            let _ = caller.reply(incoming.correlation, answer(request.shard.0)).await;
        });
    }
}

async fn ask_many(caller: &Caller, numbers: std::ops::Range<u16>) {
    let asked: Vec<_> = numbers
        .map(|number| {
            let caller = caller.clone();
            tokio::spawn(async move { (number, caller.call(question(number), soon()).await) })
        })
        .collect();
    for asked in asked {
        let (number, answered) = asked.await.expect("a caller");
        assert_eq!(answered, Ok(answer(number)));
    }
}

pub(crate) async fn many_at_once(pair: Pair) {
    let ((caller, inbound), far) = callers(&pair).await;
    let serving = tokio::spawn(serve(far));
    ask_many(&caller, 0..2000).await;
    drop((caller, inbound));
    serving.await.expect("the server ends with its caller");
}

pub(crate) async fn both_sides(pair: Pair) {
    let ((near, near_inbound), (far, far_inbound)) = callers(&pair).await;
    tokio::spawn(serve((near.clone(), near_inbound)));
    tokio::spawn(serve((far.clone(), far_inbound)));
    tokio::join!(ask_many(&near, 0..300), ask_many(&far, 300..600));
}

pub(crate) async fn deadline(pair: Pair) {
    let ((near, _near_inbound), (far, mut far_inbound)) = callers(&pair).await;
    let started = Instant::now();
    let late = near.call(question(1), started + Duration::from_millis(50)).await;
    assert_eq!(late, Err(CallError::Unanswered));
    assert!(late.expect_err("late").is_unknown());
    assert!(started.elapsed() >= Duration::from_millis(50));
    let asked = far_inbound.next().await.expect("the question");
    far.reply(asked.correlation, answer(1)).await.expect("a lane");
    // The late answer is nobody's, and not the next one's either.
    let (answered, ()) = tokio::join!(near.call(question(2), soon()), async {
        let asked = far_inbound.next().await.expect("the question");
        assert_eq!(asked.message, question(2));
        far.reply(asked.correlation, answer(2)).await.expect("a lane");
    });
    assert_eq!(answered, Ok(answer(2)));
}

pub(crate) async fn refusal(pair: Pair) {
    let ((near, _near_inbound), (far, mut far_inbound)) = callers(&pair).await;
    let error = WireError { code: ErrorCode::NoOwner, message: "nobody yet".into(), offset: None, node: None };
    let (answered, ()) = tokio::join!(near.call(question(1), soon()), async {
        let asked = far_inbound.next().await.expect("the question");
        far.reply(asked.correlation, Message::Error(error.clone())).await.expect("a lane");
    });
    let refused = answered.expect_err("a refusal");
    assert_eq!(refused, CallError::Refused(error));
    assert!(!refused.is_unknown());
    assert_eq!(refused.advice(), Advice::Wait);
}

pub(crate) async fn broken_lane(pair: Pair) {
    let ((near, mut near_inbound), (_far, mut far_inbound)) = callers(&pair).await;
    let calls: Vec<_> = (0..10)
        .map(|number| {
            let near = near.clone();
            tokio::spawn(async move { near.call(question(number), soon()).await })
        })
        .collect();
    for _ in 0..10 {
        far_inbound.next().await.expect("a question");
    }
    pair.far.close(ErrorCode::Stopping.into(), "");
    for call in calls {
        let error = call.await.expect("a caller").expect_err("no answer");
        assert!(error.is_unknown(), "{error:?}");
        assert_eq!(error.advice(), Advice::Retry);
    }
    let over = near_inbound.next().await.expect_err("over");
    let closed = SessionError::ClosedByPeer { code: ErrorCode::Stopping.into(), reason: String::new() };
    assert_eq!(over, LaneOver::Read(FrameReadError::Session(closed)));
    let after = near.call(question(1), soon()).await.expect_err("over");
    assert!(matches!(after, CallError::LaneOver(_)) && !after.is_unknown(), "{after:?}");
}

pub(crate) async fn unasked(pair: Pair) {
    let ((near, mut near_inbound), (far, _far_inbound)) = callers(&pair).await;
    let sending = tokio::spawn(async move {
        for number in 0..1000 {
            far.send(answer(number)).await.expect("a lane");
        }
        far
    });
    for number in 0..1000 {
        let incoming = near_inbound.next().await.expect("a message");
        assert_eq!((incoming.correlation, incoming.message), (Correlation::NONE, answer(number)));
    }
    drop(sending.await.expect("the sender"));
    assert_eq!(near_inbound.next().await, Err(LaneOver::FinishedByPeer));
    drop(near);
}

pub(crate) async fn newer_kinds(pair: Pair) {
    let ((near, _near_inbound), (far, mut far_inbound)) = callers(&pair).await;
    let request = Message::CatalogRequest(CatalogRequest { newer_than: Some(7) });
    let kind = FrameKind::CatalogRequest;
    let refused = near.call(request.clone(), soon()).await.expect_err("an older peer");
    assert_eq!(refused, CallError::TooNew { kind, version: 1 });
    assert_eq!((refused.advice(), refused.is_unknown()), (Advice::Fix, false));
    assert_eq!(near.send(request.clone()).await, Err(refused));
    // Nothing was sent, and the lane is sound: who agreed on the version asks, and is answered whatever the answerer says.
    let near = near.speaking(kind.since());
    let answer = Message::Catalogued(Catalogued { revision: None, catalog: None });
    let (answered, ()) = tokio::join!(near.call(request.clone(), soon()), async {
        let asked = far_inbound.next().await.expect("the question");
        assert_eq!(asked.message, request);
        far.reply(asked.correlation, answer.clone()).await.expect("a lane");
    });
    assert_eq!(answered, Ok(answer));
}
