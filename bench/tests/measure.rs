//! The measuring commands, in their shortest form: that they run to their end and compare everything, not that a test
//! machine meets the bars.

use std::path::{Path, PathBuf};

use kennel_bench::measure::{
    FabricArgs, FailoverArgs, Kind, OutageArgs, PlaceArgs, ShipCostArgs, fabric, failover, outage, ship_cost,
};
use kennel_bench::scenario::{CompareArgs, RunArgs, TargetArgs, compare, run};
use kennel_client::{Client, ClientSettings, ConnectError, FabricChoice, FabricSettings};
use kennel_transport::certs::{Overwrite, create_development_ca};
use kennel_transport::tls::TlsIdentity;
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

fn placed(directory: PathBuf, assignments: Vec<String>, json: &Path) -> PlaceArgs {
    PlaceArgs { programs: Some(programs()), directory, assignments, json: Some(json.to_owned()) }
}

fn report(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).expect("a report")).expect("JSON")
}

async fn fails_over(kind: Kind) {
    let (stage, directory, assignments) = place();
    let json = stage.path().join("report.json");
    let args = FailoverArgs { kind, rounds: 2, pause_seconds: 2, place: placed(directory, assignments, &json) };
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
    let args = OutageArgs { seconds: 3, rate: 1.0, place: placed(directory, assignments, &json) };
    outage(args).await.expect("it runs to its end");
    let report = report(&json);
    assert_eq!(report["refused_ships"], 0, "{report:#}");
    assert!(report["hot_during"]["count"].as_u64().is_some_and(|reads| reads > 0), "{report:#}");
    assert!(report["rate_megabytes"].as_f64().is_some_and(|rate| rate > 0.1), "{report:#}");
}

/// As a program: the bare side starts this program again, which a test is not.
#[tokio::test(flavor = "multi_thread")]
async fn chunks_go_as_fast_as_they_are_acknowledged() {
    let (stage, directory, _) = place();
    let json = stage.path().join("report.json");
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(["ship-bulk", "--turns", "1", "--chunks", "16", "--copies", "1"]).arg("--programs").arg(programs());
    command.arg("--directory").arg(directory).arg("--json").arg(&json).kill_on_drop(true);
    command.args(ASSIGNMENTS.iter().map(|assignment| format!("--set={assignment}")));
    let output = command.output().await.expect("it runs to its end");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(json.exists(), "no report: {said}");
    let report = report(&json);
    for what in ["ship", "bare_quinn", "disk", "share"] {
        assert!(report[what].as_f64().is_some_and(|figure| figure > 0.0), "{report:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ships_are_timed_beside_syncs_and_round_trips() {
    let (stage, directory, assignments) = place();
    let json = stage.path().join("report.json");
    let args = ShipCostArgs { rounds: 20, every: 4, place: placed(directory, assignments, &json) };
    ship_cost(args).await.expect("it runs to its end");
    let report = report(&json);
    for what in ["ship", "sync", "round_trip"] {
        // Where the machine's host withholds processors some are left out.
        assert!(report[what]["count"].as_u64().is_some_and(|count| count <= 20), "{report:#}");
        assert!(report["left_out"].as_f64().is_some_and(|share| (0.0..=1.0).contains(&share)), "{report:#}");
    }
}

/// All kinds of readers over a small load.
const SCENARIO: &str = r#"
name = "own"
about = "For a test."
ring = { nodes = 1, set = ["cluster.copies=1", "cluster.min_copies=1", "cluster.shard_count=2", "tail.bytes_max=1 MiB"] }
time = { warm_up = "300ms", round = "1s", rounds = 2 }
before = { bytes = "4 MB" }
ship = { partitions = 4, message_bytes = 100, messages_per_batch = 10, rate = "100 KB" }
read = [
    { kind = "hot", readers = 2, rate = 50, bytes = "4 KiB" },
    { kind = "follow", readers = 8 },
    { kind = "cold", rate = 20 },
    { kind = "scan", bytes = "64 KiB" },
    { kind = "follow", readers = 4, shared_memory = true },
]
"#;

async fn runs_a_scenario(one_process: bool) {
    let (stage, directory, assignments) = place();
    let at = |name: &str| stage.path().join(name);
    std::fs::write(at("own.toml"), SCENARIO).expect("a scenario");
    let programs = (!one_process).then(programs);
    let target = TargetArgs { ring: Vec::new(), tls_dir: None, one_process, programs, directory, assignments };
    let scenario = Some(at("own.toml").display().to_string());
    let (rounds, round, list) = (None, None, false);
    let (json, html) = (Some(at("own.json")), Some(at("own.html")));
    let whole = run(RunArgs { scenario, list, target, rounds, round, json, html }).await.expect("it runs to its end");
    let report = report(&at("own.json"));
    assert!(whole, "{report:#}");
    let groups = report["groups"].as_array().expect("groups");
    assert_eq!(groups.len(), 6, "{report:#}");
    for group in groups {
        let operations = |round: usize| group["rounds"][round]["operations"].as_u64().unwrap_or_default();
        assert!(operations(0) > 0 && operations(1) > 0, "{group:#}");
    }
    let proof = &report["proof"];
    assert!(
        proof["messages_after"].as_u64() > Some(40_000) && proof["messages_during"].as_u64() > Some(1_000),
        "{proof:#}"
    );
    let page = std::fs::read_to_string(at("own.html")).expect("a page");
    assert!(page.matches("<svg").count() == 3 && page.contains("read cold"), "three charts");
    let same = compare(&CompareArgs { before: at("own.json"), after: at("own.json") });
    assert!(same.expect("they can be compared"), "nothing is worse than itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scenario_is_measured_and_everything_compared() {
    runs_a_scenario(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scenario_runs_inside_one_process() {
    runs_a_scenario(true).await;
}

/// Whether this machine has a libfabric with the provider that is named.
async fn has_fabric(provider: &str, source: &str) -> bool {
    let directory = tempfile::tempdir().expect("a directory");
    let made = create_development_ca(directory.path(), &[], Overwrite::Refuse).expect("certificates");
    let identity = TlsIdentity::load(&made.ca, &made.client.certificate, &made.client.key).expect("just made");
    let (provider, source) = (Some(provider.to_owned()), Some(source.to_owned()));
    let choice = FabricChoice { provider, source, ..FabricChoice::default() };
    let settings = FabricSettings { required: true, choice, ..FabricSettings::default() };
    let settings = ClientSettings { fabric: Some(settings), ..ClientSettings::new(Vec::new()) };
    let error = Client::connect(settings, &identity).await.expect_err("there is no address");
    let is_here = matches!(error, ConnectError::NoAddress);
    assert!(is_here || std::env::var_os("KENNEL_REQUIRE_FABRIC").is_none(), "{error:?}");
    is_here
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_placed_and_the_same_as_over_quic() {
    let (provider, source) = ("tcp;ofi_rxm".to_owned(), "127.0.0.1".to_owned());
    if !has_fabric(&provider, &source).await {
        println!("SKIPPED: no libfabric");
        return;
    }
    let (stage, directory, _) = place();
    let json = stage.path().join("report.json");
    let (domain, rounds, fetches, readers) = (String::new(), 2, 20, 2);
    let place = placed(directory, Vec::new(), &json);
    let args = FabricArgs { rounds, fetches, readers, provider, domain, source, place };
    fabric(args).await.expect("it runs to its end, and everything came its own way");
    let report = report(&json);
    for way in ["quic", "fabric"] {
        assert_eq!(report[way]["fetch"]["count"], 40, "{report:#}");
    }
}
