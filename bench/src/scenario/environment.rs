//! Where a run happened: without it, its numbers mean nothing to anybody else.

use serde::{Deserialize, Serialize};

/// The machine and the build.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// When it began, RFC 3339.
    pub began: String,
    /// The processor's own name.
    pub processor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Kernel and its version.
    pub kernel: String,
    /// Version of this program.
    pub version: String,
    /// "release" or "debug".
    pub build: String,
    /// Where the nodes ran.
    pub nodes: String,
    /// Work that others had for the machine when it began: processes that ran or waited to, over a minute.
    pub load_before: String,
}

impl Environment {
    /// Of this process.
    pub fn here(nodes: String) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map_or_else(String::new, |(_, value)| value.trim().to_owned())
        };
        let kibibytes = field(&read("/proc/meminfo"), "MemTotal");
        let kibibytes: u64 = kibibytes.trim_end_matches(" kB").parse().unwrap_or_default();
        let system = rustix::system::uname();
        Self {
            began: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
            processor: field(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, Into::into),
            memory_bytes: kibibytes * 1_024,
            kernel: format!("{} {}", system.sysname().to_string_lossy(), system.release().to_string_lossy()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            nodes,
            load_before: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_kernel_and_memory() {
        let here = Environment::here("three processes".into());
        assert!(here.kernel.starts_with("Linux") && here.memory_bytes > 1 << 28 && here.cores > 0, "{here:?}");
    }
}
