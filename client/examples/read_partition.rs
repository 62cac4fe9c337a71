//! Prints a partition: one line per message, then where it ends.
//!
//! `cargo run -p kennel-client --example read_partition -- --node 127.0.0.1:7400 --certs DIR orders/events/0`

use std::io::{Write, stdout};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use kennel_client::{Client, ClientSettings, FetchFrom, FetchRequest, Fetched, Offset, PartitionKey, PartitionName};
use kennel_transport::tls::TlsIdentity;

/// Reads one partition through the ring.
#[derive(Debug, Parser)]
struct Arguments {
    /// A node's address; may be given several times.
    #[arg(long = "node", required = true)]
    nodes: Vec<SocketAddr>,
    /// The folder with `ca.pem`, `client.pem` and `client.key`.
    #[arg(long)]
    certs: PathBuf,
    /// The first offset; the oldest message where it is not given.
    #[arg(long)]
    from: Option<Offset>,
    /// Go on when the end is reached, as messages commit.
    #[arg(long)]
    follow: bool,
    /// The partition: stream/topic/partition, by names or ids; an id with @incarnation is another life of it.
    partition: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let certs = &arguments.certs;
    let identity = TlsIdentity::load(&certs.join("ca.pem"), &certs.join("client.pem"), &certs.join("client.key"))
        .context("load the certificates")?;
    let client = Client::connect(ClientSettings::new(arguments.nodes.clone()), &identity)
        .await
        .context("connect to the ring")?;
    let partition = find(&client, &arguments.partition).await?;
    let from = arguments.from.map_or(FetchFrom::First, FetchFrom::Offset);
    if arguments.follow {
        let mut follower = client.follow(partition, from);
        loop {
            print(&follower.next().await.context("follow the partition")?)?;
        }
    }
    let mut request = FetchRequest::new(partition, from);
    loop {
        let fetched = client.fetch(request).await.context("read the partition")?;
        print(&fetched)?;
        if fetched.next >= fetched.committed {
            return writeln!(stdout(), "ends at {}", fetched.committed).context("print");
        }
        request.from = FetchFrom::Offset(fetched.next);
        (request.epoch, request.last) = (fetched.epoch, fetched.last.or(request.last));
    }
}

/// By name; what the catalogue does not list can be read by its full key.
async fn find(client: &Client, text: &str) -> anyhow::Result<PartitionKey> {
    if !text.contains('@') {
        let name: PartitionName = text.parse().context("read the arguments")?;
        if let Some(partition) = client.locate_name(&name).await.context("look the name up")? {
            return Ok(partition);
        }
    }
    text.parse().with_context(|| format!("the ring knows nothing called `{text}`"))
}

fn print(fetched: &Fetched) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    for hole in &fetched.holes {
        writeln!(out, "{}..{} no messages: {:?}", hole.from, hole.to, hole.reason).context("print")?;
    }
    for message in fetched.messages() {
        let payload = String::from_utf8_lossy(&message.payload);
        writeln!(out, "{} {} {payload}", message.offset, message.timestamp).context("print")?;
    }
    Ok(())
}
