//! Faults under load for a while, drawn from a seed: what `make soak` runs.
//!
//! Each round draws a fault, lets traffic go on, and compares digests; every few rounds the traffic
//! ends and the checker reads the surviving cloud. The seed is printed, so that a round can be had
//! again.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::check::{self, Survivors, digest};
use crate::clouds::control::switchover_ok;
use crate::clouds::{Clouds, Observer, Plan, Process};
use crate::demo::screen::{Screen, thousands};
use crate::load::{Traffic, TrafficPlan};
use crate::wait;

/// Rounds between two judgements.
const ROUNDS: u32 = 5;
/// How long anything may take before it counts as stuck.
const STUCK: Duration = Duration::from_secs(120);

/// What may happen in a round.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Switch,
    KillActiveNode,
    KillStandbyNode,
    KillSidecar,
    HangSidecar,
    Failover,
}

const FAULTS: [Fault; 6] = [
    Fault::Switch,
    Fault::KillActiveNode,
    Fault::KillStandbyNode,
    Fault::KillSidecar,
    Fault::HangSidecar,
    Fault::Failover,
];

/// Runs for this long in this directory, which is emptied first.
pub fn run(dir: &Path, span: Duration, seed: u64) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    let mut clouds = Clouds::create(Plan::two_clouds(dir))?;
    clouds.start_all()?;
    let observer = Observer::of(&clouds.layout)?;
    let mut soak =
        Soak { clouds, observer, screen: Screen::default(), random: StdRng::seed_from_u64(seed) };
    soak.screen
        .title(&format!("Faults under load for {}, seed {seed}", humantime::format_duration(span)));
    let (start, mut judgements) = (Instant::now(), 0);
    while start.elapsed() < span {
        judgements += 1;
        soak.rounds(judgements).with_context(|| format!("seed {seed}"))?;
    }
    let panics = soak.clouds.panics();
    ensure!(panics.is_empty(), "processes panicked: {panics:#?}");
    soak.screen
        .result(true, &format!("{judgements} judgements, nothing lost, digests equal each time"));
    Ok(())
}

struct Soak {
    clouds: Clouds,
    observer: Observer,
    screen: Screen,
    random: StdRng,
}

impl Soak {
    /// Some rounds with one traffic, and a judgement.
    fn rounds(&mut self, judgement: u32) -> Result<()> {
        let run = format!("soak{judgement}");
        let traffic = Traffic::start(TrafficPlan::small(&run, self.clouds.proxies()));
        for _ in 0..ROUNDS {
            let fault = FAULTS[self.random.random_range(0..FAULTS.len())];
            let shard = self.random.random_range(0..2_usize);
            let begun = Instant::now();
            self.fault(fault, shard).with_context(|| format!("{fault:?} of shard {shard}"))?;
            let enough = traffic.acknowledged() + 300;
            wait::until("writes after a fault", STUCK, || {
                ensure!(traffic.acknowledged() >= enough, "{:?}", traffic.ledger().errors);
                Ok(())
            })?;
            let (active, standby) = self.sides()?;
            wait::until("the standby to follow", STUCK, || self.observer.is_followed(&active, 2))?;
            let (a, b) = (self.clouds.cloud(&active), self.clouds.cloud(&standby));
            let found = wait::until("digests", STUCK, || digest::compare(a, b))?;
            ensure!(found.equal(), "{fault:?}: digests differ: {found:?}");
            self.screen.result(
                true,
                &format!(
                    "{fault:?} of shard {shard}: {active} is active, {} keys equal, {:.1} s",
                    thousands(found.keys),
                    begun.elapsed().as_secs_f64()
                ),
            );
        }
        let ledger = traffic.stop();
        let (active, standby) = self.sides()?;
        self.clouds.stop_cloud(&standby)?;
        let verdict = check::check(&ledger, &mut Survivors::of(self.clouds.cloud(&active))?)?;
        ensure!(verdict.is_good() && ledger.wrong_reads == 0, "{verdict:#?} {:?}", ledger.errors);
        self.screen.result(
            true,
            &format!(
                "{} acknowledged writes, none lost, none twice",
                thousands(verdict.acknowledged)
            ),
        );
        self.clouds.start_cloud(&standby)
    }

    fn sides(&self) -> Result<(String, String)> {
        let active = self.observer.active().context("the service has one active cloud")?;
        let standby = if active == "a" { "b" } else { "a" };
        Ok((active, standby.to_owned()))
    }

    fn fault(&mut self, fault: Fault, shard: usize) -> Result<()> {
        let (active, standby) = self.sides()?;
        let name = |cloud: &str| format!("{cloud}/{shard}");
        let again = |process: &mut Process| process.kill9().and_then(|()| process.start());
        match fault {
            Fault::Switch => {
                // A process that an earlier round ended may not be back yet; the tool refuses to
                // switch then, rightly.
                wait::until("a plan that agrees", STUCK, || {
                    switchover_ok(&self.clouds.layout, &["plan", "--to", &standby]).map(drop)
                })?;
                switchover_ok(&self.clouds.layout, &["run", "--to", &standby, "--yes"])?;
            }
            Fault::KillActiveNode => again(&mut self.clouds.shard(&name(&active)).node.process)?,
            Fault::KillStandbyNode => again(&mut self.clouds.shard(&name(&standby)).node.process)?,
            Fault::KillSidecar => again(&mut self.clouds.shard(&name(&active)).sidecar.process)?,
            Fault::HangSidecar => {
                let process = &self.clouds.shard(&name(&standby)).sidecar.process;
                process.freeze()?;
                wait::pause(Duration::from_secs(3));
                process.thaw()?;
            }
            Fault::Failover => {
                self.clouds.shard(&name(&active)).node.process.kill9()?;
                switchover_ok(&self.clouds.layout, &["failover", "--to", &standby, "--yes"])?;
                self.clouds.start_cloud(&active)?;
            }
        }
        Ok(())
    }
}
