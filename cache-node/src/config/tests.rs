//! What a person may write, and what they are told when it is wrong.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use kennel_fabric::FabricChoice;
use kennel_protocol::ids::NodeId;
use kennel_transport::quic::QuicSettings;

use super::*;

fn sources(assignments: &[String]) -> Sources<'_> {
    Sources { assignments, ..Sources::default() }
}

fn set(assignments: &[&str]) -> Result<Settings, ConfigError> {
    let assignments: Vec<String> = assignments.iter().map(|text| (*text).to_owned()).collect();
    Layers::read(sources(&assignments))?.settings()
}

fn refused(assignments: &[&str]) -> String {
    set(assignments).expect_err("a refusal").to_string()
}

fn user_file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("it can be written");
    file
}

#[test]
fn the_defaults_are_valid_and_say_what_they_seem_to() {
    let settings = set(&[]).expect("valid defaults");
    assert_eq!(settings.node.id, NodeId(1));
    assert_eq!(settings.listen.quic.to_string(), "127.0.0.1:7400");
    assert_eq!(settings.flush.interval, Duration::from_millis(400));
    assert_eq!(settings.journal.bytes, 1 << 30);
    assert_eq!(settings.journal.path, PathBuf::from("kennel-data/journal"));
    assert_eq!(settings.tls.ca, PathBuf::from("kennel-data/tls/ca.pem"));
    assert_eq!(settings.cluster.durability, Durability::Journal);
    assert!(settings.cluster.id.is_none() && settings.seeds.is_empty());
    assert_eq!(settings.local, None);
    assert_eq!(settings.fabric, None);
    let defaults = QuicSettings::default();
    let (idle_timeout, keep_alive_interval) = (Duration::from_secs(3), Duration::from_secs(1));
    let sockets = settings.quic.sockets;
    let expected = QuicSettings { sockets, idle_timeout, keep_alive_interval, ..defaults };
    assert_eq!(settings.quic, expected, "the file and the library agree on what was measured to be best");
}

#[test]
fn sockets_are_as_many_as_was_said_or_as_fit_the_machine() {
    assert_eq!(set(&["quic.sockets=3"]).expect("valid").quic.sockets, 3);
    assert_eq!([1, 2, 7, 8, 16, 1_000].map(parse::sockets_for), [1, 1, 1, 2, 4, 64]);
    let error = set(&["quic.sockets=65"]).expect_err("too many");
    assert!(error.to_string().contains("quic.sockets"), "{error}");
}

#[test]
fn threads_are_as_many_as_was_said_or_half_of_the_cores() {
    assert_eq!(set(&["node.threads=3"]).expect("valid").node.threads, 3);
    assert_eq!([0, 1, 2, 3, 4, 16, 5_000].map(parse::threads_for), [1, 1, 1, 2, 2, 8, 1024]);
}

#[test]
fn memory_is_shared_only_where_a_socket_is_named() {
    assert_eq!(set(&["local.bytes=4 MiB"]).expect("valid").local, None);
    let local = set(&["local.bytes=5000000 B", "listen.local=/run/kennel/local.sock"]).expect("valid").local;
    let expected = LocalSettings { socket: PathBuf::from("/run/kennel/local.sock"), bytes: 4_997_120 };
    assert_eq!(local, Some(expected), "whole pages");
}

#[test]
fn the_fabric_is_off_unless_it_is_asked_for() {
    assert_eq!(set(&["fabric.provider=efa"]).expect("valid").fabric, None);
    let fabric = set(&["fabric.mode=auto"]).expect("valid").fabric.expect("on");
    assert!(!fabric.required && fabric.choice == FabricChoice::default());
    assert_eq!((fabric.placed_bytes_min, fabric.placement_timeout), (16 << 10, Duration::from_secs(1)));
    let named = ["fabric.mode=require", "fabric.provider=verbs;ofi_rxm", "fabric.domain=mlx5_0"];
    let fabric = set(&named).expect("valid").fabric.expect("on");
    assert!(fabric.required);
    let FabricChoice { provider, domain, .. } = fabric.choice;
    assert_eq!((provider.as_deref(), domain.as_deref()), (Some("verbs;ofi_rxm"), Some("mlx5_0")));
    assert!(refused(&["fabric.mode=maybe"]).contains("fabric.mode"));
    assert!(refused(&["fabric.placed_bytes_min=1 KiB"]).contains("fabric.placed_bytes_min"));
    assert!(refused(&["fabric.placement_timeout=5s"]).contains("50ms to 4s"));
}

