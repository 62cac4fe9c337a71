//! Endpoints to test with, and processes at the other end.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kennel_fabric::{Endpoint, EndpointSettings, FabricChoice, FabricError, LandingAdvert, Library, Placed};
use rustix::process::{Pid, Signal, kill_process};

/// What names a child's part. Tests are their own children.
const PART: &str = "KENNEL_FABRIC_PART";
const PROVIDER: &str = "KENNEL_FABRIC_PROVIDER";
const BYTES: &str = "KENNEL_FABRIC_BYTES";

pub(crate) const LONG: Duration = Duration::from_secs(20);

/// For what is not answered by every provider.
pub(crate) fn shortly() -> Instant {
    Instant::now() + Duration::from_secs(2)
}

pub(crate) fn soon() -> Instant {
    Instant::now() + LONG
}

pub(crate) fn library() -> Option<Library> {
    match Library::load(None) {
        Ok(library) => Some(library),
        Err(error @ FabricError::LibraryMissing { .. }) => {
            assert!(std::env::var_os("KENNEL_REQUIRE_FABRIC").is_none(), "{error}");
            println!("SKIPPED: no libfabric");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

pub(crate) fn settings(provider: &str, landing_bytes: usize) -> EndpointSettings {
    EndpointSettings {
        choice: FabricChoice {
            provider: Some(provider.to_owned()),
            source: provider.contains("tcp").then(|| "127.0.0.1".to_owned()),
            ..FabricChoice::default()
        },
        landing_bytes,
        landing_count: 16,
        send_bytes: 1 << 20,
        send_count: 8,
        ..EndpointSettings::default()
    }
}

/// Runs a test on each provider of software that is here: over sockets, with offsets; in shared memory, with addresses.
pub(crate) fn each(landing_bytes: usize, test: impl Fn(&Library, EndpointSettings)) {
    let Some(library) = library() else { return };
    let mut tested = 0;
    for provider in ["tcp;ofi_rxm", "tcp", "shm"] {
        let settings = settings(provider, landing_bytes);
        match Endpoint::open(&library, &settings) {
            Ok(_) => {
                println!("on {provider}");
                test(&library, settings);
                tested += 1;
            }
            Err(FabricError::ProviderAbsent { .. }) => println!("SKIPPED: no {provider}"),
            Err(error) => panic!("{provider}: {error}"),
        }
    }
    assert!(tested > 0, "a libfabric with none of the providers");
}

/// Whether the provider works on after trouble. The shared-memory one of libfabric 1.17 follows pointers into a peer's
/// memory after that is gone, and serves nobody after a transfer that was refused or whose peer died.
pub(crate) fn recovers(settings: &EndpointSettings) -> bool {
    settings.choice.provider.as_deref() != Some("shm")
}

pub(crate) fn pair(library: &Library, settings: &EndpointSettings) -> (Endpoint, Endpoint) {
    let open = || Endpoint::open(library, settings).expect("it opened before");
    (open(), open())
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

pub(crate) fn pattern(bytes: usize, salt: usize) -> Bytes {
    (0..bytes).map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ salt).to_le_bytes()[0]).collect::<Vec<u8>>().into()
}

/// Places one block, and takes it at the other end.
pub(crate) fn carry(node: &Endpoint, reader: &Endpoint, bytes: &Bytes) -> Result<Bytes, FabricError> {
    let mut landing = reader.landing()?;
    let placed = block_on(node.place(landing.advert(), vec![bytes.clone()], soon()))?;
    landing.filled(placed.len)
}

/// The same after a refusal, which may have broken the connection: what fails meanwhile is asked for again.
pub(crate) fn carry_again(node: &Endpoint, reader: &Endpoint, bytes: &Bytes) -> Bytes {
    let mut carried = None;
    let started = Instant::now();
    eventually("it works on", || {
        let result = carry(node, reader, bytes);
        println!("after {:?}: {:?}", started.elapsed(), result.as_ref().map(Bytes::len));
        carried = result.ok();
        carried.is_some()
    });
    carried.expect("it was so")
}

/// Whether what must be refused was: with an answer, or, by the shared-memory provider, never with one.
pub(crate) fn is_refused(settings: &EndpointSettings, result: &Result<Placed, FabricError>) -> bool {
    match settings.choice.provider.as_deref() {
        Some("shm") => matches!(result, Err(FabricError::Deadline)),
        _ => matches!(result, Err(FabricError::Transfer { .. })),
    }
}

/// Waits until it is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = soon();
    while !is_so() {
        assert!(Instant::now() < end, "never so: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

fn unhex(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// A process at the other end, killed when dropped.
pub(crate) struct Other {
    child: Child,
    says: BufReader<ChildStdout>,
    hears: ChildStdin,
}

impl Other {
    /// One that advertises landings.
    pub(crate) fn reader(provider: &str, bytes: usize) -> Self {
        Self::start("reader", provider, bytes)
    }

    /// One that places a block into whatever it is told, again and again.
    pub(crate) fn node(provider: &str, bytes: usize) -> Self {
        Self::start("node", provider, bytes)
    }

    fn start(part: &str, provider: &str, bytes: usize) -> Self {
        let program = std::env::current_exe().expect("a test is a program");
        let mut child = Command::new(program)
            .args(["--exact", "support::part_of_a_child", "--nocapture", "--test-threads=1"])
            .envs([(PART, part), (PROVIDER, provider), (BYTES, &bytes.to_string())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let says = BufReader::new(child.stdout.take().expect("piped"));
        let hears = child.stdin.take().expect("piped");
        Self { child, says, hears }
    }

    pub(crate) fn hears(&mut self, advert: &LandingAdvert) {
        writeln!(self.hears, "{}", hex(&advert.encode())).expect("it lives");
    }

    /// The rest of its next line that begins so.
    pub(crate) fn says(&mut self, word: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.says.read_line(&mut line).expect("it lives"), 0, "it ended before it said {word}");
            // The test harness writes beside it.
            if let Some((_, rest)) = line.split_once(word) {
                return rest.trim().to_owned();
            }
        }
    }

    pub(crate) fn advert(&mut self) -> LandingAdvert {
        LandingAdvert::decode(&unhex(&self.says("ADVERT "))).expect("an advert")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it was not waited for");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a child does; as a test of its own, nothing.
#[test]
fn part_of_a_child() {
    let Ok(part) = std::env::var(PART) else { return };
    let bytes = std::env::var(BYTES).expect("told").parse().expect("a number");
    let library = library().expect("the parent has it");
    let settings = EndpointSettings { landing_count: 2, ..settings(&std::env::var(PROVIDER).expect("told"), bytes) };
    let endpoint = Endpoint::open(&library, &settings).expect("the parent's opened");
    let mut lines = std::io::stdin().lines();
    if part == "reader" {
        let mut landings: Vec<_> = (0..2).map(|_| endpoint.landing().expect("two are free")).collect();
        for landing in &mut landings {
            println!("ADVERT {}", hex(&landing.advert().encode()));
        }
        while lines.next().is_some() {}
        return;
    }
    println!("READY");
    let told = lines.next().expect("told").expect("text");
    let advert = LandingAdvert::decode(&unhex(&told)).expect("an advert");
    let body = pattern(bytes, 77);
    loop {
        println!("PLACING");
        let placed = block_on(endpoint.place(advert.clone(), vec![body.clone()], soon()));
        println!("PLACED {}", if placed.is_ok() { "well" } else { "not" });
    }
}
