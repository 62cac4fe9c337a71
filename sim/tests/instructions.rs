//! Instructions of the paths that every batch takes, counted by callgrind: a count does not know how busy a machine is, so
//! growth is a change of the code or of the compiler.
//!
//! What is recorded is of the profile that tests are built with, on x86-64 with AVX2. `KENNEL_BLESS=1` records anew.
//! Without valgrind it says that it was skipped.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use kennel_sim::paths::Path;

/// How much more a path may take than was recorded: another compiler alone was not seen to make 5%.
const GROWTH_MAX: f64 = 1.10;

/// One round and so many more: what a start takes is in both, and falls out.
const ROUNDS: u64 = 10;

fn record() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/instructions.txt")
}

/// Instructions of a run; `None` without valgrind.
fn count(path: Path, rounds: u64) -> Option<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", env!("CARGO_BIN_EXE_kennel-sim")]);
    command.args(["path", &path.name(), "--rounds", &rounds.to_string()]);
    let output = command.output().ok()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "valgrind failed: {said}");
    let line = said.lines().find(|line| line.contains("Collected :")).expect("callgrind says what it counted");
    Some(line.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number"))
}

/// What is recorded, by path.
fn recorded() -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(record()).unwrap_or_default();
    let line = |line: &str| {
        let (path, number) = line.split_once(' ').expect("a path and a number");
        (path.to_owned(), number.trim().parse().expect("a number"))
    };
    text.lines().filter(|line| !line.starts_with('#')).map(line).collect()
}

#[cfg(target_arch = "x86_64")]
#[test]
fn paths_take_no_more_instructions_than_was_recorded() {
    if !std::arch::is_x86_feature_detected!("avx2") {
        eprintln!("SKIPPED: what is recorded is of a processor with AVX2");
        return;
    }
    let mut counted = BTreeMap::new();
    for path in Path::ALL {
        let (Some(one), Some(more)) = (count(path, 1), count(path, 1 + ROUNDS)) else {
            eprintln!("SKIPPED: instructions are counted by valgrind, which is not here");
            return;
        };
        counted.insert(path.name(), (more - one) / ROUNDS);
    }
    if std::env::var_os("KENNEL_BLESS").is_some() {
        let lines = counted.iter().map(|(path, count)| format!("{path} {count}\n"));
        let text =
            "# Instructions of one round, in the profile of the tests. KENNEL_BLESS=1 records anew.\n".to_owned();
        std::fs::write(record(), lines.fold(text, |text, line| text + &line)).expect("the record is written");
        return;
    }
    let recorded = recorded();
    let mut grown = Vec::new();
    for (path, count) in &counted {
        let known = *recorded.get(path).unwrap_or_else(|| panic!("{path} is not recorded: KENNEL_BLESS=1"));
        #[expect(clippy::cast_precision_loss, reason = "counts of a round are far below 2^53")]
        let growth = *count as f64 / known as f64;
        println!("{path}: {count} instructions, {growth:.3} of what was recorded");
        if growth > GROWTH_MAX {
            grown.push(format!("{path}: {count} instructions instead of {known}"));
        }
    }
    assert!(grown.is_empty(), "{grown:#?}; if it is meant so: KENNEL_BLESS=1");
}
