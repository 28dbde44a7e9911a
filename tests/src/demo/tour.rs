//! The steps, in order.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use keyspace::{Slot, SlotSet};

use super::lag;
use super::report::Report;
use super::screen::{Screen, megabytes, thousands};
use crate::check::{self, Survivors, digest};
use crate::clouds::control::{Run, switchover_ok};
use crate::clouds::observer::{Observer, sidecar_counter};
use crate::clouds::{Clouds, Plan};
use crate::load::{Traffic, TrafficPlan, fill, packages};
use crate::wait;

/// Counters of a sidecar: all it sent to followers, and what of it were checkpoints.
const SENT: &str = "godwit_replicator_sent_bytes_total";
const SEEDED: &str = "godwit_replicator_seed_bytes_total";
/// How long seeding, or following again, may take.
const FOLLOW_MAX: Duration = Duration::from_secs(180);
/// How long traffic runs between two steps.
const BREATH: Duration = Duration::from_secs(4);
/// How long lag is sampled.
const LAG_SPAN: Duration = Duration::from_secs(8);

/// A tour under way.
pub struct Tour {
    /// What was measured.
    pub report: Report,
    screen: Screen,
    clouds: Clouds,
    observer: Observer,
    traffic: Option<Traffic>,
    bytes_min: u64,
    digests_equal: bool,
    // When the switch to b began, on the traffic's clock.
    switched_us: u64,
}

impl Tour {
    /// Two clouds by this plan; the first is up afterwards.
    pub fn begin(plan: Plan, bytes_min: u64) -> Result<Self> {
        let mut screen = Screen::default();
        screen.title("Godwit: two clouds on this machine, live traffic, a switch, a crash");
        let mut clouds = Clouds::create(plan)?;
        screen.line(&format!("registry {}", clouds.layout.registry));
        clouds.start_cloud("a")?;
        // The second cloud's proxy serves clients from the first day; its nodes come later.
        for proxy in &mut clouds.cloud_mut("b").proxies {
            proxy.process.start()?;
        }
        let observer = Observer::of(&clouds.layout)?;
        for cloud in &clouds.layout.clouds {
            for shard in &cloud.shards {
                screen.line(&format!(
                    "shard {}  slots {:<11} node {}  sidecar {}",
                    shard.name, shard.slots, shard.node.client, shard.sidecar.stream
                ));
            }
            for proxy in &cloud.proxies {
                screen.line(&format!("cloud {}  proxy {}", cloud.name, proxy.client));
            }
        }
        let report = Report::default();
        Ok(Self {
            report,
            screen,
            clouds,
            observer,
            traffic: None,
            bytes_min,
            digests_equal: true,
            switched_us: 0,
        })
    }

    /// All steps.
    pub fn walk(&mut self) -> Result<()> {
        self.load()?;
        self.start_traffic();
        self.seed()?;
        self.follow()?;
        self.switch()?;
        self.go_back()?;
        self.crash()
    }

    fn load(&mut self) -> Result<()> {
        self.screen.step("Load real data: Debian's package lists");
        let (all, from) = packages::read()?;
        self.screen.line(&format!("{} packages from {from}", thousands(all.len() as u64)));
        let proxy = self.proxy("a")?;
        let (live, start, least) = (AtomicU64::new(0), Instant::now(), self.bytes_min);
        let screen = &mut self.screen;
        let filled = thread::scope(|scope| {
            let load = scope.spawn(|| fill::fill(&proxy, &all, least, &live));
            while !load.is_finished() {
                screen.live(&format!("{} in", megabytes(live.load(Ordering::Relaxed))));
                wait::pause(Duration::from_millis(100));
            }
            load.join().expect("loading does not panic")
        })?;
        let seconds = start.elapsed().as_secs_f64();
        let copies = match filled.copies {
            1 => String::new(),
            n => format!(" (the lists are small, so they were loaded {n} times under other names)"),
        };
        self.screen.result(
            true,
            &format!(
                "{} in {} commands, {seconds:.1} s: hashes, sorted sets, sets, lists, strings{copies}",
                megabytes(filled.bytes),
                thousands(filled.commands)
            ),
        );
        self.report.set("dataset_bytes", filled.bytes);
        Ok(())
    }

