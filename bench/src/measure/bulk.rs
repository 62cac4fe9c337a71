//! Large fetches with several under way, as whoever reads much does it, beside as many answers of bare quinn: each kind over
//! one connection, in turns.

use std::time::Instant;

use anyhow::ensure;
use kennel_client::{Client, FetchRequest};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::scenario::median;
use crate::scenario::raw::RawStream;

/// Under way at once.
pub(super) const UNDER_WAY: usize = 4;
/// Turns of each kind.
const TURNS: usize = 7;
/// Answers of each in a turn.
const ANSWERS: usize = 100;
const MIB: f64 = 1_048_576.0;

/// MiB a second, medians of the turns.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Bulk {
    pub(super) quic: f64,
    pub(super) bare_quinn: f64,
}

impl Bulk {
    /// Measures both. `requests` are asked one after the other, again and again.
    pub(super) async fn measure(client: &Client, requests: &[FetchRequest], bare: &RawStream) -> anyhow::Result<Self> {
        let mut streams = Vec::new();
        for _ in 0..UNDER_WAY {
            streams.push(bare.another().await?);
        }
        let (mut quic, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            let (bytes, speed) = fetch(client, requests).await?;
            quic.push(speed);
            bare.push(ask(&mut streams, bytes).await?);
        }
        Ok(Self { quic: median(quic), bare_quinn: median(bare) })
    }

    /// How much of bare quinn's throughput a reader has.
    pub(super) fn share(self) -> f64 {
        self.quic / self.bare_quinn
    }
}

/// A turn of fetches; bytes of one answer, and MiB a second.
async fn fetch(client: &Client, requests: &[FetchRequest]) -> anyhow::Result<(u64, f64)> {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for worker in 0..UNDER_WAY {
        let (client, requests) = (client.clone(), requests.to_vec());
        tasks.spawn(async move {
            let (mut bytes, mut longest) = (0, 0);
            for number in (worker..ANSWERS).step_by(UNDER_WAY) {
                let fetched = client.fetch(requests[number % requests.len()]).await?;
                ensure!(!fetched.from_shared_memory, "an answer came another way than it should");
                let length = fetched.batch_bytes().len() as u64;
                (bytes, longest) = (bytes + length, length.max(longest));
            }
            anyhow::Ok((bytes, longest))
        });
    }
    let (mut all, mut longest) = (0, 0);
    while let Some(done) = tasks.join_next().await {
        let (bytes, length) = done??;
        (all, longest) = (all + bytes, length.max(longest));
    }
    Ok((longest, speed(all, began)))
}

/// A turn of bare quinn; MiB a second.
async fn ask(streams: &mut [RawStream], bytes: u64) -> anyhow::Result<f64> {
    let began = Instant::now();
    let asking = streams.iter_mut().map(async |stream| {
        for _ in 0..ANSWERS / UNDER_WAY {
            stream.ask(bytes).await?;
        }
        anyhow::Ok(())
    });
    futures::future::try_join_all(asking).await?;
    Ok(speed((ANSWERS / UNDER_WAY * UNDER_WAY) as u64 * bytes, began))
}

#[expect(clippy::cast_precision_loss, reason = "amounts are far below 2^53")]
fn speed(bytes: u64, began: Instant) -> f64 {
    bytes as f64 / MIB / began.elapsed().as_secs_f64()
}
