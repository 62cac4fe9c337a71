//! The import wall: who may know whom, and what the pure crates never see.

use std::collections::BTreeMap;

use crate::repository::{code, none, root, rust};

/// Package folders, and the folders of ours that each may depend on.
const WALL: [(&str, &[&str]); 13] = [
    ("protocol", &[]),
    ("core", &["protocol"]),
    ("transport", &["protocol"]),
    ("slab", &["protocol"]),
    ("fabric", &[]),
    ("sim", &["protocol", "core"]),
    ("gateway", &["protocol"]),
    ("cache-node", &["protocol", "core", "transport", "gateway", "slab", "fabric"]),
    ("wal-shipper", &["protocol", "core", "transport", "client"]),
    ("client", &["protocol", "core", "transport", "gateway", "slab", "fabric"]),
    ("bench", &["protocol", "core", "transport", "gateway", "cache-node", "wal-shipper", "client", "s3-server"]),
    ("s3-server", &[]),
    ("tidy", &[]),
];

/// What tests may use beside: the suite of the bucket and the whole path run against a real S3 server.
const WALL_IN_TESTS: [(&str, &[&str]); 3] = [
    ("cache-node", &["s3-server", "client", "wal-shipper"]),
    ("wal-shipper", &["cache-node", "client"]),
    ("client", &["cache-node", "wal-shipper", "client"]),
];

/// All that the pure crates may depend on, others than ours.
const PURE: [(&str, &[&str]); 2] = [
    ("protocol", &["bytes", "rkyv", "thiserror", "twox-hash"]),
    ("core", &["bytes", "consistent_hash", "rand_core", "rand_pcg", "thiserror"]),
];

/// What the sources of the pure crates never mention.
const IMPURE: [&str; 21] = [
    "tokio::",
    "async fn",
    "async move",
    "quinn::",
    "object_store::",
    "foyer::",
    "iggy::",
    "std::fs",
    "std::net",
    "std::io",
    "std::thread",
    "std::env",
    "std::process",
    "Instant::now",
    "SystemTime",
    "HashMap",
    "HashSet",
    "getrandom",
    "thread_rng",
    "OsRng",
    "RandomState",
];

fn manifest(folder: &str) -> toml::Table {
    let text = std::fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("every member has a manifest");
    text.parse().expect("cargo has read it before")
}

fn dependencies(folder: &str, section: &str) -> Vec<String> {
    let manifest = manifest(folder);
    let table = manifest.get(section).and_then(toml::Value::as_table);
    table.map(|table| table.keys().cloned().collect()).unwrap_or_default()
}

/// Our packages, and the folders that they lie in.
fn packages() -> BTreeMap<String, &'static str> {
    let name = |folder: &str| manifest(folder)["package"]["name"].as_str().expect("a name").to_owned();
    WALL.iter().map(|(folder, _)| (name(folder), *folder)).collect()
}

#[test]
fn every_member_is_named_in_the_wall() {
    let workspace: toml::Table =
        std::fs::read_to_string(root().join("Cargo.toml")).expect("a workspace").parse().expect("TOML");
    let members = workspace["workspace"]["members"].as_array().expect("members");
    let missing: Vec<String> = members
        .iter()
        .filter_map(toml::Value::as_str)
        .filter(|member| WALL.iter().all(|(folder, _)| folder != member))
        .map(str::to_owned)
        .collect();
    none("a new member says here whom it may import", &missing);
}

#[test]
fn packages_import_only_what_lies_below_them() {
    let packages = packages();
    let mut findings = Vec::new();
    for (folder, allowed) in WALL {
        let in_tests = WALL_IN_TESTS.iter().find(|(tested, _)| *tested == folder).map_or(&[][..], |(_, more)| more);
        for (section, more) in [("dependencies", &[][..]), ("build-dependencies", &[]), ("dev-dependencies", in_tests)]
        {
            for name in dependencies(folder, section) {
                let Some(below) = packages.get(&name) else { continue };
                if !allowed.contains(below) && !more.contains(below) {
                    findings.push(format!("{folder} {section}: {name}"));
                }
            }
        }
    }
    none("imports go one way", &findings);
}

#[test]
fn pure_packages_depend_on_nothing_that_could_see_the_world() {
    let packages = packages();
    let mut findings = Vec::new();
    for (folder, allowed) in PURE {
        for name in dependencies(folder, "dependencies") {
            if !packages.contains_key(&name) && !allowed.contains(&name.as_str()) {
                findings.push(format!("{folder}: {name}"));
            }
        }
    }
    none("protocol and core depend on bytes, hashes and seeds only", &findings);
}

#[test]
fn pure_sources_never_mention_the_world() {
    let mut findings = Vec::new();
    for file in rust() {
        let pure = PURE.iter().any(|(folder, _)| file.path.starts_with(&format!("{folder}/src/")));
        if !pure || file.is_test() {
            continue;
        }
        for (number, line) in (1..).zip(code(file.product()).lines()) {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                findings.push(format!("{}:{number}: {word}", file.path));
            }
        }
    }
    none("no I/O, no clock, no runtime, no random order in protocol and core", &findings);
}

#[test]
fn every_dependency_says_why() {
    let mut findings = Vec::new();
    for (folder, _) in WALL {
        let text = std::fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
        let mut section = "";
        for (number, line) in (1..).zip(text.lines()) {
            if line.starts_with('[') {
                section = line;
            }
            let dependency = section.ends_with("dependencies]") && line.contains('=');
            if dependency && !line.contains(" # ") {
                findings.push(format!("{folder}/Cargo.toml:{number}: {line}"));
            }
        }
    }
    none("each dependency has its reason behind it", &findings);
}
