//! `kennel-s3-server`: prints its endpoint on one line, then serves until it is interrupted.

use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::Context as _;
use clap::Parser;
use kennel_s3_server::{Always, Fault, FaultRule, LatencyModel, RequestRates, Server, ServerSettings};

/// A small S3 server in memory, with faults and a latency model, for tests and benches.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Where to listen; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// A bucket that exists from the start; may be given several times.
    #[arg(long = "bucket", default_value = "kennel")]
    buckets: Vec<String>,
    /// The access key id that is accepted.
    #[arg(long, default_value = "kennel")]
    access_key_id: String,
    /// Its secret.
    #[arg(long, default_value = "kennel-secret")]
    secret_access_key: String,
    /// Most bytes of all objects together.
    #[arg(long, default_value_t = 4 << 30)]
    bytes_max: u64,
    /// Add the latency, bandwidth and request ceilings of S3 Standard.
    #[arg(long)]
    s3_latency: bool,
    /// Seed of latency and chance.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A fault for a share of all PUTs, as `FAULT@SHARE`: reset, lost-answer, late-effect:MS, refuse:STATUS,
    /// refuse-after:STATUS or stall:MS, at 0 to 1; may be given several times.
    #[arg(long = "put-fault", value_parser = parse_share)]
    put_faults: Vec<(Fault, f64)>,
    /// Ignore If-None-Match and If-Match, as a store does that does not know them.
    #[arg(long)]
    ignore_conditions: bool,
    /// Answer 403 for absent keys, as to an identity that may not list.
    #[arg(long)]
    forbid_absent: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let server = Server::start(ServerSettings {
        listen: options.listen,
        buckets: options.buckets,
        access_key_id: options.access_key_id,
        secret_access_key: options.secret_access_key,
        bytes_max: options.bytes_max,
        latency: options.s3_latency.then(LatencyModel::s3_standard),
        rates: options.s3_latency.then(RequestRates::s3_prefix),
        seed: options.seed,
    })
    .await
    .context("start server")?;
    server.faults.set_always(Always {
        conditions_are_ignored: options.ignore_conditions,
        absent_is_forbidden: options.forbid_absent,
    });
    for (fault, share) in options.put_faults {
        server.faults.add(FaultRule { times: None, share, ..FaultRule::next_put("", fault) });
    }
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", server.endpoint()).and_then(|()| stdout.flush()).context("print endpoint")?;
    tokio::signal::ctrl_c().await.context("wait for interrupt")?;
    server.stop().await;
    Ok(())
}

fn parse_share(text: &str) -> Result<(Fault, f64), String> {
    let (fault, share) = text.rsplit_once('@').ok_or_else(|| format!("`{text}` has no `@SHARE`"))?;
    let share: f64 = share.parse().map_err(|_| format!("`{share}` is not a number"))?;
    if !(0.0..=1.0).contains(&share) {
        return Err(format!("{share} is not between 0 and 1"));
    }
    Ok((fault.parse()?, share))
}
