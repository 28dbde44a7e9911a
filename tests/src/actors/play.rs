//! One cell.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::cell::{Actor, Blow, Cell, Switch};
use super::held::Held;
use super::prober::Prober;
use super::stepped::Stepped;
use super::{STUCK, matrix};
use crate::clouds::control::switchover;
use crate::clouds::{Clouds, Observer, Process};
use crate::etcd::Etcd;
use crate::wait;

/// The freeze's deadline of a planned switch.
const PLANNED: Duration = Duration::from_secs(2);
/// The same of a failover: a lease, two drains, and a moment.
const UNPLANNED: Duration = Duration::from_secs(6);
/// How long a failover waits for a sidecar that may drain.
const DRAIN: &str = "1s";
/// Beyond a deadline, until whoever ends what it bounds has done so: a proxy waits half a second for the
/// tool, and a busy machine takes its time.
const GRACE: Duration = Duration::from_secs(8);
/// How long etcd is away.
const AWAY: Duration = Duration::from_secs(3);

/// How a cell ended.
#[derive(Clone, Debug)]
pub(super) struct Played {
    /// The tool's exit code, if it was not killed.
    pub(super) code: Option<i32>,
    /// Whether the new side had taken over when the tool and its `resume` were done.
    pub(super) moved: bool,
    /// The longest that a write waited for its answer, through proxies that were not struck.
    pub(super) held: Duration,
}

/// The other of two clouds.
pub(super) fn other(cloud: &str) -> &'static str {
    if cloud == "a" { "b" } else { "a" }
}

/// Which process an actor is; the tool and etcd are none of a cloud's.
fn process<'a>(clouds: &'a mut Clouds, cell: Cell, from: &str) -> Option<&'a mut Process> {
    let to = other(from);
    let proxy = |clouds: &'a mut Clouds, of: &str| {
        let cloud = clouds.layout.clouds.iter_mut().find(|c| c.name == of)?;
        cloud.proxies.first_mut().map(|proxy| &mut proxy.process)
    };
    // Of a failover the first shard's primary is dead already.
    let lives = if cell.switch == Switch::Planned { 0 } else { 1 };
    match cell.actor {
        Actor::Tool | Actor::Etcd => None,
        Actor::OldProxy => proxy(clouds, from),
        Actor::NewProxy => proxy(clouds, to),
        Actor::OldNode => Some(&mut clouds.shard(&format!("{from}/{lives}")).node.process),
        Actor::NewNode => Some(&mut clouds.shard(&format!("{to}/0")).node.process),
        Actor::OldSidecar => Some(&mut clouds.shard(&format!("{from}/0")).sidecar.process),
        Actor::NewSidecar => Some(&mut clouds.shard(&format!("{to}/0")).sidecar.process),
    }
}

/// Where a cell is played.
pub(super) struct Stage<'a> {
    pub(super) clouds: &'a mut Clouds,
    pub(super) observer: &'a Observer,
    pub(super) etcd: Option<&'a mut Etcd>,
}

