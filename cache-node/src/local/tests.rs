//! Real sockets and real memory: readers that behave, and some that do not.

use std::os::fd::AsFd;
use std::time::Duration;

use kennel_protocol::ids::PartitionKey;
use kennel_protocol::local::{Entrance, Grant, LOCAL_MESSAGE_BYTES, WAKE_BYTES, Wake};
use kennel_protocol::wire::LocalToken;
use kennel_slab::socket::receive_with_descriptor;
use kennel_slab::{Miss, SlabReader, Wanted};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::read::TailBudget;
use crate::read::testing::{chunk, hole, key};

const PATIENCE: Duration = Duration::from_secs(10);
const EPOCH: Epoch = Epoch(3);
const SHARD: ShardId = ShardId(0);

/// A node's local side, with one shard that it owns.
struct Node {
    local: Arc<Local>,
    tail: Arc<Tail>,
    guest: Arc<LocalGuest>,
    running: JoinHandle<()>,
    stop: watch::Sender<bool>,
    _directory: TempDir,
}

/// A reader's connection.
struct Reader {
    stream: UnixStream,
    slab: SlabReader,
}

impl Node {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let tail = Tail::new(SHARD, &TailBudget::new(1 << 30));
        tail.begin(EPOCH, Authority::Owner, &[]);
        let settings = LocalSettings { socket: directory.path().join("local.sock"), bytes: 1 << 20 };
        let (local, doors) = open(&settings, vec![Arc::clone(&tail)]).expect("a socket");
        local.changed(SHARD, EPOCH);
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(doors.run(stopped));
        Self { local, tail, guest: Arc::default(), running, stop, _directory: directory }
    }

    fn offer(&self) -> LocalSocket {
        let host = host_id().expect("this host");
        self.local.offer(LocalRequest { host }, &self.guest).socket.expect("an offer")
    }

    async fn reader(&self) -> Reader {
        let offer = self.offer();
        let mut stream = UnixStream::connect(&offer.path).await.expect("somebody listens");
        stream.write_all(&Entrance { token: offer.token }.encode()).await.expect("it is read");
        let mut bytes = [0; LOCAL_MESSAGE_BYTES];
        let receive = || receive_with_descriptor(&stream, &mut bytes);
        let (length, descriptor) = stream.async_io(Interest::READABLE, receive).await.expect("an answer");
        assert_eq!(length, bytes.len());
        let grant = Grant::decode(&bytes).expect("a grant");
        let descriptor = descriptor.expect("with memory");
        let slab = SlabReader::map(descriptor.as_fd(), grant.bytes, offer.slab).expect("the slab");
        Reader { stream, slab }
    }

    fn commit(&self, entry: &Entry) {
        self.tail.append(entry, None);
        self.local.committed(SHARD, EPOCH, entry);
    }

    /// Waits until so many readers are there.
    async fn readers(&self, wanted: u64) {
        let look = async {
            while self.local.report().readers != wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("{} readers", self.local.report().readers));
    }

    /// Knocks with these bytes; whether the door was shut at once.
    async fn is_refused(&self, bytes: &[u8]) -> bool {
        let mut stream = UnixStream::connect(&self.local.path).await.expect("somebody listens");
        stream.write_all(bytes).await.expect("it is read");
        let mut answer = [0; 1];
        matches!(timeout(PATIENCE, stream.read(&mut answer)).await.expect("in time"), Ok(0) | Err(_))
    }
}

impl Reader {
    async fn ask(&mut self, partition: PartitionKey, beyond: u64) {
        let request = WakeRequest { partition, beyond: Offset(beyond) };
        self.stream.write_all(&request.encode()).await.expect("it is read");
    }

    async fn woken(&mut self) -> Wake {
        let mut bytes = [0; WAKE_BYTES];
        timeout(PATIENCE, self.stream.read_exact(&mut bytes)).await.expect("in time").expect("a wake");
        Wake::decode(&bytes).expect("a wake")
    }

    /// Whether nothing comes.
    async fn sleeps(&mut self) -> bool {
        let mut bytes = [0; 1];
        timeout(Duration::from_millis(50), self.stream.read(&mut bytes)).await.is_err()
    }

