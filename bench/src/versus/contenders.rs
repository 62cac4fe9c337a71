//! Everybody who answers, behind one trait.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::{VersusArgs, floor, kennel, object_store, others, ships};

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(50);

/// Somebody who has the messages.
#[async_trait]
pub(super) trait Contender: Send {
    /// What the table calls it.
    fn name(&self) -> &'static str;

    /// Reads the messages that a question's number leads to, and looks that they are all there; or gives some away, and waits
    /// until they were taken.
    async fn ask(&mut self, question: u64) -> anyhow::Result<()>;

    /// Processes that answer, beside this one.
    fn processes(&self) -> anyhow::Result<Vec<u32>>;
}

/// Whether it could be had.
pub(super) enum Presence {
    Here(Box<dyn Contender>),
    /// And why not.
    Absent(String),
}

/// All of them, started, and full where they are read.
pub(super) async fn all(args: &VersusArgs) -> anyhow::Result<Vec<Presence>> {
    let directory = args.place.directory.with_extension("others");
    if directory.exists() {
        std::fs::remove_dir_all(&directory).with_context(|| format!("empty {}", directory.display()))?;
    }
    std::fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    if args.ships {
        return ships::all(args, &directory).await;
    }
    let mut all = kennel::both(args).await?;
    all.push(others::redis(&directory).await?);
    all.push(others::nats(&directory).await?);
    all.push(others::iggy(args.iggy.as_deref(), &directory).await?);
    all.push(object_store::get().await?);
    all.extend(floor::all(&directory).await?);
    Ok(all)
}

/// A server of somebody else's. Dropping it ends it.
pub(super) struct Server {
    child: Child,
    /// Where it listens.
    pub(super) port: u16,
}

impl Server {
    /// Starts it and waits until it listens; `None` if it is not installed.
    pub(super) async fn start(
        program: &str,
        directory: &Path,
        arguments: impl Fn(u16) -> Vec<String>,
    ) -> anyhow::Result<Option<Self>> {
        let Some(path) = installed(program) else { return Ok(None) };
        // Nobody else takes it in the moment between.
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|socket| socket.local_addr())?.port();
        let log = std::fs::File::create(directory.join(format!("{program}.log"))).context("open a log")?;
        let mut command = Command::new(&path);
        command.args(arguments(port)).current_dir(directory).stdin(Stdio::null());
        command.stdout(log.try_clone().context("share a log")?).stderr(log).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("start {}", path.display()))?;
        let listens = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                sleep(LOOK).await;
            }
        };
        timeout(START, listens).await.with_context(|| format!("{program} does not listen; see its log"))?;
        Ok(Some(Self { child, port }))
    }

    /// Its process.
    pub(super) fn process(&self) -> anyhow::Result<u32> {
        self.child.id().context("a server ended")
    }
}

fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    places.map(|place| place.join(program)).find(|place| place.is_file())
}