    fn start_traffic(&mut self) {
        let plan = TrafficPlan {
            writers: 8,
            readers: 4,
            rate: 250,
            read_rate: 200,
            writes_max: 1_000_000,
            ..TrafficPlan::small("demo", self.clouds.proxies())
        };
        self.screen.step("Traffic: writers and readers, from now until the end");
        self.screen.line(&format!(
            "{} writers and {} readers through the proxies of both clouds; every answer is remembered",
            plan.writers, plan.readers
        ));
        self.traffic = Some(Traffic::start(plan));
    }

    fn seed(&mut self) -> Result<()> {
        self.screen.step("1. Seed cloud b from a checkpoint of cloud a, then follow a's log");
        let start = Instant::now();
        let before = self.traffic()?.acknowledged();
        self.clouds.start_cloud("b")?;
        self.wait_followed("a", "b")?;
        let moved = sidecar_counter(&self.clouds.layout, "a", SEEDED);
        let written = self.traffic()?.acknowledged() - before;
        self.screen.result(
            moved > 0,
            &format!(
                "seeded in {:.1} s: {} of checkpoints moved, while {} writes were acknowledged",
                start.elapsed().as_secs_f64(),
                megabytes(moved),
                thousands(written)
            ),
        );
        if moved == 0 {
            bail!("cloud b follows without a seed, or the sidecars do not count {SEEDED}");
        }
        self.report.set("seed_bytes", moved);
        Ok(())
    }

    fn follow(&mut self) -> Result<()> {
        self.screen.step("2. Follow: lag, and digests at one position");
        let proxy = self.proxy("a")?;
        let screen = &mut self.screen;
        let show = |samples: &lag::Samples| {
            let (p50, p99) = (samples.percentile(0.5), samples.percentile(0.99));
            screen
                .live(&format!("lag p50 {p50:.2} ms, p99 {p99:.2} ms, {} probes", samples.count()));
        };
        let standby = self.clouds.cloud("b");
        let samples = lag::sample(&proxy, standby, LAG_SPAN, Duration::from_millis(10), show)?;
        let (p50, p99) = (samples.percentile(0.5), samples.percentile(0.99));
        self.screen.result(
            true,
            &format!(
                "lag p50 {p50:.2} ms, p99 {p99:.2} ms: {} probes, from acknowledged in a to readable in b",
                samples.count()
            ),
        );
        self.report.set("lag_ms_p50", (p50 * 100.0).round() / 100.0);
        self.report.set("lag_ms_p99", (p99 * 100.0).round() / 100.0);
        self.compare("a", "b")
    }

    fn switch(&mut self) -> Result<()> {
        self.screen.step("3. Planned switchover a -> b, under traffic");
        self.switched_us = self.traffic()?.now_us();
        let pause = self.switch_to("b", &["run", "--to", "b", "--yes"])?;
        self.report.set("switchover_pause_ms", pause);
        self.breathe();
        let ledger = self.traffic()?.ledger();
        self.screen.result(
            ledger.client_errors() == 0,
            &format!(
                "{} client errors, {} unknown outcomes so far",
                ledger.client_errors(),
                ledger.unknown()
            ),
        );
        self.errors(&ledger.errors);
        // Traffic goes on: what was acknowledged by now must be there, and there may be more.
        let verdict = check::check(&ledger, &mut Survivors::of(self.clouds.cloud("b"))?)?;
        self.screen.result(
            verdict.lost == 0 && verdict.damaged == 0,
            &format!(
                "{} acknowledged writes, {} missing in b",
                thousands(verdict.acknowledged),
                verdict.lost
            ),
        );
        Ok(())
    }

