//! What a process has taken of the machine, as Linux tells.

use std::time::Duration;

use anyhow::Context;

/// Of one process, at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Of all its threads since it started, user and system.
    pub(crate) processor: Duration,
    /// Memory that it holds, bytes.
    pub(crate) resident_bytes: u64,
}

impl Usage {
    /// Of a process of this machine.
    ///
    /// # Errors
    /// If it has ended.
    pub(crate) fn of(process: u32) -> anyhow::Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{process}/{file}");
            std::fs::read_to_string(&path).with_context(|| format!("read {path}"))
        };
        let processor = processor(&read("stat")?).context("read a process's times")?;
        let resident_bytes = resident(&read("status")?).context("read a process's memory")?;
        Ok(Self { processor, resident_bytes })
    }

    /// The processor's time since an earlier moment.
    pub(crate) fn since(self, before: Self) -> Duration {
        self.processor.saturating_sub(before.processor)
    }
}

/// Fields 14 and 15 of `/proc/PID/stat`, in ticks. The second field is a name in parentheses, which may hold anything.
fn processor(stat: &str) -> Option<Duration> {
    let after_name = stat.rsplit_once(')')?.1;
    let mut times = after_name.split_ascii_whitespace().skip(11).map(|field| field.parse::<u64>().ok());
    let ticks = times.next()?? + times.next()??;
    Some(Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second()))
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_taken_time_and_memory() {
        let usage = Usage::of(std::process::id()).expect("this process lives");
        assert!(usage.resident_bytes > 1 << 20, "{usage:?}");
        let stat = "7 (a) name) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0";
        let ticks = rustix::param::clock_ticks_per_second();
        assert_eq!(processor(stat), Some(Duration::from_millis(300 * 1_000 / ticks)));
        assert_eq!(resident("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
    }
}
