//! `bench live`, in its shortest form, where there is a real Iggy server (`IGGY_SERVER_BIN`): that it runs to its end and
//! compares everything, not that a test machine meets the bars. Elsewhere these tests say that they looked at nothing.

use std::path::PathBuf;

use kennel_bench::live::{LiveArgs, Scenario, live};
use kennel_bench::measure::PlaceArgs;
use serde_json::Value;

/// Runs a scenario; its report.
async fn run(scenario: Scenario, count: Option<u64>, partitions: Option<u32>, seconds: Option<u64>) -> Option<Value> {
    let Some(server) = std::env::var_os("IGGY_SERVER_BIN") else {
        eprintln!("SKIPPED: no IGGY_SERVER_BIN, so nothing was measured");
        return None;
    };
    let test = std::env::current_exe().expect("this test has a path");
    // Cargo puts programs into the directory above that of the tests.
    let programs = test.ancestors().nth(2).expect("tests lie two directories deep").to_owned();
    let directory = tempfile::tempdir().expect("a directory");
    let json = directory.path().join("report.json");
    let args = LiveArgs {
        scenario,
        server: server.into(),
        server_config: std::env::var_os("IGGY_SERVER_CONFIG").map(PathBuf::from),
        count,
        partitions,
        seconds,
        python: std::env::var_os("KENNEL_IGGY_PYTHON").map(PathBuf::from),
        place: PlaceArgs {
            programs: Some(programs),
            directory: directory.path().join("live"),
            assignments: vec!["cluster.shard_count=4".to_owned()],
            json: Some(json.clone()),
        },
    };
    live(args).await.expect("it runs to its end");
    Some(serde_json::from_slice(&std::fs::read(&json).expect("a report")).expect("JSON"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_is_seen_on_both_sides() {
    let Some(report) = run(Scenario::Visible, Some(20), None, None).await else { return };
    assert_eq!((&report["direct"]["count"], &report["ring"]["count"]), (&20.into(), &20.into()), "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_of_both_sides_are_timed() {
    let Some(report) = run(Scenario::Polls, Some(50), None, None).await else { return };
    assert_eq!(report["gateway"]["count"], 150, "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_shipper_takes_is_measured() {
    let Some(report) = run(Scenario::Cost, None, Some(100), Some(2)).await else { return };
    assert!(report["shipper"].as_f64().is_some_and(|share| share > 0.0), "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reader_reads_the_same_whatever_was_killed() {
    let Some(report) = run(Scenario::Proof, Some(100_000), Some(20), None).await else { return };
    assert!(report["bars_met"] == true && report["messages"].as_u64() >= Some(100_000), "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soak_leaves_nothing_behind() {
    let Some(report) = run(Scenario::Soak, None, Some(100), Some(31)).await else { return };
    assert_eq!(report["partitions_behind"], 0, "{report:#}");
}