    fn go_back(&mut self) -> Result<()> {
        self.screen.step("4. Go back b -> a, by following and not by copying");
        self.wait_followed("b", "a")?;
        let pause = self.switch_to("a", &["failback", "--yes"])?;
        let moved = sidecar_counter(&self.clouds.layout, "b", SENT);
        let copied = sidecar_counter(&self.clouds.layout, "b", SEEDED);
        let traffic = self.traffic()?;
        let until = traffic.now_us();
        let written = traffic.ledger().payload_bytes(self.switched_us, until);
        self.screen.result(
            copied == 0,
            &format!(
                "{} moved for {} written since (keys and values); {} of checkpoints; pause {pause} ms",
                megabytes(moved),
                megabytes(written),
                megabytes(copied)
            ),
        );
        self.report.set("failback_bytes", moved);
        self.report.set("written_bytes", written);
        self.breathe();
        self.wait_followed("a", "b")?;
        self.compare("a", "b")
    }

    fn crash(&mut self) -> Result<()> {
        self.screen.step("5. Crash: SIGKILL of node a/0 under traffic, then failover to b");
        let slots: SlotSet = self.clouds.shard("a/0").slots.parse()?;
        let dead = |slot: u16| Slot::new(slot).is_some_and(|slot| slots.contains(slot));
        let killed = self.traffic()?.now_us();
        self.clouds.shard("a/0").node.process.kill9()?;
        self.screen.line("node a/0 is dead; its sidecar reads the rest of its log from disk");
        let commanded = self.traffic()?.now_us();
        let run = switchover_ok(&self.clouds.layout, &["failover", "--to", "b", "--yes"])?;
        self.steps(&run);
        let again =
            || self.traffic()?.ledger().served_again_us(commanded, dead).context("none yet");
        wait::until("a write to the dead shard's slots", FOLLOW_MAX, again)?;
        self.breathe();
        let ledger = self.traffic()?.ledger();
        let back = ledger.served_again_us(commanded, dead).context("writes were served again")?;
        let (failover, outage) = ((back - commanded) / 1000, (back - killed) / 1000);
        self.report.set("failover_ms", failover);
        self.report.set("outage_ms", outage);
        self.screen.result(
            true,
            &format!("writes again {failover} ms after the command, {outage} ms after the kill"),
        );
        self.judge()?;
        self.screen.line("cloud a starts again: rewinds what b does not have, and follows");
        self.clouds.start_cloud("a")?;
        self.wait_followed("b", "a")?;
        self.compare("b", "a")
    }

    /// Stops the traffic and cloud a, and reads cloud b's nodes directly.
    fn judge(&mut self) -> Result<()> {
        let ledger = self.traffic.take().context("traffic runs")?.stop();
        self.clouds.stop_cloud("a")?;
        self.screen.line("traffic ends, cloud a is stopped, the checker reads b's nodes directly");
        let verdict = check::check(&ledger, &mut Survivors::of(self.clouds.cloud("b"))?)?;
        let broken =
            verdict.duplicated + verdict.disordered + verdict.resurrected + verdict.damaged;
        self.screen.result(
            verdict.is_good(),
            &format!(
                "{} acknowledged writes: {} lost, {} duplicated, {} out of order, {} resurrected",
                thousands(verdict.acknowledged),
                verdict.lost,
                verdict.duplicated,
                verdict.disordered,
                verdict.resurrected
            ),
        );
        verdict.findings.iter().for_each(|finding| self.screen.line(finding));
        self.screen.result(
            ledger.client_errors() == 0 && ledger.wrong_reads == 0,
            &format!(
                "{} client errors, {} wrong reads of {}; {} unknown outcomes: {} happened, {} did not",
                ledger.client_errors(),
                ledger.wrong_reads,
                thousands(ledger.reads),
                ledger.unknown(),
                verdict.unknown_applied,
                verdict.unknown_not_applied
            ),
        );
        self.errors(&ledger.errors);
        self.report.set("acknowledged_writes", verdict.acknowledged);
        self.report.set("lost_writes", verdict.lost);
        self.report.set("broken_promises", broken);
        self.report.set("client_errors", ledger.client_errors());
        self.report.set("unknown_outcomes", ledger.unknown());
        self.report.set("unknown_applied", verdict.unknown_applied);
        self.report.set("unknown_not_applied", verdict.unknown_not_applied);
        self.report.set("reads", ledger.reads);
        self.report.set("stale_reads", ledger.stale_reads);
        self.report.set("wrong_reads", ledger.wrong_reads);
        Ok(())
    }

