//! A short run of `bench chaos`, so that it cannot rot: real processes, a fixed seed, whatever the machine permits.

use std::process::Command;
use std::time::{Duration, Instant};

/// A run of twelve seconds of load, with its ring, its oracle and a restart, on a machine that is busy.
const PATIENCE: Duration = Duration::from_mins(4);

/// What its seed draws is in the report; that every kind of fault works is tested where it is made.
#[test]
fn a_short_run_shows_no_violation() {
    let run = short_run("4", "quic");
    assert_eq!(run["answers_past_quic"], 0, "{run}");
}

/// Readers that read out of the memory of nodes, while those are killed and paused.
#[test]
fn a_short_run_with_shared_memory_shows_no_violation() {
    let run = short_run("5", "shared-memory");
    assert!(run["answers_past_quic"].as_u64().is_some_and(|answers| answers > 0), "{run}");
}

/// The report of a run that must end well.
fn short_run(seed: &str, reads: &str) -> serde_json::Value {
    let directory = tempfile::tempdir().expect("a directory");
    let json = directory.path().join("chaos.json");
    let programs = std::path::Path::new(env!("CARGO_BIN_EXE_bench")).parent().expect("programs are in a directory");
    let started = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["chaos", "--runs", "1", "--seconds", "12", "--seed", seed, "--nodes", "3", "--reads", reads])
        .args(["--partitions", "16", "--rate", "500kB"])
        .arg("--programs")
        .arg(programs)
        .arg("--directory")
        .arg(directory.path())
        .arg("--json")
        .arg(&json)
        .output()
        .expect("bench starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let timeline = std::fs::read_to_string(json.with_extension("txt")).unwrap_or_default();
    assert_eq!(text.lines().last(), Some("1 runs, 0 violations"), "{text}\n{timeline}");
    assert!(output.status.success());
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&json).expect("a report")).expect("the report is JSON");
    let run = &report["runs"][0];
    let count = |key: &str| run[key].as_u64().unwrap_or_default();
    assert!(count("messages_acknowledged") > 0, "{run}");
    assert_eq!(count("messages_stored"), count("messages_written"), "{run}");
    assert!(run["schedule"]["events"].as_array().is_some_and(|events| !events.is_empty()), "{run}");
    assert!(started.elapsed() < PATIENCE);
    run.clone()
}
