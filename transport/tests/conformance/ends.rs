//! How lanes and sessions end, and that everybody hears of it.

use bytes::Bytes;
use kennel_protocol::wire::ErrorCode;
use kennel_transport::close::{Advice, CloseCode, SessionError};
use kennel_transport::frames::{FrameReadError, FrameWriteError};
use kennel_transport::lane::Lane;

use crate::backends::Pair;
use crate::frames::{frame, next};

pub(crate) async fn cut_frame(pair: Pair) {
    let whole = frame(1, 10, 100, 1);
    let header = Bytes::copy_from_slice(&whole.header().encode());
    for (sent, missing) in [(header.slice(..20), 28), (header.clone(), 110)] {
        let (mut near, mut far) = pair.lane(Lane::Control).await;
        near.sink.send_unframed(sent).await.expect("a reader");
        drop(near);
        assert_eq!(far.source.next().await, Err(FrameReadError::Cut { missing }));
    }
    let (mut near, mut far) = pair.lane(Lane::Control).await;
    near.sink.send_unframed(header).await.expect("a reader");
    pair.near.close(ErrorCode::Internal.into(), "dies");
    let error = far.source.next().await.expect_err("no frame");
    assert!(matches!(error, FrameReadError::Session(SessionError::ClosedByPeer { .. })), "{error:?}");
    assert_eq!(error.advice(), Advice::Retry);
}

pub(crate) async fn lane_given_up(pair: Pair) {
    let (mut near, mut far) = pair.lane(Lane::Control).await;
    near.sink.give_up(ErrorCode::Stopping.into());
    let code = CloseCode::from(ErrorCode::Stopping);
    assert_eq!(far.source.next().await, Err(FrameReadError::GivenUp { code }));
    let after = near.sink.send(frame(1, 0, 0, 1)).await;
    assert_eq!(after, Err(FrameWriteError::Finished));
    // The other direction is a matter of its own.
    far.sink.send(frame(2, 0, 0, 1)).await.expect("a reader");
    assert_eq!(next(&mut near.source).await.correlation, 2);
}

pub(crate) async fn finished_lane(pair: Pair) {
    let (mut near, mut far) = pair.lane(Lane::Control).await;
    near.sink.send(frame(1, 0, 5000, 1)).await.expect("a reader");
    near.sink.finish();
    let reading = tokio::spawn(async move {
        assert_eq!(next(&mut far.source).await.correlation, 1);
        assert_eq!(far.source.next().await, Ok(None));
        far
    });
    assert_eq!(near.sink.drained().await, Ok(()));
    assert_eq!(near.sink.send(frame(2, 0, 0, 1)).await, Err(FrameWriteError::Finished));
    reading.await.expect("the reader");
}

pub(crate) async fn close_codes(pair: Pair) {
    let (_near, mut far) = pair.lane(Lane::Control).await;
    let waiting = pair.far.clone();
    let waiting = tokio::spawn(async move { waiting.closed().await });
    pair.near.close(ErrorCode::WrongCluster.into(), "I am of another cluster");
    let expected = SessionError::ClosedByPeer {
        code: ErrorCode::WrongCluster.into(),
        reason: "I am of another cluster".to_owned(),
    };
    assert_eq!(waiting.await.expect("the waiter"), expected);
    assert_eq!(expected.advice(), Advice::Fix);
    assert_eq!(pair.near.closed().await, SessionError::ClosedHere);
    assert_eq!(far.source.next().await, Err(FrameReadError::Session(expected.clone())));
    assert_eq!(far.sink.send(frame(1, 0, 0, 1)).await, Err(FrameWriteError::Session(expected.clone())));
    assert_eq!(pair.far.accept().await.expect_err("over"), expected);
    assert_eq!(pair.far.open(Lane::Read).await.expect_err("over"), expected);
    assert_eq!(pair.near.open(Lane::Read).await.expect_err("over"), SessionError::ClosedHere);
}

pub(crate) async fn first_close_counts(pair: Pair) {
    pair.near.close(ErrorCode::Stopping.into(), &"ä".repeat(4000));
    pair.near.close(ErrorCode::Internal.into(), "too late");
    let SessionError::ClosedByPeer { code, reason } = pair.far.closed().await else { panic!("not by the peer") };
    assert_eq!(code.error(), Some(ErrorCode::Stopping));
    assert!(reason.len() <= 512 && reason.chars().all(|letter| letter == 'ä'), "{reason}");
}

pub(crate) async fn dropped_session(pair: Pair) {
    let (near, mut far) = pair.lane(Lane::Read).await;
    let (accepting, waiting) = (pair.far.clone(), pair.far.clone());
    let waiters = [
        tokio::spawn(async move { accepting.accept().await.map(drop).expect_err("over") }),
        tokio::spawn(async move { waiting.closed().await }),
        tokio::spawn(async move {
            match far.source.next().await {
                // The lane's own end may be heard first.
                Ok(None) => SessionError::ClosedByPeer { code: CloseCode::DONE, reason: String::new() },
                Err(FrameReadError::Session(error)) => error,
                other => panic!("{other:?}"),
            }
        }),
    ];
    tokio::task::yield_now().await;
    drop((near, pair));
    for waiter in waiters {
        let error = waiter.await.expect("a waiter");
        assert_eq!(error, SessionError::ClosedByPeer { code: CloseCode::DONE, reason: String::new() });
    }
}