    /// Runs a switch; the pause is the slowest write that a client saw meanwhile.
    fn switch_to(&mut self, cluster: &str, args: &[&str]) -> Result<u64> {
        let before = self.traffic()?.now_us();
        let run = switchover_ok(&self.clouds.layout, args)?;
        let after = self.traffic()?.now_us();
        self.steps(&run);
        wait::pause(Duration::from_secs(1));
        let pause = self.traffic()?.ledger().slowest_us(before, after) / 1000;
        let stood = run.report["pause_ms"].as_f64().unwrap_or_default();
        self.screen.result(
            self.observer.active().as_deref() == Some(cluster),
            &format!(
                "cloud {cluster} is active, epoch {}; the tool took {:.2} s and counts {stood} ms without a primary; a client's slowest write took {pause} ms",
                self.observer.epoch(),
                run.took.as_secs_f64()
            ),
        );
        Ok(pause)
    }

    fn wait_followed(&mut self, active: &str, standby: &str) -> Result<()> {
        let shards = self.clouds.cloud(standby).shards.len();
        let (observer, screen) = (&self.observer, &mut self.screen);
        wait::until(&format!("{standby} to follow {active}"), FOLLOW_MAX, || {
            let streams = observer.streams(active);
            let shown = streams.iter().map(|(from, to, s)| {
                format!("{from} -> {to} {} ({} sent)", s.state, megabytes(s.sent_bytes))
            });
            screen.live(&shown.collect::<Vec<_>>().join(", "));
            observer.is_followed(active, shards)
        })
    }

    fn compare(&mut self, active: &str, standby: &str) -> Result<()> {
        let (active, standby) = (self.clouds.cloud(active), self.clouds.cloud(standby));
        let found = digest::compare(active, standby)?;
        let verdict = if found.equal() {
            "equal".to_owned()
        } else {
            format!("{} slots differ, such as {:?}", found.differing.len(), found.differing.first())
        };
        self.screen.result(
            found.equal(),
            &format!(
                "digests of both clouds at {}: {verdict}; {} keys, {}",
                found.positions.join(" and "),
                thousands(found.keys),
                megabytes(found.bytes)
            ),
        );
        self.digests_equal &= found.equal();
        self.report.set("digests_equal", self.digests_equal);
        self.report.set("digest_keys", found.keys);
        self.report.set("digest_bytes", found.bytes);
        Ok(())
    }

    fn breathe(&mut self) {
        let start = Instant::now();
        while let (true, Some(traffic)) = (start.elapsed() < BREATH, &self.traffic) {
            let acknowledged = traffic.acknowledged();
            self.screen.live(&format!("{} writes acknowledged", thousands(acknowledged)));
            wait::pause(Duration::from_millis(200));
        }
    }

    /// The tool's steps and how long each took.
    fn steps(&mut self, run: &Run) {
        let steps = run.report["steps"].as_array().into_iter().flatten();
        let shown = steps.filter_map(|s| Some(format!("{} {} ms", s["name"].as_str()?, s["ms"])));
        self.screen.line(&shown.collect::<Vec<_>>().join(", "));
    }

    fn errors(&mut self, errors: &[String]) {
        errors.iter().take(5).for_each(|error| self.screen.line(&format!("an error: {error}")));
    }

    fn proxy(&self, cloud: &str) -> Result<String> {
        let proxy = self.clouds.cloud(cloud).proxies.first();
        Ok(proxy.context("the cloud has a proxy")?.client.clone())
    }

    fn traffic(&self) -> Result<&Traffic> {
        self.traffic.as_ref().context("traffic runs")
    }

    /// Shows and writes the report, and ends the clouds.
    pub fn finish(&mut self, path: &Path) -> Result<()> {
        self.traffic = None;
        self.clouds.down();
        let panics = self.clouds.panics();
        self.report.set("panics", panics.len() as u64);
        self.screen.step("Report");
        self.report.show(&mut self.screen);
        panics.iter().for_each(|line| self.screen.result(false, line));
        self.report.save(path)?;
        self.screen.line(&format!("written to {}", path.display()));
        Ok(())
    }
}