#[test]
fn every_default_has_a_comment() {
    let mut comment_before = false;
    for line in DEFAULTS.lines() {
        let key = line.split_once(" = ").map(|(key, _)| key);
        if let Some(key) = key.filter(|_| !line.starts_with('#')) {
            assert!(comment_before, "`{key}` has no comment above it");
        }
        // Keys that follow each other share the comment above the first.
        comment_before = !line.is_empty() && !line.starts_with('[') && (line.starts_with('#') || comment_before);
    }
}

#[test]
fn the_local_ring_is_valid() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/local"));
    let mut ports = Vec::new();
    for node in 1..=3 {
        let path = folder.join(format!("node-{node}.toml"));
        let layers = Layers::read(Sources { file: Some(&path), ..Sources::default() }).expect("known keys");
        let settings = layers.settings().expect("valid settings");
        assert_eq!(settings.node.id, NodeId(node));
        assert!(settings.seeds.contains(&settings.listen.gossip.to_string()), "each node is a seed of the others");
        ports
            .extend([settings.listen.quic, settings.listen.gossip, settings.listen.http].map(|address| address.port()));
    }
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 9, "nodes on one host share no port");
}

#[test]
fn layers_lie_over_each_other() {
    let file = user_file("[node]\nid = 2\nzone = 'file'\nweight = 50\n");
    let environment = [
        ("KENNEL_NODE__ZONE".to_owned(), "7".to_owned()),
        ("KENNEL_NODE__WEIGHT".to_owned(), "60".to_owned()),
        ("KENNEL_CLUSTER__SEEDS".to_owned(), "[\"a:1\", \"b:2\"]".to_owned()),
        ("KENNEL_SERVICE_HOST".to_owned(), "10.0.0.1".to_owned()),
    ];
    let assignments = ["node.weight=70".to_owned(), "cache.disk=0".to_owned()];
    let sources = Sources { file: Some(file.path()), environment: &environment, assignments: &assignments };
    let settings = Layers::read(sources).and_then(|layers| layers.settings()).expect("valid settings");
    assert_eq!(settings.node.id, NodeId(2));
    assert_eq!(settings.node.zone, "7", "text stays text where the default is text");
    assert_eq!(settings.node.weight, 70);
    assert_eq!(settings.seeds, ["a:1", "b:2"]);
    assert_eq!(settings.cache.disk_bytes, 0);
}

#[test]
fn unknown_keys_are_refused_with_their_source_and_neighbours() {
    let file = user_file("[flush]\nintervall = '300ms'\n");
    let refused = Layers::read(Sources { file: Some(file.path()), ..Sources::default() }).expect_err("a refusal");
    let text = refused.to_string();
    assert!(text.contains("unknown key `flush.intervall`"), "{text}");
    assert!(text.contains(&file.path().display().to_string()), "{text}");
    assert!(text.contains("did you mean `flush.interval`"), "{text}");

    let environment = [("KENNEL_CLUSTER__ID__X".to_owned(), "1".to_owned())];
    let refused = Layers::read(Sources { environment: &environment, ..Sources::default() }).expect_err("a refusal");
    assert!(refused.to_string().contains("environment variable KENNEL_CLUSTER__ID__X"), "{refused}");

    assert!(self::refused(&["node.shard_count=4"]).contains("did you mean `cluster.shard_count`"));
    assert!(self::refused(&["qqqqqqqqqqqqq=1"]).contains("check-config"));
    assert!(self::refused(&["extra={}"]).contains("unknown key `extra`"));
}

/// A path that Linux has no room for.
const LONG_SOCKET: &str = concat!(
    "listen.local=/run/a-directory-with-a-name-that-somebody-thought-was-a-good-idea-at-the-time",
    "/and-another-one-in-it-to-be-sure/local.sock"
);

