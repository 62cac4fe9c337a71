//! Carries out a schedule: one thing after the other, in one task, so that nothing of it can race with itself.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::abilities::Abilities;
use super::schedule::{Event, Planned, Schedule, Whom};
use super::shipping::Order;
use super::watch::Owners;
use super::world::World;
use crate::random::Random;

/// How often the conductor looks at the clock.
const TICK: Duration = Duration::from_millis(20);
/// How long a node may take to stop in order before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// How long a rolling restart waits for a node to serve again before it goes on.
const READY_PATIENCE: Duration = Duration::from_secs(15);
/// After a node ended by itself.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// One start in so many is with shifted clocks.
const SHIFTED_PERCENT: u64 = 25;
/// Most of the shift: a month since boot.
const SHIFT_SECONDS_MAX: u64 = 30 * 24 * 3_600;

/// Conducts one run.
#[derive(Debug)]
pub(super) struct Conductor<'a> {
    pub(super) world: &'a mut World,
    pub(super) abilities: &'a Abilities,
    pub(super) owners: Owners,
    pub(super) shippers: Vec<mpsc::Sender<Order>>,
    random: Random,
    began: Instant,
    /// What ends what began, in no order.
    undo: Vec<(Instant, Undo)>,
    rolling: VecDeque<u8>,
    /// Whether who is restarted is the newer program from then on.
    upgrading: bool,
    turn: Turn,
    /// How often a node ended without having been told to.
    pub(super) ended_by_themselves: u64,
}

/// What ends something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Undo {
    Start(u8),
    Continue(u8),
    Mend(Event),
}

/// Where a rolling restart is.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// Nobody's turn.
    Rest,
    /// This node was told to stop.
    Stopping(u8, Instant),
    /// It was started again.
    Starting(u8, Instant),
}

impl<'a> Conductor<'a> {
    pub(super) fn new(
        world: &'a mut World,
        abilities: &'a Abilities,
        owners: Owners,
        shippers: Vec<mpsc::Sender<Order>>,
        seed: u64,
    ) -> Self {
        Self {
            world,
            abilities,
            owners,
            shippers,
            random: Random(seed ^ 0xc10c),
            began: Instant::now(),
            undo: Vec::new(),
            rolling: VecDeque::new(),
            upgrading: false,
            turn: Turn::Rest,
            ended_by_themselves: 0,
        }
    }

    /// Carries the schedule out, then undoes whatever is not undone yet.
    ///
    /// # Errors
    /// If a node cannot be started.
    ///
    /// # Cancel safety
    /// What began goes on; dropping the world ends it.
    pub(super) async fn run(&mut self, schedule: &Schedule, length: Duration) -> anyhow::Result<()> {
        self.began = Instant::now();
        let mut due: VecDeque<Planned> = schedule.events.iter().copied().collect();
        while self.began.elapsed() < length {
            while let Some(planned) = due.pop_front_if(|next| self.began.elapsed() >= millis(next.at_millis)) {
                self.begin(planned).await?;
            }
            self.undo_due(Instant::now()).await?;
            self.roll()?;
            self.look_at_ended();
            sleep(TICK).await;
        }
        self.end().await
    }

    /// Ends everything that goes wrong.
    async fn end(&mut self) -> anyhow::Result<()> {
        self.note("everything that goes wrong ends here");
        self.rolling.clear();
        let last = self.undo.iter().map(|(at, _)| *at).max();
        self.undo_due(last.unwrap_or(self.began)).await?;
        self.world.proxy.faults.clear();
        for node in &mut self.world.nodes {
            node.signal(Signal::CONT);
        }
        // One that was told to stop must be gone before it can be started.
        if let Turn::Stopping(node, since) = self.turn {
            while self.node(node).ended().is_none() && since.elapsed() < STOP_PATIENCE {
                sleep(TICK).await;
            }
            self.node(node).kill().await;
        }
        self.world.start_all()
    }

