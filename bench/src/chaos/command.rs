//! The system's own programs: run to their end, with what they say in the error.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, bail};
use tokio::process::Command;

/// Runs a program with arguments that are separated by blanks, none of which holds one itself.
///
/// # Errors
/// If it cannot start or does not end well.
///
/// # Cancel safety
/// The program ends.
pub(super) async fn run(line: &str) -> anyhow::Result<()> {
    let mut words = line.split_whitespace();
    let program = words.next().context("a command is not empty")?;
    let output = Command::new(program).args(words).stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}`: {}", said.lines().next().unwrap_or("failed without a word"));
    }
    Ok(())
}

/// The same for a destructor, which cannot wait for the runtime; what it says is of no use any more.
pub(super) fn run_now(line: &str) {
    let mut words = line.split_whitespace();
    let Some(program) = words.next() else { return };
    let quiet = std::process::Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    // Whoever cleans up goes on with the rest.
    drop(quiet);
}

/// A path for a command line.
///
/// # Errors
/// If it holds a blank, or is not Unicode.
pub(super) fn word(path: &Path) -> anyhow::Result<&str> {
    let text = path.to_str().with_context(|| format!("{} is not Unicode", path.display()))?;
    anyhow::ensure!(!text.contains(char::is_whitespace), "{text} holds a blank; name another directory");
    Ok(text)
}
