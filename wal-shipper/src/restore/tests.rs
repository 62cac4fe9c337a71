//! A partition is restored once and in order: with holes, with answers that are lost, resumed, and beside others who write.

use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use kennel_client::{FetchError, Message};
use kennel_protocol::ids::{Offset, PartitionKey};

use super::*;

/// What becomes of the sends of a test, in order; those after the last go well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Well,
    /// It arrives, and nobody hears of it.
    AnswerLost,
    /// It is lost.
    Lost,
}

/// Messages at offsets of one's choice: what is between them is a hole.
struct List(Vec<Message>);

#[async_trait]
impl Origin for List {
    async fn page(&self, _partition: PartitionKey, from: Offset) -> Result<Page, FetchError> {
        let committed = self.0.last().map_or(Offset(0), |last| last.offset.plus(1));
        let messages: Vec<_> = self.0.iter().filter(|message| message.offset >= from).take(7).cloned().collect();
        let next = messages.last().map_or(from.max(committed), |last| last.offset.plus(1));
        Ok(Page { messages, next, committed })
    }
}

/// A server with one partition.
#[derive(Debug, Default)]
struct Shelf {
    messages: Vec<TargetMessage>,
    fates: Vec<Fate>,
    broken: bool,
    sends: usize,
    intruder: Option<TargetMessage>,
}

#[async_trait]
impl Target for Shelf {
    async fn reconnect(&mut self) -> Result<(), TargetError> {
        self.broken = false;
        Ok(())
    }

    async fn count(&mut self, _place: &Place) -> Result<Option<u64>, TargetError> {
        self.session()?;
        Ok(Some(self.messages.len() as u64))
    }

    async fn read(&mut self, _place: &Place, from: u64, count: u32) -> Result<Vec<TargetMessage>, TargetError> {
        self.session()?;
        let from = usize::try_from(from).expect("small");
        Ok(self.messages.iter().skip(from).take(count as usize).cloned().collect())
    }

    async fn send(&mut self, _place: &Place, messages: &[Message]) -> Result<(), TargetError> {
        self.session()?;
        let fate = self.fates.get(self.sends).copied().unwrap_or(Fate::Well);
        self.sends += 1;
        if fate != Fate::Lost {
            self.messages.extend(messages.iter().map(stored));
        }
        if fate == Fate::Well {
            return Ok(());
        }
        self.messages.extend(self.intruder.take());
        self.broken = true;
        Err(TargetError::Unanswered("the connection broke".to_owned()))
    }
}

impl Shelf {
    fn session(&self) -> Result<(), TargetError> {
        if self.broken { Err(TargetError::Unanswered("no session".to_owned())) } else { Ok(()) }
    }
}

fn stored(message: &Message) -> TargetMessage {
    TargetMessage {
        id: message.id,
        origin_timestamp: message.origin_timestamp,
        payload: message.payload.clone(),
        user_headers: message.user_headers.clone(),
    }
}

fn message(offset: u64) -> Message {
    Message {
        offset: Offset(offset),
        timestamp: 7,
        origin_timestamp: 100 + offset,
        id: u128::from(offset) + 1,
        checksum: 0,
        payload: Bytes::from(format!("message {offset}")),
        user_headers: Bytes::from_static(b"headers"),
    }
}

fn list(offsets: impl Iterator<Item = u64>) -> List {
    List(offsets.map(message).collect())
}

async fn run(list: &List, shelf: &mut Shelf) -> Result<Copied, CopyError> {
    let place = Place { stream: "s".to_owned(), topic: "t".to_owned(), partition: 0 };
    let told = Mutex::new(0);
    let seen = |messages| *told.lock().expect("alive") += messages;
    let copied = copy(list, shelf, ("1/2/0".parse().expect("a partition"), &place), &seen).await;
    if let Ok(copied) = &copied {
        assert_eq!(*told.lock().expect("alive"), copied.present + copied.sent);
    }
    copied
}

