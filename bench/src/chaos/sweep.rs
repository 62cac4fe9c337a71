//! Takes a run's objects out of a server that several runs share: one that keeps them in memory is full after a dozen.

use std::net::SocketAddr;

use anyhow::Context;
use cache_node::bucket::{Bucket, BucketSettings, Secret};

use super::node::{ACCESS_KEY_ID, SECRET_ACCESS_KEY};

/// Objects of one listing.
const PAGE: usize = 1_000;

/// Deletes everything under `url`. Best effort: a server that lets go of nothing is full sooner, and the runs say so.
pub(super) async fn sweep(url: &str, server: SocketAddr) -> anyhow::Result<()> {
    let settings = BucketSettings {
        endpoint: Some(format!("http://{server}")),
        region: Some("us-east-1".to_owned()),
        access_key_id: Some(ACCESS_KEY_ID.to_owned()),
        secret_access_key: Some(Secret::new(SECRET_ACCESS_KEY)),
        allow_http: true,
        ..BucketSettings::at(url)
    };
    let bucket = Bucket::connect(&settings).await.context("reach the bucket")?;
    loop {
        let page = bucket.list("", PAGE).await.context("list what a run left")?;
        let keys: Vec<String> = page.entries.into_iter().map(|entry| entry.key).collect();
        let deleted = bucket.delete_many(&keys).await;
        if let Some(error) = deleted.first_error {
            return Err(error).context("delete what a run left");
        }
        if page.complete {
            return Ok(());
        }
    }
}
