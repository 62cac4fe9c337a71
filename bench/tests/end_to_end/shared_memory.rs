//! Readers on a node's own host: what they read out of its memory is what others read over the network, and where there
//! is no such memory they notice nothing.

use std::time::Duration;

use kennel_client::{Client, ClientSettings, FetchFrom, FetchRequest, Offset, PartitionKey};
use kennel_core::shipper::Until;
use kennel_protocol::entry::MessageIdentity;
use kennel_protocol::ids::Epoch;

use crate::support::bucket::TestBucket;
use crate::support::cluster::{Cluster, read_back};
use crate::support::eventually;
use crate::support::node::free_address;
use crate::support::readers::keys;
use crate::support::source::Source;

const PATIENCE: Duration = Duration::from_secs(20);

/// Everything of a partition, and how many of the answers came out of memory.
async fn read_all(client: &Client, partition: PartitionKey, bytes_max: u32) -> (Vec<u8>, u64, u64) {
    let (mut bytes, mut shared, mut answers) = (Vec::new(), 0, 0);
    let (mut epoch, mut last): (Epoch, Option<MessageIdentity>) = (Epoch(0), None);
    let mut next = Offset(0);
    loop {
        let request = FetchRequest { epoch, last, bytes_max, ..FetchRequest::at(partition, next) };
        let fetched = client.fetch(request).await.unwrap_or_else(|error| panic!("{partition} at {next}: {error}"));
        if fetched.is_empty() {
            return (bytes, shared, answers);
        }
        bytes.extend_from_slice(fetched.batch_bytes());
        (epoch, last, next) = (epoch.max(fetched.epoch), fetched.last.or(last), fetched.next);
        (shared, answers) = (shared + u64::from(fetched.from_shared_memory), answers + 1);
    }
}

async fn attached(client: &Client) {
    let look = || async { if client.shares_memory() { Ok(()) } else { Err("no memory".to_owned()) } };
    eventually("the reader shares the node's memory", PATIENCE, look).await;
}

async fn over_the_network(cluster: &Cluster, at: usize) -> Client {
    let settings = ClientSettings { local: false, ..ClientSettings::new(vec![cluster.address(at)]) };
    let identity = cluster.identity(&cluster.certificates.client);
    Client::connect(settings, &identity).await.expect("a node welcomes a reader")
}

/// How many readers share the memory of the node at a place.
async fn sharing(cluster: &Cluster, at: usize) -> u64 {
    cluster.statuses().await[at].local.as_ref().expect("it shares memory").readers
}

async fn shares(cluster: &Cluster, at: usize, readers: u64) {
    let look = || async {
        let found = sharing(cluster, at).await;
        if found == readers { Ok(()) } else { Err(format!("{found} readers")) }
    };
    eventually("so many readers share memory", PATIENCE, look).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_network_give_the_same_bytes() {
    let mut cluster = Cluster::prepare(3, TestBucket::directory(), &["local.bytes=64 MiB"]);
    cluster.share_memory();
    cluster.start_all().await;
    cluster.whole().await;
    // A shard that moves empties the memory, and this asks for what lies there.
    cluster.steady().await;
    let reader = cluster.client_of(0).await;
    attached(&reader).await;
    let source = Source::generated(12, 6 << 20, 21);
    cluster.shipper().ship(source.path(), Until::Committed).await;
    let network = over_the_network(&cluster, 0).await;
    for partition in keys(&source) {
        let (expected, none, _) = read_all(&network, partition, 1 << 20).await;
        assert_eq!(none, 0, "it was told not to");
        let (found, shared, answers) = read_all(&reader, partition, 1 << 20).await;
        assert!(found == expected, "{partition}: other bytes");
        // The first offset has no message before it, and every other record names the one before it.
        assert_eq!(shared, answers, "{partition}: all of it was committed while the reader was there");
        let (found, shared, _) = read_all(&reader, partition, 100 << 10).await;
        assert!(found == expected && shared > 1, "{partition}: in smaller pieces");
    }
    let verified = read_back(&reader, source.path(), None).await;
    assert!(verified.is_clean(), "{}: {verified:#?}", verified.line());
    assert_eq!(verified.messages, source.messages);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lay_there_before_comes_over_the_network_once() {
    let mut cluster = Cluster::prepare(1, TestBucket::directory(), &["cluster.copies=1", "cluster.min_copies=1"]);
    cluster.share_memory();
    cluster.start_all().await;
    cluster.whole().await;
    let source = Source::generated(3, 2 << 20, 22);
    cluster.shipper().ship(source.path(), Until::Committed).await;
    let (first, second) = (cluster.client_of(0).await, cluster.client_of(0).await);
    attached(&first).await;
    attached(&second).await;
    for partition in keys(&source) {
        let (fetched, shared, answers) = read_all(&first, partition, 1 << 20).await;
        assert_eq!(shared, 0, "nobody was there when it was committed");
        assert!(answers > 0);
        let (found, shared, _) = read_all(&second, partition, 1 << 20).await;
        assert!(found == fetched && shared > 0, "{partition}: {shared} answers out of memory");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_reads_on_from_memory_across_a_restart() {
    // Its address stays, as that of a real node does.
    let listen = format!("listen.quic={}", free_address());
    let settings = ["cluster.copies=1", "cluster.min_copies=1", "cluster.shard_count=1", &listen];
    let mut cluster = Cluster::prepare(1, TestBucket::directory(), &settings);
    cluster.share_memory();
    cluster.start_all().await;
    cluster.whole().await;
    let reader = cluster.client_of(0).await;
    attached(&reader).await;
    let (first, second) = (Source::generated(1, 1 << 20, 23), Source::generated(1, 1 << 20, 24).of_other_streams());
    let [one, other] = [&first, &second].map(|source| keys(source)[0]);

    let following = follow(reader.clone(), one, first.messages);
    shares(&cluster, 0, 1).await;
    cluster.shipper().ship(first.path(), Until::Committed).await;
    let (_, shared) = following.await.expect("every message came");
    assert!(shared > 0, "nothing came out of memory");

    cluster.crash(0).await;
    cluster.start_all().await;
    cluster.whole().await;
    assert!(read_back(&reader, first.path(), None).await.is_clean(), "without memory it reads on");
    attached(&reader).await;
    let following = follow(reader.clone(), other, second.messages);
    cluster.shipper().ship(second.path(), Until::Committed).await;
    let (_, shared) = following.await.expect("every message came");
    assert!(shared > 0, "nothing came out of the new process's memory");

    let another = cluster.client_of(0).await;
    shares(&cluster, 0, 2).await;
    drop(another);
    shares(&cluster, 0, 1).await;
    drop(reader);
    shares(&cluster, 0, 0).await;
}

/// Follows until so many messages have come, each once and in order; how many answers came, and how many out of memory.
fn follow(client: Client, partition: PartitionKey, messages: u64) -> tokio::task::JoinHandle<(u64, u64)> {
    tokio::spawn(async move {
        let mut follower = client.follow(partition, FetchFrom::Offset(Offset(0)));
        let (mut next, mut answers, mut shared) = (0, 0, 0);
        while next < messages {
            match follower.next().await {
                Ok(fetched) => {
                    for message in fetched.messages() {
                        assert_eq!(message.offset.0, next, "each once, in order");
                        next += 1;
                    }
                    answers += 1;
                    shared += u64::from(fetched.from_shared_memory);
                }
                // Nobody has shipped it yet.
                Err(kennel_client::FetchError::UnknownPartition(_)) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{partition} at {next}: {error}"),
            }
        }
        (answers, shared)
    })
}