    async fn begin(&mut self, planned: Planned) -> anyhow::Result<()> {
        let Planned { event, for_millis, .. } = planned;
        let until = Instant::now() + millis(for_millis);
        match event {
            Event::Kill { whom } => {
                for node in self.resolve(whom) {
                    let owned = self.owned(node);
                    if self.node(node).kill().await {
                        self.note(format!("SIGKILL n{node}{owned}, up again in {for_millis} ms"));
                        self.undo.push((until, Undo::Start(node)));
                    }
                }
            }
            Event::Pause { whom } => {
                for node in self.resolve(whom) {
                    let owned = self.owned(node);
                    if self.node(node).signal(Signal::STOP) {
                        self.note(format!("SIGSTOP n{node}{owned} for {for_millis} ms"));
                        self.undo.push((until, Undo::Continue(node)));
                    }
                }
            }
            Event::RollingRestart if self.rolling.is_empty() => {
                self.note("rolling restart begins");
                self.rolling.extend(1..=self.nodes());
            }
            Event::RollingRestart => {}
            Event::RollingUpgrade => {
                self.note("rolling upgrade begins");
                self.upgrading = true;
                self.rolling = (1..=self.nodes()).collect();
            }
            event => {
                self.note(format!("{} for {for_millis} ms", describe(&event)));
                if let Err(error) = self.apply(event, true).await {
                    self.note(format!("that did not work: {error:#}"));
                }
                self.undo.push((until, Undo::Mend(event)));
            }
        }
        Ok(())
    }

    async fn undo_due(&mut self, now: Instant) -> anyhow::Result<()> {
        let due: Vec<_> = self.undo.extract_if(.., |(at, _)| *at <= now).map(|(_, undo)| undo).collect();
        for undo in due {
            match undo {
                Undo::Start(node) => self.start(node)?,
                Undo::Continue(node) => {
                    // Another pause of the same node may go on.
                    if !self.undo.iter().any(|(_, other)| *other == undo) && self.node(node).signal(Signal::CONT) {
                        self.note(format!("SIGCONT n{node}"));
                    }
                }
                Undo::Mend(event) => {
                    self.note(format!("over: {}", describe(&event)));
                    // What two events did is undone by the first; the second finds nothing to undo.
                    let _ = self.apply(event, false).await;
                }
            }
        }
        Ok(())
    }

    /// Begins or ends what is neither a kill nor a pause of nodes.
    async fn apply(&mut self, event: Event, on: bool) -> anyhow::Result<()> {
        match event {
            Event::Cut { from, to, both_ways } => {
                self.world.network.drop_frames(from, to, on).await?;
                if both_ways {
                    self.world.network.drop_frames(to, from, on).await?;
                }
            }
            Event::Isolate { node, hears, from_all } => {
                for other in (1..=self.nodes()).filter(|other| *other != node) {
                    self.world.network.drop_frames(node, other, on).await?;
                    if !hears {
                        self.world.network.drop_frames(other, node, on).await?;
                    }
                }
                if from_all {
                    self.world.network.drop_frames_to_host(node, on).await?;
                }
            }
            Event::Link { node, trouble } if on => {
                self.world.network.trouble(node, trouble, self.abilities.loss_by).await?;
            }
            Event::Link { node, trouble } => self.world.network.soothe(node, trouble, self.abilities.loss_by).await?,
            Event::Bucket { node, fault } => {
                for node in node.map_or(1..=self.nodes(), |node| node..=node) {
                    let faults = &self.world.proxy.faults;
                    if on { faults.add(node, fault) } else { faults.remove(node, fault) }
                }
            }
            Event::FullDisk { node } if on => self.node(node).disk.fill()?,
            Event::FullDisk { node } => self.node(node).disk.relieve()?,
            Event::SlowDisk { node, bytes_per_second } if on => {
                let name = format!("kennel-{}-{node}", self.world.network.label());
                let node = self.node(node);
                let process = node.process();
                node.disk.slow(&name, process, bytes_per_second)?;
            }
            Event::SlowDisk { node, .. } => self.node(node).disk.hurry(),
            Event::KillShippers if on => self.order(Order::Kill),
            Event::PauseShippers => self.order(if on { Order::Pause } else { Order::Continue }),
            Event::KillShippers
            | Event::Kill { .. }
            | Event::Pause { .. }
            | Event::RollingRestart
            | Event::RollingUpgrade => {}
        }
        Ok(())
    }

    fn order(&self, order: Order) {
        for shipper in &self.shippers {
            // A shipper that has so many orders waiting is between two processes.
            let _ = shipper.try_send(order);
        }
    }

    fn start(&mut self, node: u8) -> anyhow::Result<()> {
        if self.node(node).is_up() {
            return Ok(());
        }
        let shifted = self.abilities.shifted_clocks && self.random.percent(SHIFTED_PERCENT);
        let shift = shifted.then(|| self.random.below(SHIFT_SECONDS_MAX));
        self.node(node).start(shift)?;
        let clocks = shift.map_or(String::new(), |shift| format!(", clocks since boot shifted by {shift} s"));
        self.note(format!("n{node} started{clocks}"));
        Ok(())
    }