impl Stage<'_> {
    /// Plays one cell and mends what it broke. Both clouds are up and level before and after.
    pub(super) fn play(&mut self, cell: Cell) -> Result<Played> {
        let from = self.observer.active().context("no cluster is active")?;
        let to = other(&from);
        self.ready(to)?;
        let probers: Vec<_> = (0..2).map(|number| self.probe(number, &from)).collect();
        let hold_max = matrix::HOLD_TIME + GRACE;
        let held = self.hold(cell, &from, hold_max);

        let deadline = if cell.switch == Switch::Planned { PLANNED } else { UNPLANNED };
        let mut tool = self.start(cell.switch, &from, deadline)?;
        let struck = tool.until(cell.step)?;
        ensure!(struck, "the tool ended before it came to {}: {:#?}", cell.step, tool.said);
        self.strike(cell, &from, &tool)?;
        tool.let_go();
        if cell.actor == Actor::Etcd {
            // Without its registry nobody decides anything; then whoever is due does.
            wait::pause(AWAY);
            self.mend(cell, &from)?;
        }
        wait::until("the freeze to end", deadline + GRACE, || {
            let view = self.observer.view();
            ensure!(view.record().is_some_and(|r| r.freeze().is_none()), "it is frozen");
            Ok(())
        })?;
        if cell.actor == Actor::Tool && cell.blow == Blow::Freeze {
            tool.signal(Signal::CONT)?;
        }
        let (code, said) = tool.end()?;
        let before_mending = self.observer.view();
        if cell.actor != Actor::Etcd {
            self.mend(cell, &from)?;
        }
        let mut active = self.settle()?;
        ensure!(active == from || active == to, "`{active}` is active");
        let moved = active == to;
        let agrees = match code {
            Some(0 | 5) => moved,
            // Failed, refused, rolled back.
            Some(1 | 3 | 4) => !moved,
            // Killed, or it could not learn how it ended: the record says.
            None | Some(6) => true,
            Some(_) => false,
        };
        let record = before_mending.record();
        ensure!(
            agrees,
            "the tool ended with {code:?} and {active} is active ({record:?}): {said:#?}"
        );
        if cell.switch == Switch::Unplanned {
            active = self.fail_over_again(&from)?;
            self.clouds.shard(&format!("{from}/0")).node.process.start()?;
        }
        self.ready(other(&active))?;
        for prober in probers {
            prober.judge(&said)?;
        }
        let mut longest = Duration::ZERO;
        for held in held {
            longest = longest.max(held.judge(hold_max)?);
        }
        Ok(Played { code, moved, held: longest })
    }

    fn probe(&mut self, number: usize, from: &str) -> Prober {
        let mut node = |cloud: &str| {
            let shard = self.clouds.shard(&format!("{cloud}/{number}"));
            shard.node.client.clone()
        };
        Prober::start(number, node(from), node(other(from)))
    }

    /// Writers through the proxies that are not struck.
    fn hold(&self, cell: Cell, from: &str, most: Duration) -> Vec<Held> {
        let clouds = self.clouds.layout.clouds.iter();
        let whole = clouds.filter(|cloud| match cell.actor {
            Actor::OldProxy => cloud.name != from,
            Actor::NewProxy => cloud.name == from,
            _ => true,
        });
        whole.flat_map(|c| &c.proxies).map(|proxy| Held::start(&proxy.client, most)).collect()
    }

    fn start(&mut self, switch: Switch, from: &str, deadline: Duration) -> Result<Stepped> {
        let timeout = format!("{}ms", deadline.as_millis());
        let to = other(from);
        let common = ["--to", to, "--yes", "--timeout", &timeout, "--settle-timeout", "5s"];
        if switch == Switch::Planned {
            return Stepped::start(self.clouds, &[&["run"][..], &common].concat());
        }
        self.clouds.shard(&format!("{from}/0")).node.process.kill9()?;
        Stepped::start(self.clouds, &[&["failover", "--drain-wait", DRAIN][..], &common].concat())
    }

    fn strike(&mut self, cell: Cell, from: &str, tool: &Stepped) -> Result<()> {
        match (cell.actor, cell.blow, self.etcd.as_deref_mut()) {
            (Actor::Tool, Blow::Kill, _) => return tool.signal(Signal::KILL),
            (Actor::Tool, Blow::Freeze, _) => return tool.signal(Signal::STOP),
            (Actor::Etcd, Blow::Kill, Some(etcd)) => etcd.kill(0),
            (Actor::Etcd, Blow::Freeze, Some(etcd)) => etcd.freeze(0),
            _ => {}
        }
        match (process(self.clouds, cell, from), cell.blow) {
            (None, _) => Ok(()),
            (Some(process), Blow::Kill) => process.kill9(),
            (Some(process), Blow::Freeze) => process.freeze(),
        }
    }

    fn mend(&mut self, cell: Cell, from: &str) -> Result<()> {
        match (cell.actor, cell.blow, self.etcd.as_deref_mut()) {
            (Actor::Etcd, Blow::Kill, Some(etcd)) => etcd.start_again(0),
            (Actor::Etcd, Blow::Freeze, Some(etcd)) => etcd.thaw(0),
            _ => {}
        }
        match (process(self.clouds, cell, from), cell.blow) {
            (None, _) => Ok(()),
            (Some(process), Blow::Kill) => process.start(),
            (Some(process), Blow::Freeze) => process.thaw(),
        }
    }

    /// Runs the tool again until there is nothing left to resume; who is active then.
    fn settle(&self) -> Result<String> {
        wait::until("nothing to be left to resume", STUCK, || {
            let run = switchover(&self.clouds.layout, &["resume", "--no-wait-reverse"])?;
            ensure!(matches!(run.code, 0 | 4), "resume ended with {}: {}", run.code, run.said);
            ensure!(run.report["operation"] == "resume", "{}", run.said);
            Ok(())
        })?;
        self.observer.active().context("no cluster is active")
    }

    /// Where a failover was rolled back: another one, with everybody there, loses nothing.
    fn fail_over_again(&self, from: &str) -> Result<String> {
        let to = other(from);
        wait::until("another failover", STUCK, || {
            if self.observer.active().as_deref() == Some(to) {
                return Ok(());
            }
            let args = ["failover", "--to", to, "--yes", "--no-wait-reverse"];
            let run = switchover(&self.clouds.layout, &args)?;
            ensure!(run.code == 0, "failover ended with {}: {}", run.code, run.said);
            Ok(())
        })?;
        wait::until("the observer to see it", STUCK, || {
            let active = self.observer.active().context("no cluster is active")?;
            ensure!(active == to, "{active} is active");
            Ok(active)
        })
    }

    /// Waits until every guard would let a switch to this cloud pass.
    fn ready(&self, to: &str) -> Result<()> {
        let since = Instant::now();
        wait::until("the guards to agree", STUCK, || {
            let plan = switchover(&self.clouds.layout, &["plan", "--to", to])?;
            ensure!(plan.code == 0, "after {:?}: {}", since.elapsed(), plan.said);
            Ok(())
        })
    }
}
