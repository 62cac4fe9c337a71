//! Which host this is, and what time it is there: processes that see the same start of the same system may share memory.

use std::fs;

use kennel_protocol::ids::HostId;
use rustix::time::{ClockId, clock_gettime};

/// Random at every start of the system, and the same in every container on it.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The host that this process runs on; `None` where the system does not say.
pub fn host_id() -> Option<HostId> {
    parse(&fs::read_to_string(BOOT_ID).ok()?)
}

/// The host's monotonic clock, which its processes share.
pub(crate) fn monotonic_nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let part = |number: i64| u64::try_from(number).unwrap_or_default();
    part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec)
}

fn parse(text: &str) -> Option<HostId> {
    text.trim().replace('-', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_own_spelling_is_read() {
        assert_eq!(parse("00000000-0000-0000-0000-00000000012c\n"), Some(HostId(300)));
        assert_eq!(parse("unknown"), None);
    }
}
