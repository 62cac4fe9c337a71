//! What an operator runs before switching the fabric on: does it carry bytes, how fast, and does it refuse what it
//! must.
//!
//! Two endpoints in this process, over whatever the provider has between them. Times are those of one host; that
//! forbidden things are refused is a property of the provider and the card, and the reason to run this.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;

use crate::endpoint::Endpoint;
use crate::error::FabricError;
use crate::library::{Library, Provider};
use crate::settings::{EndpointSettings, FabricChoice};

mod attempts;
mod speed;

pub use attempts::{Attempt, Refusal, Verdict};
pub use speed::Speed;

/// How long anything may take here before it counts as not done.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SelftestReport {
    /// The library's path or name.
    pub library: PathBuf,
    /// Its version.
    pub version: String,
    /// What it offers here of what is known to work.
    pub providers: Vec<Provider>,
    /// What was tested.
    pub tested: Provider,
    /// Whether every byte that was placed arrived as it was.
    pub bytes_arrived: bool,
    /// How fast, size by size.
    pub speeds: Vec<Speed>,
    /// What was tried that must be refused.
    pub refusals: Vec<Refusal>,
}

/// Runs the self-test: some seconds. Blocks; it may be called where no runtime is.
pub fn selftest(choice: &FabricChoice) -> Result<SelftestReport, FabricError> {
    let library = Library::load(choice.library.as_deref())?;
    let endpoint = EndpointSettings {
        choice: choice.clone(),
        landing_bytes: speed::BYTES_MAX,
        landing_count: 16,
        send_bytes: speed::BYTES_MAX,
        send_count: 16,
        always_copy: false,
    };
    let (node, reader) = (Endpoint::open(&library, &endpoint)?, Endpoint::open(&library, &endpoint)?);
    let bytes_arrived = speed::arrives(&node, &reader)?;
    let speeds = speed::SIZES.iter().map(|bytes| speed::measure(&node, &reader, *bytes)).collect::<Result<_, _>>()?;
    let tested = node.provider().clone();
    drop((node, reader));
    // A transfer that was refused may break its connection: each attempt has endpoints of its own.
    let hostile = EndpointSettings { always_copy: true, landing_count: 2, send_count: 2, ..endpoint };
    let refusals =
        Attempt::ALL.iter().map(|attempt| attempts::attempt(&library, &hostile, *attempt)).collect::<Result<_, _>>()?;
    let (major, minor) = library.version();
    Ok(SelftestReport {
        library: library.path().to_owned(),
        version: format!("{major}.{minor}"),
        providers: library.providers()?,
        tested,
        bytes_arrived,
        speeds,
        refusals,
    })
}

impl SelftestReport {
    /// Whether the fabric may be switched on: bytes arrive, and what must be refused is.
    pub fn passed(&self) -> bool {
        self.bytes_arrived && self.refusals.iter().all(|refusal| refusal.verdict.is_safe())
    }
}

impl fmt::Display for SelftestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "libfabric {} ({})", self.version, self.library.display())?;
        for provider in &self.providers {
            let Provider { name, fabric, domain, memory, can_wait, .. } = provider;
            let memory = if memory.is_empty() { "none".to_owned() } else { memory.join(", ") };
            let wait = if *can_wait { "sleeps" } else { "must be polled" };
            writeln!(f, "offers {name} on {domain} ({fabric}): needs of memory: {memory}; {wait}")?;
        }
        writeln!(f, "tested {} on {}", self.tested.name, self.tested.domain)?;
        writeln!(f, "bytes arrive as they were: {}", if self.bytes_arrived { "yes" } else { "NO" })?;
        for speed in &self.speeds {
            writeln!(f, "{speed}")?;
        }
        for refusal in &self.refusals {
            writeln!(f, "{refusal}")?;
        }
        write!(f, "{}", if self.passed() { "passed" } else { "FAILED: leave the fabric off" })
    }
}

/// Waits for a begun operation without a runtime. It has a deadline of its own, which the endpoint keeps.
fn wait<T>(future: impl Future<Output = T>) -> T {
    use std::task::{Context, Poll, Wake, Waker};
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        std::thread::park();
    }
}

/// So many bytes, of which no two neighbours are alike, and no two salts either.
fn pattern(bytes: usize, salt: u8) -> Bytes {
    (0..bytes).map(|at| at.to_le_bytes()[0].wrapping_mul(31) ^ at.to_le_bytes()[1] ^ salt).collect::<Vec<u8>>().into()
}

fn deadline() -> Instant {
    Instant::now() + PATIENCE
}
