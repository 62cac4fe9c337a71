//! The measuring commands, in their shortest form: that they run to their end and compare everything, not that a test
//! machine meets the bars.

use std::path::{Path, PathBuf};

use kennel_bench::measure::{FailoverArgs, Kind, OutageArgs, ShipCostArgs, failover, outage, ship_cost};
use tempfile::TempDir;

/// Quicker than the defaults, so that a test waits less.
const ASSIGNMENTS: [&str; 4] =
    ["timing.heartbeat=100ms", "timing.owner_timeout=600ms", "timing.settle=500ms", "cluster.shard_count=4"];

/// Cargo puts programs into the directory above that of the tests.
fn programs() -> PathBuf {
    let test = std::env::current_exe().expect("this test has a path");
    let directory = test.ancestors().nth(2).expect("tests lie two directories deep").to_owned();
    assert!(directory.join("cache-node").exists(), "build it with `cargo build --workspace --bins`");
    directory
}

fn place() -> (TempDir, PathBuf, Vec<String>) {
    let directory = tempfile::tempdir().expect("a directory");
    let within = directory.path().join("ring");
    (directory, within, ASSIGNMENTS.map(str::to_owned).into())
}

fn report(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).expect("a report")).expect("JSON")
}

async fn fails_over(kind: Kind) {
    let (stage, directory, assignments) = place();
    let json = stage.path().join("report.json");
    let (programs, rounds) = (Some(programs()), 2);
    let args =
        FailoverArgs { kind, rounds, pause_seconds: 2, programs, directory, assignments, json: Some(json.clone()) };
    failover(args).await.expect("it runs to its end");
    let report = report(&json);
    assert!(report["first_ack"]["count"].as_u64().is_some_and(|shards| shards >= 2), "{report:#}");
    assert!(report["verified_messages"].as_u64().is_some_and(|messages| messages > 0), "{report:#}");
    assert_eq!(report["late_acknowledgements"], serde_json::json!([]), "{report:#}");
    assert_eq!(report["problems"], 0, "{report:#}");
}

/// F19: what was acknowledged before and after a SIGKILL is all there.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_is_killed_and_its_shards_go_on() {
    fails_over(Kind::Kill).await;
}

/// F3: a woken owner acknowledges nothing, and nothing of it is read.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_is_paused_and_its_shards_go_on() {
    fails_over(Kind::Stop).await;
}

/// F16: nobody is refused while the journals have room, and everything drains.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_goes_away_and_nobody_is_refused() {
    let (stage, directory, assignments) = place();
    let json = stage.path().join("report.json");
    let (programs, seconds) = (Some(programs()), 3);
    let args = OutageArgs { seconds, rate: 1.0, programs, directory, assignments, json: Some(json.clone()) };
    outage(args).await.expect("it runs to its end");
    let report = report(&json);
    assert_eq!(report["refused_ships"], 0, "{report:#}");
    assert!(report["hot_during"]["count"].as_u64().is_some_and(|reads| reads > 0), "{report:#}");
    assert!(report["rate_megabytes"].as_f64().is_some_and(|rate| rate > 0.1), "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ships_are_timed_beside_syncs_and_round_trips() {
    let (stage, directory, assignments) = place();
    let json = stage.path().join("report.json");
    let programs = Some(programs());
    let args = ShipCostArgs { rounds: 20, programs, directory, assignments, json: Some(json.clone()) };
    ship_cost(args).await.expect("it runs to its end");
    let report = report(&json);
    for what in ["ship", "sync", "round_trip"] {
        assert_eq!(report[what]["count"], 20, "{report:#}");
    }
}
