//! A range of an object over S3's protocol, from the S3 server of the tests in this process: what a reader pays who reads
//! the bucket itself. A store in a cloud adds its own tens of milliseconds to that.

use anyhow::{Context, bail, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use cache_node::bucket::{Bucket, BucketSettings, CreateOutcome, Secret};
use kennel_s3_server::{RunningServer, Server, ServerSettings};

use super::contenders::{Contender, Presence};
use super::floor::{BYTES, PLACES};

const NAME: &str = "S3 `GET`, a server in this process";
const KEY: &str = "object";

struct Object {
    bucket: Bucket,
    _server: RunningServer,
}

/// A server with one object.
pub(super) async fn get() -> anyhow::Result<Presence> {
    let server = Server::start(ServerSettings::default()).await?;
    let account = ServerSettings::default();
    let settings = BucketSettings {
        endpoint: Some(server.endpoint()),
        access_key_id: Some(account.access_key_id),
        secret_access_key: Some(Secret::new(account.secret_access_key)),
        allow_http: true,
        ..BucketSettings::at("s3://kennel/versus")
    };
    let bucket = Bucket::connect(&settings).await?;
    let body = Bytes::from(vec![7; usize::try_from(BYTES * PLACES)?]);
    match bucket.create(KEY, vec![body]).await {
        CreateOutcome::Done => Ok(Presence::Here(Box::new(Object { bucket, _server: server }))),
        other => bail!("the object could not be written: {other:?}"),
    }
}

#[async_trait]
impl Contender for Object {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn ask(&mut self, question: u64) -> anyhow::Result<()> {
        let at = question * 37 % PLACES * BYTES;
        let body = self.bucket.get_range(KEY, at..at + BYTES).await?.context("the object is there")?;
        ensure!(body.len() as u64 == BYTES, "{} bytes came", body.len());
        Ok(())
    }

    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        Ok(Vec::new())
    }
}