    fn read(&self, from: u64) -> Result<(Offset, Vec<u8>), Miss> {
        let (partition, from, bytes_max, messages_max) = (key(0), Offset(from), 1 << 20, u64::MAX);
        let wanted = Wanted { partition, from, bytes_max, messages_max, epoch: EPOCH, last: None };
        self.slab.read(&wanted).map(|read| (read.next, read.batches))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_is_there_and_wakes_who_waits_once() {
    let node = Node::start();
    let early = chunk(0, 0, &[3]);
    node.commit(&early);
    let mut reader = node.reader().await;
    node.readers(1).await;
    assert_eq!(reader.read(0), Err(Miss::Absent), "nobody was there to copy it for");

    reader.ask(key(0), 2).await;
    assert_eq!(reader.woken().await, Wake { partition: key(0), reason: WakeReason::Committed }, "it is already");
    reader.ask(key(0), 3).await;
    assert!(reader.sleeps().await);
    let (second, third) = (chunk(0, 3, &[2, 2]), chunk(0, 7, &[1]));
    node.commit(&second);
    assert_eq!(reader.woken().await.reason, WakeReason::Committed);
    assert_eq!(reader.read(3), Ok((Offset(7), second.body.to_vec())));
    node.commit(&third);
    assert!(reader.sleeps().await, "once");
    assert_eq!(reader.read(3), Ok((Offset(8), [&second.body[..], &third.body[..]].concat())));
    reader.ask(key(0), 8).await;
    assert!(reader.sleeps().await);
    node.commit(&hole(0, 8, 12));
    assert_eq!(reader.woken().await.reason, WakeReason::Committed, "a hole is news, too");
    assert_eq!(node.local.report().wakes, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_node_cannot_say_it_says_so() {
    let node = Node::start();
    let mut reader = node.reader().await;
    let ask_node = |partition| Wake { partition, reason: WakeReason::AskNode };
    reader.ask(key(9), 0).await;
    assert_eq!(reader.woken().await, ask_node(key(9)), "it knows no such partition");
    node.commit(&chunk(0, 0, &[3]));
    reader.ask(key(0), 3).await;
    assert!(reader.sleeps().await);
    assert!(reader.read(0).is_ok());
    node.tail.begin(Epoch(4), Authority::Follower, &[]);
    node.local.changed(SHARD, Epoch(4));
    assert_eq!(reader.woken().await, ask_node(key(0)), "the shard has moved on");
    assert_eq!(reader.read(0), Err(Miss::Absent), "what an epoch showed ends with it");
    let entry = chunk(0, 3, &[1]);
    node.tail.append(&entry, None);
    node.local.committed(SHARD, EPOCH, &entry);
    assert_eq!(reader.read(3), Err(Miss::Absent), "and nothing of it comes after");
    node.local.committed(SHARD, Epoch(4), &entry);
    assert!(reader.read(3).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_reader_fetched_another_finds() {
    let node = Node::start();
    let reader = node.reader().await;
    node.readers(1).await;
    assert!(node.guest.has_slab(), "the session is known to share memory");
    let entry = chunk(0, 10, &[2, 3]);
    let (trim, stored, committed) = (Offset(0), Offset(15), Offset(20));
    let marks = RunMarks { partition: key(0), epoch: EPOCH, trim, stored, committed };
    let pieces = vec![entry.body, chunk(0, 15, &[1]).body];
    let answered = Answered { marks, start: Offset(10), previous: None, pieces };
    node.local.answered(SHARD, &answered);
    assert_eq!(reader.read(10).map(|(next, _)| next), Ok(Offset(16)));
    let records = node.local.report().records;
    node.local.answered(SHARD, &answered);
    assert_eq!(node.local.report().records, records, "what is there is not written again");
    let inside = Answered { start: Offset(11), ..answered };
    node.local.answered(SHARD, &inside);
    assert_eq!(reader.read(11), Err(Miss::Absent), "no record begins inside a batch");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_token_opens_and_only_once() {
    let node = Node::start();
    assert!(node.is_refused(&Entrance { token: LocalToken(1) }.encode()).await, "nobody issued it");
    assert!(node.is_refused(&[0; LOCAL_MESSAGE_BYTES]).await, "that is nothing");
    let offer = node.offer();
    let entrance = Entrance { token: offer.token }.encode();
    let mut first = UnixStream::connect(&offer.path).await.expect("somebody listens");
    first.write_all(&entrance).await.expect("it is read");
    node.readers(1).await;
    assert!(node.is_refused(&entrance).await, "it was used up");
    drop(first);
    node.readers(0).await;
    assert!(node.is_refused(&entrance).await, "for ever");
    assert_eq!(node.local.report().refused, 4);
    let elsewhere = LocalRequest { host: HostId(1) };
    assert_eq!(node.local.offer(elsewhere, &node.guest).socket, None, "another host gets no token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_says_nothing_is_closed() {
    let node = Node::start();
    assert!(node.is_refused(b"KNLL").await);
    assert_eq!(node.local.report().readers, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_the_link_and_leaves_nothing() {
    let node = Node::start();
    node.commit(&chunk(0, 0, &[1]));
    let mut reader = node.reader().await;
    reader.ask(key(0), 1).await;
    assert!(reader.sleeps().await);
    assert_eq!(node.local.wakes.partitions(), 1);
    reader.stream.write_all(&[0xff; LOCAL_MESSAGE_BYTES]).await.expect("it is read");
    node.readers(0).await;
    assert_eq!(node.local.wakes.partitions(), 0);
    assert!(!node.guest.has_slab());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_leaves_nothing() {
    let node = Node::start();
    node.commit(&chunk(0, 0, &[1]));
    let (mut first, mut second) = (node.reader().await, node.reader().await);
    first.ask(key(0), 1).await;
    second.ask(key(0), 1).await;
    assert!(first.sleeps().await && second.sleeps().await);
    drop(first);
    node.readers(1).await;
    node.commit(&chunk(0, 1, &[1]));
    assert_eq!(second.woken().await.reason, WakeReason::Committed);
    assert!(second.read(1).is_ok(), "what was mapped stays");
    drop(second);
    node.readers(0).await;
    assert_eq!(node.local.wakes.partitions(), 0);
    let written = node.local.report().records;
    node.commit(&chunk(0, 2, &[1]));
    assert_eq!(node.local.report().records, written, "nothing is copied for nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_never_reads_delays_nobody_but_itself() {
    let node = Node::start();
    let (mut deaf, mut other) = (node.reader().await, node.reader().await);
    node.readers(2).await;
    // It asks on and on about a partition that the node cannot say anything of. Each question is answered at once, until
    // the socket is full; then nobody reads its questions any more.
    let question = WakeRequest { partition: key(9), beyond: Offset(0) }.encode().repeat(64);
    let asking = async { while deaf.stream.write_all(&question).await.is_ok() {} };
    timeout(Duration::from_secs(1), asking).await.expect_err("it is held up, and not for ever answered");
    node.commit(&chunk(0, 0, &[1]));
    other.ask(key(0), 0).await;
    assert_eq!(other.woken().await.reason, WakeReason::Committed);
    drop(deaf);
    node.readers(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_readers_of_one_partition_are_all_woken() {
    let node = Node::start();
    node.commit(&chunk(0, 0, &[1]));
    let mut readers = Vec::new();
    for _ in 0..50 {
        readers.push(node.reader().await);
    }
    for round in 1..4 {
        for (number, reader) in readers.iter_mut().enumerate() {
            // Some are ahead of the commit, and wait on.
            reader.ask(key(0), round + u64::from(number % 10 == 0)).await;
        }
        while node.local.wakes.waiting_readers() < readers.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        node.commit(&chunk(0, round, &[1]));
        for (number, reader) in readers.iter_mut().enumerate() {
            if number % 10 == 0 {
                assert!(reader.sleeps().await, "{number} is ahead");
            } else {
                assert_eq!(reader.woken().await.reason, WakeReason::Committed, "{number}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_takes_its_socket_away_and_the_next_one_makes_it_anew() {
    let node = Node::start();
    let mut reader = node.reader().await;
    let path = node.local.path.clone();
    node.stop.send_replace(true);
    node.running.await.expect("it does not panic");
    assert!(!path.exists());
    let mut bytes = [0; 1];
    assert_eq!(reader.stream.read(&mut bytes).await.expect("an end"), 0);
    // As one that was killed leaves it.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    let settings = LocalSettings { socket: path.clone(), bytes: 1 << 20 };
    open(&settings, vec![node.tail]).expect("an old socket is no obstacle");
    std::fs::remove_file(&path).expect("it is there");
    std::fs::write(&path, b"precious").expect("a file");
    let refused = open(&LocalSettings { socket: path.clone(), bytes: 1 << 20 }, Vec::new());
    assert!(matches!(refused, Err(LocalError::Socket { .. })), "a file is not ours to take away");
    assert_eq!(std::fs::read(&path).expect("it is there"), b"precious");
}
