//! Which of this machine's cores nodes have, and which the load: so that each side's work is told apart.

use anyhow::{Context, ensure};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Cores dealt out. This process keeps to the load's until it is dropped.
#[derive(Debug)]
pub(crate) struct Cores {
    all: CpuSet,
    load: CpuSet,
    /// By node.
    nodes: Vec<CpuSet>,
}

impl Cores {
    /// Gives the first so many cores of this process to the nodes, in turns, and the others to this process. Where there are
    /// more nodes than cores, nodes share.
    ///
    /// # Errors
    /// If none would be left, or the system refuses.
    pub(crate) fn deal(of_nodes: usize, nodes: usize) -> anyhow::Result<Self> {
        let all = sched_getaffinity(None).context("ask for this process's cores")?;
        let numbers: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|number| all.is_set(*number)).collect();
        let there = numbers.len();
        ensure!(
            (1..there).contains(&of_nodes),
            "{of_nodes} cores for nodes: this process has {there}, and the load needs one"
        );
        let (mut load, mut sets) = (CpuSet::new(), vec![CpuSet::new(); nodes]);
        numbers[of_nodes..].iter().for_each(|number| load.set(*number));
        for turn in 0..of_nodes.max(nodes) {
            sets[turn % nodes].set(numbers[turn % of_nodes]);
        }
        let cores = Self { all, load, nodes: sets };
        keep_process(&cores.load)?;
        Ok(cores)
    }

    /// Starts something that keeps to a node's cores: a process has those of the thread that started it.
    pub(crate) fn start_on_nodes<T>(&self, node: usize, start: impl FnOnce() -> T) -> anyhow::Result<T> {
        sched_setaffinity(None, &self.nodes[node]).context("keep to a node's cores")?;
        let started = start();
        sched_setaffinity(None, &self.load).context("keep to the load's cores")?;
        Ok(started)
    }
}

impl Drop for Cores {
    fn drop(&mut self) {
        // Nothing is lost where the system refuses: this process has fewer cores then.
        let _ = keep_process(&self.all);
    }
}

/// Keeps every thread of this process to some cores; threads to come have their makers'.
fn keep_process(cores: &CpuSet) -> anyhow::Result<()> {
    for thread in std::fs::read_dir("/proc/self/task").context("look for this process's threads")? {
        let name = thread.context("look for a thread")?.file_name();
        let thread =
            name.to_str().and_then(|name| Pid::from_raw(name.parse().ok()?)).context("a thread has a number")?;
        match sched_setaffinity(Some(thread), cores) {
            // It ended meanwhile.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error).context("keep a thread to its cores"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> u32 {
        sched_getaffinity(None).expect("the system tells").count()
    }

    #[test]
    fn nodes_and_load_share_no_core_and_all_come_back() {
        let all = own();
        if all < 2 {
            return;
        }
        let before = sched_getaffinity(None).expect("the system tells");
        let cores = Cores::deal(1, 3).expect("two cores are there");
        assert_eq!((own(), cores.nodes.len()), (all - 1, 3));
        for (node, set) in cores.nodes.iter().enumerate() {
            assert_eq!(set.count(), 1, "one core for three nodes");
            let seen = cores.start_on_nodes(node, || sched_getaffinity(None).expect("the system tells"));
            assert_eq!(&seen.expect("the system does"), set);
            assert!((0..CpuSet::MAX_CPU).all(|number| !(set.is_set(number) && cores.load.is_set(number))));
        }
        drop(cores);
        assert_eq!(sched_getaffinity(None).expect("the system tells"), before);
        assert!(Cores::deal(all as usize, 1).is_err(), "nothing is left for the load");
    }
}
