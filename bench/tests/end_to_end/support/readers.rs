//! Readers that never rest: whoever moves, stops or comes back must not be seen in what they get.

use std::time::Duration;

use kennel_client::{Client, FetchRequest, Offset, PartitionKey};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use wal_shipper::source::scan;

use super::source::Source;

/// Longer than any answer takes while a shard moves: a claim and an opening, on a busy machine.
const READ_GAP_MAX: Duration = Duration::from_secs(3);

/// Reads the first messages of some partitions again and again, through one node.
#[derive(Debug)]
pub(crate) struct Readers {
    stop: watch::Sender<bool>,
    reading: JoinHandle<Duration>,
}

impl Readers {
    pub(crate) fn start(client: Client, partitions: Vec<PartitionKey>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let reading = tokio::spawn(async move {
            let (mut longest, mut answered) = (Duration::ZERO, Instant::now());
            for partition in partitions.iter().cycle() {
                if *stopped.borrow() {
                    break;
                }
                match client.fetch(FetchRequest::at(*partition, Offset(0))).await {
                    Ok(fetched) => assert!(fetched.next > Offset(0), "{partition} was readable, and is empty now"),
                    Err(error) => panic!("{partition}: {error:?}"),
                }
                longest = longest.max(answered.elapsed());
                answered = Instant::now();
                sleep(Duration::from_millis(5)).await;
            }
            longest
        });
        Self { stop, reading }
    }

    /// Ends, and fails if a reader waited too long in between.
    pub(crate) async fn finish(self) {
        self.stop.send_replace(true);
        let longest = self.reading.await.expect("every read was answered");
        assert!(longest < READ_GAP_MAX, "a reader waited {longest:?}");
    }
}

/// The partitions of a source.
pub(crate) fn keys(source: &Source) -> Vec<PartitionKey> {
    scan(source.path()).expect("a data directory").into_iter().map(|found| found.key).collect()
}
