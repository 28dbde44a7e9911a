//! What a sidecar costs its primary: rounds with it and without it, one after the other. The standby and
//! the sidecars work on this machine too, and two virtual processors are often one of silicon, so a third
//! kind of round has no sidecar and a stranger who works as much as those did: what is beside that is the
//! sidecar's.

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
/// A stranger works for a part of each of these, and rests.
const TURN: Duration = Duration::from_millis(2);
/// What it copies: about as much as a level-2 cache holds.
const STRANGER_BYTES: usize = 1 << 20;
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
    /// Seconds of processor a second of all that works for the standby.
    beside: f64,
}

/// Who works beside the primary.
#[derive(Clone, Copy, Debug)]
enum Beside {
    Sidecar,
    Nobody,
    /// A stranger, for this part of the time.
    Stranger(f64),
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
    let (mut on, mut off, mut strange) = (Vec::new(), Vec::new(), Vec::new());
    let mut memory = [0.0_f64; 2];
    for _ in 0..rounds {
        let with = round(&clouds, bench, share, Beside::Sidecar)?;
        on.push(with);
        for (most, cloud) in memory.iter_mut().zip(["a", "b"]) {
            *most = most.max(memory_mb(&clouds.cloud(cloud).shards[0].sidecar.process, "VmRSS")?);
        }
        clouds.shard("a/0").sidecar.process.term()?;
        off.push(round(&clouds, bench, share, Beside::Nobody)?);
        strange.push(round(&clouds, bench, share, Beside::Stranger(with.beside))?);
        clouds.shard("a/0").sidecar.process.start()?;
        follows(&observer)?;
    }
    let of = |rounds: &[Round], what: fn(&Round) -> f64| median(rounds.iter().map(what).collect());
    let (node_on, node_off) = (of(&on, |r| r.node), of(&off, |r| r.node));
    let (p99_on, p99_off) = (of(&on, |r| r.p99), of(&off, |r| r.p99));
    let (node_strange, p99_strange) = (of(&strange, |r| r.node), of(&strange, |r| r.p99));
    let most = ["a", "b"].map(|c| memory_mb(&clouds.cloud(c).shards[0].sidecar.process, "VmHWM"));
    let [most_a, most_b] = most;
    Ok(format!(
        "{rounds} rounds of {} s, {} writes/s of {} B{}{}; medians, sidecar on / off / off, with a stranger at work {:.0} % of the time\n\
         the primary's processor a write: {node_on:.2} / {node_off:.2} / {node_strange:.2} us: {:+.1} %, {:+.1} % beside the stranger\n\
         p99 of a SET beside that: {p99_on:.2} / {p99_off:.2} / {p99_strange:.2} ms: {:.2}x, {:.2}x beside the stranger\n\
         the sidecars' processor a write: source {:.2} us, target {:.2} us\n\
         memory of the sidecars: {:.0} and {:.0} MB while it flows, {:.0} and {:.0} MB at most",
        bench.span.as_secs(),
        bench.rate,
        bench.value,
        if bench.tls { ", TLS" } else { "" },
        if share { ", the sidecar on its node's processor" } else { "" },
        of(&on, |r| r.beside) * 100.0,
        (node_on / node_off - 1.0) * 100.0,
        (node_on / node_strange - 1.0) * 100.0,
        p99_on / p99_off,
        p99_on / p99_strange,
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
fn round(clouds: &Clouds, bench: &Bench, share: bool, beside: Beside) -> Result<Round> {
    let with = matches!(beside, Beside::Sidecar);
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
    let stranger = match beside {
        Beside::Stranger(part) => {
            let stop = end.clone();
            Some(thread::spawn(move || work(part, &stop)))
        }
        Beside::Sidecar | Beside::Nobody => None,
    };
    wait::pause(WARM_UP);
    let account = || -> Result<[f64; 4]> {
        let sidecar = if with { cpu(&a.sidecar.process)? } else { 0.0 };
        let standby = [cpu(&b.sidecar.process)?, cpu(&b.node.process)?];
        Ok([cpu(&a.node.process)?, sidecar, standby[0], standby[1]])
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
    if let Some(stranger) = stranger {
        stranger.join().map_err(|_| anyhow::anyhow!("the stranger died"))?;
    }
    let each = |n: usize| (after[n] - before[n]) * 1e6 / (bench.rate as f64 * seconds);
    let beside = (1..4).map(|n| after[n] - before[n]).sum::<f64>() / seconds;
    let p99 = samples.percentile(0.99);
    Ok(Round { node: each(0), p99, sidecars: [each(1), each(2)], beside })
}

/// Copies memory for this part of each turn, on the processor of those who are not the primary.
fn work(part: f64, end: &AtomicBool) {
    let mut bytes = vec![1_u8; STRANGER_BYTES];
    let busy = TURN.mul_f64(part.clamp(0.0, 1.0));
    while !end.load(Ordering::Relaxed) {
        let begun = Instant::now();
        while begun.elapsed() < busy {
            bytes.copy_within(..STRANGER_BYTES / 2, STRANGER_BYTES / 2);
            std::hint::black_box(&mut bytes);
        }
        wait::pause(TURN.saturating_sub(begun.elapsed()));
    }
}
