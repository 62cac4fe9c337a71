//! The programs themselves, as they were built beside the tests.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// How long a program that must refuse something may take to say so.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(20);

/// A program of the workspace.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(path(name));
    command.stdin(Stdio::null()).kill_on_drop(true).env_remove("KENNEL_CONFIG");
    command
}

/// Cargo puts programs into the directory above that of the tests.
fn path(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test has a path");
    let directory = test.ancestors().nth(2).expect("tests lie two directories deep");
    let path = directory.join(name);
    assert!(path.exists(), "{} is not there: build it with `cargo build --workspace --bins`", path.display());
    path
}

/// Runs a program to its end.
pub(crate) async fn output(mut command: Command) -> Output {
    let ended = timeout(REFUSAL_PATIENCE, command.output()).await;
    let ended = ended.unwrap_or_else(|_| panic!("{command:?} still runs after {REFUSAL_PATIENCE:?}"));
    ended.expect("the program starts")
}

/// What `cache-node run` says on its last line when it refuses to start with `assignments`.
pub(crate) async fn refusal(assignments: &[String]) -> String {
    let mut command = program("cache-node");
    command.arg("run").args(assignments.iter().map(|assignment| format!("--set={assignment}")));
    let output = output(command).await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    let last = error.lines().last().unwrap_or_default().to_owned();
    assert!(last.starts_with("cache-node: "), "not one line that says why: {error}");
    last
}
