//! Polls a partition with Iggy's own SDK, once at the server and once through the ring.
//!
//! `cargo run -p kennel-client --features iggy --example through_iggy -- --origin iggy://user:secret@127.0.0.1:8090
//! --node 127.0.0.1:7400 --certs DIR STREAM TOPIC`

use std::io::{Write, stdout};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use iggy::prelude::TcpClient;
use iggy_common::{Client as IggyApi, Consumer, Identifier, PollingStrategy};
use kennel_client::iggy::{CacheSettings, CacheTransport, RingReader};
use kennel_client::{Client, ClientSettings};
use kennel_transport::tls::TlsIdentity;

/// Reads one partition with Iggy's SDK, directly and through the ring.
#[derive(Debug, Parser)]
struct Arguments {
    /// The Iggy server, as a connection string.
    #[arg(long)]
    origin: String,
    /// A node's address; may be given several times.
    #[arg(long = "node", required = true)]
    nodes: Vec<SocketAddr>,
    /// The folder with `ca.pem`, `client.pem` and `client.key`.
    #[arg(long)]
    certs: PathBuf,
    /// The stream, by name.
    stream: String,
    /// The topic, by name.
    topic: String,
    /// The partition.
    #[arg(default_value_t = 0)]
    partition: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let certs = &arguments.certs;
    let identity = TlsIdentity::load(&certs.join("ca.pem"), &certs.join("client.pem"), &certs.join("client.key"))
        .context("load the certificates")?;
    let ring = Client::connect(ClientSettings::new(arguments.nodes.clone()), &identity)
        .await
        .context("connect to the ring")?;

    let direct = TcpClient::from_connection_string(&arguments.origin).context("read the connection string")?;
    let inner = TcpClient::from_connection_string(&arguments.origin).context("read the connection string")?;
    let cached = CacheTransport::new(inner, Arc::new(RingReader::new(ring)), CacheSettings::default());

    writeln!(stdout(), "at the server: {} messages", count(&direct, &arguments).await?)?;
    writeln!(stdout(), "through the ring: {} messages", count(&cached, &arguments).await?)?;
    writeln!(stdout(), "{:?}", cached.counts())?;
    Ok(())
}

/// What an application does with the SDK: it does not know which of the two it has.
async fn count<C: IggyApi>(client: &C, arguments: &Arguments) -> anyhow::Result<u64> {
    client.connect().await.context("connect to the server")?;
    let (stream, topic) = (Identifier::named(&arguments.stream)?, Identifier::named(&arguments.topic)?);
    let consumer = Consumer::new(Identifier::named("through_iggy")?);
    let (mut next, mut messages) = (0, 0);
    loop {
        let (partition, strategy) = (Some(arguments.partition), PollingStrategy::offset(next));
        let polled = client.poll_messages(&stream, &topic, partition, &consumer, &strategy, 1000, false);
        let polled = polled.await.context("poll")?;
        let Some(last) = polled.messages.last() else { return Ok(messages) };
        next = last.header.offset + 1;
        messages += u64::from(polled.count);
    }
}