fn holds(shelf: &Shelf, list: &List) {
    assert_eq!(shelf.messages, list.0.iter().map(stored).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn everything_arrives_once_whatever_becomes_of_answers() {
    let list = list((0..40).chain(90..101));
    let fates = [
        vec![],
        vec![Fate::AnswerLost],
        vec![Fate::Lost, Fate::Lost, Fate::AnswerLost],
        vec![Fate::Well, Fate::Lost, Fate::AnswerLost, Fate::Lost, Fate::AnswerLost, Fate::Well, Fate::Lost],
    ];
    for fates in fates {
        let mut shelf = Shelf { fates: fates.clone(), ..Shelf::default() };
        let copied = run(&list, &mut shelf).await.unwrap_or_else(|error| panic!("{fates:?}: {error}"));
        assert_eq!((copied.present, copied.sent, copied.verified), (0, 51, 51), "{fates:?}");
        holds(&shelf, &list);
    }
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_where_the_target_ends_with_holes_or_without() {
    for list in [list(0..60), list(20..80), list((0..10).chain(30..45).chain(50..85))] {
        for present in [0, 1, 9, 10, 11, 30, 60] {
            let messages: Vec<_> = list.0.iter().take(present).map(stored).collect();
            let mut shelf = Shelf { messages, ..Shelf::default() };
            let copied = run(&list, &mut shelf).await.expect("it goes on");
            assert_eq!((copied.present, copied.sent), (present as u64, 60 - present as u64));
            holds(&shelf, &list);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_partition_is_whole() {
    let mut shelf = Shelf::default();
    assert_eq!(run(&list(0..0), &mut shelf).await.expect("nothing to do"), Copied::default());
}

#[tokio::test(start_paused = true)]
async fn other_messages_stop_the_partition() {
    let list = list(0..20);
    let foreign = TargetMessage { payload: Bytes::from_static(b"of somebody else"), ..stored(&message(3)) };
    // As the last one, further down, and beyond the ring's end.
    for (at, present) in [(9, 10), (3, 10), (0, 21)] {
        let mut messages: Vec<_> = (0..present).map(|offset| stored(&message(offset))).collect();
        messages[at] = foreign.clone();
        let before = messages.clone();
        let mut shelf = Shelf { messages, ..Shelf::default() };
        let error = run(&list, &mut shelf).await.expect_err("somebody else's");
        assert!(error.is_foreign(), "{at}: {error}");
        assert!(shelf.messages.starts_with(&before), "what was there is left");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_writes_beside_us_is_noticed() {
    let intruder = Some(stored(&message(99)));
    let mut shelf = Shelf { fates: vec![Fate::Lost], intruder, ..Shelf::default() };
    // With one message a batch, it looks like the one that was sent until it is compared.
    let error = run(&list(0..1), &mut shelf).await.expect_err("an intruder");
    assert!(matches!(error, CopyError::Foreign { at: 0, .. }), "{error}");
    let mut shelf = Shelf { fates: vec![Fate::Lost], intruder: Some(stored(&message(99))), ..Shelf::default() };
    let error = run(&list(0..20), &mut shelf).await.expect_err("an intruder");
    assert!(matches!(error, CopyError::Foreign { what: "somebody else writes to the partition", .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stays_away_is_given_up() {
    struct Away;
    #[async_trait]
    impl Target for Away {
        async fn reconnect(&mut self) -> Result<(), TargetError> {
            Err(TargetError::Unanswered("still away".to_owned()))
        }
        async fn count(&mut self, _place: &Place) -> Result<Option<u64>, TargetError> {
            self.reconnect().await.map(|()| None)
        }
        async fn read(&mut self, _place: &Place, _from: u64, _count: u32) -> Result<Vec<TargetMessage>, TargetError> {
            self.reconnect().await.map(|()| Vec::new())
        }
        async fn send(&mut self, _place: &Place, _messages: &[Message]) -> Result<(), TargetError> {
            self.reconnect().await
        }
    }
    let place = Place { stream: "s".to_owned(), topic: "t".to_owned(), partition: 0 };
    let result = copy(&list(0..9), &mut Away, ("1/2/0".parse().expect("a partition"), &place), &|_| {}).await;
    assert!(matches!(result, Err(CopyError::Target(TargetError::Unanswered(_)))));
}

#[test]
fn what_is_compared() {
    let ring = message(4);
    let there = stored(&ring);
    assert_eq!(same(&ring, &there), Ok(()));
    let nameless = Message { id: 0, ..ring.clone() };
    assert_eq!(same(&nameless, &there), Ok(()), "the SDK gives an id to what has none");
    assert!(same(&ring, &TargetMessage { id: 9, ..there.clone() }).is_err());
    assert!(same(&ring, &TargetMessage { payload: Bytes::new(), ..there.clone() }).is_err());
    assert!(same(&ring, &TargetMessage { user_headers: Bytes::new(), ..there.clone() }).is_err());
    assert!(same(&ring, &TargetMessage { origin_timestamp: 0, ..there }).is_err());
}