#[test]
fn bad_values_name_key_source_and_allowed_form() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["flush.interval=soon"], &["`flush.interval`", "flag --set flush.interval", "a duration such as \"400ms\""]),
        (&["flush.interval=100ms"], &["`flush.interval`", "100ms is outside 200ms to 800ms"]),
        (&["flush.interval=700ms", "flush.interval_idle=600ms"], &["flush.interval_idle", "outside 700ms to 800ms"]),
        (&["journal.size=lots"], &["`journal.size`", "a size such as \"64 MiB\""]),
        (&["journal.size=63 MiB"], &["`journal.size`", "63.0 MiB is outside 64.0 MiB"]),
        (&["timing.owner_timeout=300ms"], &["`timing.owner_timeout`", "3 times `timing.heartbeat` (100ms)"]),
        (&["cluster.copies=2", "cluster.min_copies=3"], &["`cluster.min_copies`", "3 is outside 1 to 2"]),
        (&["cluster.shard_count=70000"], &["`cluster.shard_count`", "70000"]),
        (&["cluster.durability=maybe"], &["`cluster.durability`", "`journal` or `memory`"]),
        (&["cluster.id=abc"], &["`cluster.id`", "32 hex digits"]),
        (&["cluster.seeds=[\"nowhere\"]"], &["`cluster.seeds`", "`nowhere` is not host:port"]),
        (&["listen.quic=localhost:7400"], &["`listen.quic`", "ip:port"]),
        (&["listen.quic=0.0.0.0:7400"], &["`listen.quic`", "listen.advertise"]),
        (&["listen.gossip=127.0.0.1:7400"], &["`listen.gossip`", "same as `listen.quic`"]),
        (&["bucket.url=ftp://x"], &["`bucket.url`", "s3://"]),
        (&["bucket.access_key_id=me"], &["`bucket.access_key_id`", "both or neither"]),
        (&["bucket.attempt_timeout=1s"], &["`bucket.attempt_timeout`", "shorter than"]),
        (&["local.bytes=1 KiB"], &["`local.bytes`", "outside 1.0 MiB to 64.0 GiB"]),
        (&["quic.packet_bytes_max=9000"], &["`quic.packet_bytes_max`", "9000 is outside 1200 to 6500"]),
        (
            &["quic.packet_bytes_max=1452", "quic.packet_bytes_initial=1500"],
            &["quic.packet_bytes_initial", "1200 to 1452"],
        ),
        (&["quic.send_window=8 MiB"], &["`quic.send_window`", "8.0 MiB is outside 64.0 KiB to 4.0 MiB"]),
        (&[LONG_SOCKET], &["`listen.local`", "107 bytes"]),
        (&["node.weight=0"], &["`node.weight`", "0 is outside 1 to 1000"]),
        (&["node.threads=1025"], &["`node.threads`", "1025 is outside 0 to 1024"]),
        (&["node.weight"], &["--set section.key=value"]),
        (&["node.directory="], &["`node.directory`", "is empty"]),
    ];
    for (assignments, parts) in cases {
        let text = refused(assignments);
        for part in *parts {
            assert!(text.contains(part), "{assignments:?}: `{part}` is not in `{text}`");
        }
    }
}

#[test]
fn a_file_that_is_missing_or_not_toml_is_refused() {
    let missing = Layers::read(Sources { file: Some("/nowhere/kennel.toml".as_ref()), ..Sources::default() });
    assert!(missing.expect_err("a refusal").to_string().contains("/nowhere/kennel.toml"));
    let file = user_file("[node\nid = 2\n");
    let broken = Layers::read(Sources { file: Some(file.path()), ..Sources::default() });
    assert!(matches!(broken, Err(ConfigError::Syntax { .. })), "{broken:?}");
}

#[test]
fn the_effective_text_reads_back_and_hides_secrets() {
    let assignments = ["bucket.secret_access_key=hunter2".to_owned(), "bucket.access_key_id=me".to_owned()];
    let layers = Layers::read(sources(&assignments)).expect("known keys");
    let settings = layers.settings().expect("valid settings");
    assert!(!format!("{settings:?}").contains("hunter2"));
    assert!(!layers.effective().contains("hunter2"), "{}", layers.effective());
    let file = user_file(&layers.effective());
    let again = Layers::read(Sources { file: Some(file.path()), ..Sources::default() }).expect("it reads back");
    assert_eq!(again.effective(), layers.effective());
}

#[test]
fn a_secret_may_lie_in_a_file() {
    let file = user_file("hunter2\n");
    let assignment = format!("bucket.secret_access_key_file={}", file.path().display());
    let settings = set(&["bucket.access_key_id=me", &assignment]).expect("valid settings");
    assert!(settings.bucket.secret_access_key.is_some());
    assert!(refused(&["bucket.access_key_id=me", &assignment, "bucket.secret_access_key=x"]).contains("keep one"));
}

#[test]
fn others_reach_a_node_under_what_it_advertises() {
    let bound = "10.0.0.7:7400".parse().expect("an address");
    let mut listen = set(&[]).expect("valid defaults").listen;
    assert_eq!(listen.advertised(bound), "10.0.0.7:7400");
    listen.advertise = Some("cache-2.example".to_owned());
    assert_eq!(listen.advertised(bound), "cache-2.example:7400");
    listen.advertise = Some("fd00::7".to_owned());
    assert_eq!(listen.advertised(bound), "[fd00::7]:7400");
}
