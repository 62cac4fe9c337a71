//! What a process has taken of the machine, and what the machine was not given, as Linux tells.

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

/// The time of all processors of this machine since it started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Processors {
    /// Busy, idle or withheld, ticks.
    all: u64,
    /// Wanted, and given to somebody else by the host of this virtual machine, ticks: `steal` of proc(5).
    withheld: u64,
}

impl Processors {
    /// Up to now.
    ///
    /// # Errors
    /// If the system does not tell.
    pub(crate) fn now() -> anyhow::Result<Self> {
        let stat = std::fs::read_to_string("/proc/stat").context("read /proc/stat")?;
        processors(&stat).context("read the processors' times")
    }

    /// Whether nothing was withheld since an earlier moment, as far as the system's clock has ticked.
    pub(crate) fn has_all_since(self, before: Self) -> bool {
        self.withheld == before.withheld
    }

    /// The share of their time that was withheld since an earlier moment, 0 to 1. A host that keeps a machine to a share of
    /// its processors stops it for many milliseconds at a time, so that from a hundredth on a p99 says little about a program.
    #[expect(clippy::cast_precision_loss, reason = "ticks of hours are far below 2^53")]
    pub(crate) fn withheld_since(self, before: Self) -> f64 {
        // Counted by the host, they may go back where a machine moves to another.
        let all = self.all.saturating_sub(before.all);
        let withheld = self.withheld.saturating_sub(before.withheld);
        withheld as f64 / all.max(1) as f64
    }
}

/// The first line: user, nice, system, idle, iowait, irq, softirq, steal; what follows is part of the first two.
fn processors(stat: &str) -> Option<Processors> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace().take(8);
    let ticks: Vec<u64> = fields.map(|field| field.parse().ok()).collect::<Option<_>>()?;
    Some(Processors { all: ticks.iter().sum(), withheld: *ticks.get(7)? })
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
    fn what_linux_tells_is_read() {
        let usage = Usage::of(std::process::id()).expect("this process lives");
        assert!(usage.resident_bytes > 1 << 20, "{usage:?}");
        let stat = "7 (a) name) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0";
        let ticks = rustix::param::clock_ticks_per_second();
        assert_eq!(processor(stat), Some(Duration::from_millis(300 * 1_000 / ticks)));
        let (before, after) = ("cpu  10 0 10 70 0 0 0 10 7 7\ncpu0 1", "cpu  60 0 40 80 0 0 0 20 9 9\n");
        let of = |stat| processors(stat).expect("eight fields");
        assert!((of(after).withheld_since(of(before)) - 0.1).abs() < 1e-9, "10 of 100 ticks");
        assert_eq!(resident("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
    }
}
