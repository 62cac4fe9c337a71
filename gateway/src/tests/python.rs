//! The client of another language: `apache-iggy` of the Python package index, where `./test` could install it.

use tokio::process::Command;

use super::*;

/// Set to the interpreter of a virtual environment that has the package.
const PYTHON: &str = "KENNEL_IGGY_PYTHON";

#[tokio::test]
async fn the_python_client_reads_what_the_server_has() {
    let Some(python) = std::env::var_os(PYTHON) else {
        println!("SKIPPED: {PYTHON} does not name a Python with apache-iggy; ./test makes one where it can");
        return;
    };
    let rig = Rig::start(&history()).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/polls.py");
    let mut said = Vec::new();
    for address in [rig.origin.address(), rig.gateway.address()] {
        let output = Command::new(&python).arg(script).arg(address.to_string()).output().await.expect("it runs");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {errors}", output.status);
        said.push(String::from_utf8(output.stdout).expect("text"));
    }
    assert_eq!(said[0], said[1], "through the gateway as from the server");
    assert_eq!(said[0].lines().count(), 1 + 30 + 10 + 5 + 5, "{}", said[0]);
    let counts = rig.gateway.counts();
    assert!(counts.served >= 4, "{counts:?}");
}
