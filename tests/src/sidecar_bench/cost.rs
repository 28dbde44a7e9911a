//! What a sidecar costs its primary: rounds with it and without it, one after the other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::account::{cpu, median, memory_mb, pin};
use crate::client::Client;
use crate::clouds::{Clouds, Observer, Plan};
use crate::demo::lag::Samples;
use crate::story::STUCK;
use crate::stream_bench::{Bench, write};
use crate::wait;

/// How often the probe asks.
const PROBE: Duration = Duration::from_millis(2);
/// Before a round is measured.
const WARM_UP: Duration = Duration::from_secs(2);

/// One round.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// Microseconds of the node's processor for a write.
    node: f64,
    /// Milliseconds of 99 of 100 probes.
    p99: f64,
    /// Microseconds for a write: of the sidecar, and of the standby's.
    sidecars: [f64; 2],
}

/// Measures, and answers a report.
pub fn run(rounds: usize, share: bool, bench: &Bench) -> Result<String> {
    let scratch = tempfile::Builder::new().prefix("godwit-cost-").tempdir()?;
    let mut plan = Plan::two_clouds(scratch.path());
    plan.tls = bench.tls;
    for (_, shards) in &mut plan.clouds {
        *shards = vec!["0-16383".to_owned()];
    }
    let mut clouds = Clouds::create(plan)?;
    clouds.start_all()?;
    let observer = Observer::of(&clouds.layout)?;
    let follows = |observer: &Observer| {
        wait::until("b to follow a and be level", STUCK, || {
            observer.is_followed("a", 1)?;
            let behind: u64 = observer.streams("a").iter().map(|(_, _, s)| s.behind_bytes).sum();
            anyhow::ensure!(behind < 1 << 20, "{behind} bytes behind");
            Ok(())
        })
    };
    follows(&observer)?;
    let (mut on, mut off) = (Vec::new(), Vec::new());
    let mut memory = [0.0_f64; 2];
    for _ in 0..rounds {
        on.push(round(&clouds, bench, share, true)?);
        for (most, cloud) in memory.iter_mut().zip(["a", "b"]) {
            *most = most.max(memory_mb(&clouds.cloud(cloud).shards[0].sidecar.process, "VmRSS")?);
        }
        clouds.shard("a/0").sidecar.process.term()?;
        off.push(round(&clouds, bench, share, false)?);
        clouds.shard("a/0").sidecar.process.start()?;
        follows(&observer)?;
    }
    let of = |rounds: &[Round], what: fn(&Round) -> f64| median(rounds.iter().map(what).collect());
    let (node_on, node_off) = (of(&on, |r| r.node), of(&off, |r| r.node));
    let (p99_on, p99_off) = (of(&on, |r| r.p99), of(&off, |r| r.p99));
    let most = ["a", "b"].map(|c| memory_mb(&clouds.cloud(c).shards[0].sidecar.process, "VmHWM"));
    let [most_a, most_b] = most;
    Ok(format!(
        "{rounds} rounds of {} s, {} writes/s of {} B{}{}; medians, sidecar on / off\n\
         the primary's processor a write: {node_on:.2} / {node_off:.2} us: {:+.1} %\n\
         p99 of a SET beside that: {p99_on:.2} / {p99_off:.2} ms: {:.2}x\n\
         the sidecars' processor a write: source {:.2} us, target {:.2} us\n\
         memory of the sidecars: {:.0} and {:.0} MB while it flows, {:.0} and {:.0} MB at most",
        bench.span.as_secs(),
        bench.rate,
        bench.value,
        if bench.tls { ", TLS" } else { "" },
        if share { ", the sidecar on its node's processor" } else { "" },
        (node_on / node_off - 1.0) * 100.0,
        p99_on / p99_off,
        of(&on, |r| r.sidecars[0]),
        of(&on, |r| r.sidecars[1]),
        memory[0],
        memory[1],
        most_a?,
        most_b?,
    ))
}

/// Writes for a while. The primary has a processor of its own, with its sidecar if they share it: what the
/// standby and the clients do here, they would do on other machines.
fn round(clouds: &Clouds, bench: &Bench, share: bool, with: bool) -> Result<Round> {
    let (a, b) = (&clouds.cloud("a").shards[0], &clouds.cloud("b").shards[0]);
    for process in clouds.layout.processes().filter(|process| process.alive()) {
        let with_primary = process.name == "a-0-node" || (share && process.name == "a-0-sidecar");
        pin(process.pid(), usize::from(!with_primary))?;
    }
    pin(std::process::id(), 1)?;
    let end = Arc::new(AtomicBool::new(false));
    // Nobody asks when the probes of the stream were sent.
    let (sender, written) = mpsc::channel();
    let (address, writes, stop) = (a.node.client.clone(), bench.clone(), end.clone());
    let writer = thread::spawn(move || write(&address, &writes, &sender, &stop));
    wait::pause(WARM_UP);
    let account = || -> Result<[f64; 3]> {
        let sidecar = if with { cpu(&a.sidecar.process)? } else { 0.0 };
        Ok([cpu(&a.node.process)?, sidecar, cpu(&b.sidecar.process)?])
    };
    let mut probe = Client::connect(&a.node.client)?;
    let (before, begun, mut samples) = (account()?, Instant::now(), Samples::default());
    while begun.elapsed() < bench.span {
        let asked = Instant::now();
        probe.call(&["SET", "cost", "probe"])?;
        samples.add(asked.elapsed().as_secs_f64() * 1e3);
        wait::pause(PROBE);
    }
    let (after, seconds) = (account()?, begun.elapsed().as_secs_f64());
    end.store(true, Ordering::Relaxed);
    writer.join().map_err(|_| anyhow::anyhow!("the writer died"))??;
    drop(written);
    let each = |n: usize| (after[n] - before[n]) * 1e6 / (bench.rate as f64 * seconds);
    Ok(Round { node: each(0), p99: samples.percentile(0.99), sidecars: [each(1), each(2)] })
}