    /// One step of a rolling restart.
    fn roll(&mut self) -> anyhow::Result<()> {
        match self.turn {
            Turn::Rest => {
                let Some(node) = self.rolling.pop_front() else { return Ok(()) };
                let owned = self.owned(node);
                if self.upgrading && self.node(node).upgrade() {
                    self.note(format!("n{node} is the newer program from its next start on"));
                }
                if self.node(node).signal(Signal::TERM) {
                    self.note(format!("SIGTERM n{node}{owned}"));
                    self.turn = Turn::Stopping(node, Instant::now());
                }
            }
            Turn::Stopping(node, since) => {
                // It may have been killed, or stopped, by something else.
                let ended = self.node(node).ended();
                if let Some(status) = ended {
                    self.note(format!("n{node} stopped after {} ms: {status}", since.elapsed().as_millis()));
                }
                if !self.node(node).is_up() {
                    self.start(node)?;
                    self.turn = Turn::Starting(node, Instant::now());
                } else if since.elapsed() > STOP_PATIENCE {
                    self.note(format!("n{node} does not stop; on to the next"));
                    self.turn = Turn::Rest;
                }
            }
            Turn::Starting(node, since) => {
                if self.owners.ready_after(node, since) || since.elapsed() > READY_PATIENCE {
                    self.turn = Turn::Rest;
                }
            }
        }
        Ok(())
    }

    fn look_at_ended(&mut self) {
        let stopping = if let Turn::Stopping(node, _) = self.turn { Some(node) } else { None };
        for node in (1..=self.nodes()).filter(|node| Some(*node) != stopping) {
            if let Some(status) = self.node(node).ended() {
                self.ended_by_themselves += 1;
                self.note(format!("n{node} ended by itself: {status}"));
                self.undo.push((Instant::now() + RESTART_AFTER, Undo::Start(node)));
            }
        }
    }

    fn resolve(&self, whom: Whom) -> Vec<u8> {
        match whom {
            Whom::OwnerOf(shard) => self.owners.of(shard).into_iter().collect(),
            Whom::Node(node) => vec![node],
            Whom::All => (1..=self.nodes()).collect(),
        }
    }

    /// ` (owner of 0,3)`, or nothing.
    fn owned(&self, node: u8) -> String {
        let shards: Vec<_> = self.owners.shards_of(node).iter().map(u16::to_string).collect();
        if shards.is_empty() { String::new() } else { format!(" (owner of {})", shards.join(",")) }
    }

    fn node(&mut self, node: u8) -> &mut super::node::Node {
        &mut self.world.nodes[usize::from(node) - 1]
    }

    fn nodes(&self) -> u8 {
        u8::try_from(self.world.nodes.len()).expect("a run has few nodes")
    }

    fn note(&self, what: impl Into<String>) {
        self.world.timeline.note(what);
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn describe(event: &Event) -> String {
    match event {
        Event::Kill { whom } => format!("SIGKILL {whom}"),
        Event::Pause { whom } => format!("SIGSTOP {whom}"),
        Event::RollingRestart => "rolling restart".to_owned(),
        Event::RollingUpgrade => "rolling upgrade".to_owned(),
        Event::Cut { from, to, both_ways: true } => format!("n{from} and n{to} are cut off from each other"),
        Event::Cut { from, to, .. } => format!("n{to} does not hear n{from}"),
        Event::Isolate { node, hears, from_all } => {
            let whom = if *from_all { "nobody" } else { "no other node" };
            let hears = if *hears { ", and hears all" } else { "" };
            format!("n{node} reaches {whom}{hears}")
        }
        Event::Link { node, trouble } => format!("n{node} {trouble}"),
        Event::Bucket { node: Some(node), fault } => format!("for n{node} the bucket {fault}"),
        Event::Bucket { fault, .. } => format!("for all the bucket {fault}"),
        Event::FullDisk { node } => format!("the disk of n{node} is full"),
        Event::SlowDisk { node, bytes_per_second } => format!("the disk of n{node} takes {bytes_per_second} B/s"),
        Event::KillShippers => "SIGKILL of the shippers".to_owned(),
        Event::PauseShippers => "SIGSTOP of the shippers".to_owned(),
    }
}
