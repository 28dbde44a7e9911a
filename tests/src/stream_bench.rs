//! `make bench-stream`: writes at a steady rate on one side, and how late the other shows them; what
//! that costs in bytes on the wire, processor and memory of the sidecars. Through toxic proxies the
//! link is as long as one likes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::client::Client;
use crate::clouds::observer::{metric, sidecar_counter};
use crate::clouds::start::http_get;
use crate::clouds::{Clouds, Observer, Plan};
use crate::demo::lag::Samples;
use crate::sidecar_bench::account::{cpu, memory_mb as rss};
use crate::story::STUCK;
use crate::wait;

/// A probe is written this often, with what the rate asks for in that time.
const TICK: Duration = Duration::from_millis(1);
/// How long between two looks at the standby.
const LOOK: Duration = Duration::from_micros(100);
/// Before anything is measured: the stream finds out about link and values.
const WARM_UP: Duration = Duration::from_secs(3);
/// Keys that are written over and over.
const KEYS: u64 = 100_000;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Bench {
    /// How late each direction of the link is.
    pub latency: Duration,
    /// Writes a second.
    pub rate: u64,
    /// Bytes of a value.
    pub value: usize,
    /// Values that no compression makes smaller, instead of records like JSON.
    pub random: bool,
    /// How long.
    pub span: Duration,
    /// Whether the sidecars speak TLS.
    pub tls: bool,
    /// Flags of the sidecars beside the usual.
    pub flags: Vec<String>,
}

/// Runs it and answers a report.
pub fn run(bench: &Bench) -> Result<String> {
    let scratch = tempfile::Builder::new().prefix("godwit-stream-").tempdir()?;
    let mut plan = Plan::two_clouds(scratch.path());
    plan.toxics = !bench.latency.is_zero();
    plan.tls = bench.tls;
    plan.args.push(("godwit-replicator".to_owned(), bench.flags.clone()));
    for (_, shards) in &mut plan.clouds {
        *shards = vec!["0-16383".to_owned()];
    }
    let mut clouds = Clouds::create(plan)?;
    clouds.start_all()?;
    let observer = Observer::of(&clouds.layout)?;
    wait::until("b to follow a", STUCK, || observer.is_followed("a", 1))?;
    if let Some(toxics) = &clouds.toxics {
        let late = json!({"latency": bench.latency.as_millis(), "jitter": 0});
        for way in ["upstream", "downstream"] {
            toxics.toxic("b-0-stream", "latency", way, late.clone())?;
        }
    }
    let end = Arc::new(AtomicBool::new(false));
    let (sender, written) = mpsc::channel();
    let (address, writes, stop) =
        (clouds.cloud("a").shards[0].node.client.clone(), bench.clone(), end.clone());
    let writer = thread::spawn(move || write(&address, &writes, &sender, &stop));
    let mut b = Client::connect(&clouds.cloud("b").shards[0].node.client)?;
    b.call(&["READONLY"])?;
    let begun = Instant::now();
    let mut seen = 0;
    watch(&mut b, &written, &mut seen, WARM_UP)?;
    let before = Account::of(&clouds)?;
    let samples = watch(&mut b, &written, &mut seen, bench.span)?;
    let after = Account::of(&clouds)?;
    end.store(true, Ordering::Relaxed);
    let done = writer.join().map_err(|_| anyhow::anyhow!("the writer died"))??;
    let rate = done as f64 / begun.elapsed().as_secs_f64();
    let report = report(bench, rate, &samples, &before, &after);
    drop(clouds);
    Ok(report)
}

/// Writes at a steady rate, and says when each probe was sent.
pub(crate) fn write(
    address: &str,
    bench: &Bench,
    sent: &mpsc::Sender<Instant>,
    stop: &AtomicBool,
) -> Result<u64> {
    let mut client = Client::connect(address)?;
    let mut random = rand::rngs::SmallRng::seed_from_u64(1);
    let (begun, mut written) = (Instant::now(), 0);
    for tick in 1_u32.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let due = TICK * tick;
        wait::pause(due.saturating_sub(begun.elapsed()));
        let wanted = (due.as_secs_f64() * bench.rate as f64) as u64 - written;
        for _ in 0..wanted {
            let key = format!("key:{}", random.random_range(0..KEYS));
            client.push(&[b"SET", key.as_bytes(), &value(bench, &mut random)]);
        }
        client.push(&["SET", "probe", &tick.to_string()]);
        if sent.send(Instant::now()).is_err() {
            break;
        }
        client.flush()?;
        for _ in 0..=wanted {
            client.answer()?;
        }
        written += wanted;
    }
    Ok(written)
}

/// A value of about the length asked for.
fn value(bench: &Bench, random: &mut rand::rngs::SmallRng) -> Vec<u8> {
    if bench.random {
        let mut bytes = vec![0; bench.value];
        random.fill(&mut bytes[..]);
        return bytes;
    }
    let id: u32 = random.random_range(0..1_000_000);
    let mut text = format!(
        r#"{{"id":{id},"user":"user-{}","state":"active","score":{},"updated_at":"2026-11-22T{:02}:{:02}:{:02}Z""#,
        random.random_range(0..100_000),
        random.random_range(0..1000),
        random.random_range(0..24),
        random.random_range(0..60),
        random.random_range(0..60),
    );
    let mut field = 0;
    while text.len() + 24 < bench.value {
        field += 1;
        text += &format!(r#","attribute_{field}":{}"#, random.random_range(0..100_000));
    }
    text.push('}');
    text.into_bytes()
}

/// Looks at the standby for a while; how late each probe was that appeared in that time. `seen` is the
/// number of the last one that did: their moments come in order, one for each.
fn watch(
    b: &mut Client,
    written: &mpsc::Receiver<Instant>,
    seen: &mut u64,
    span: Duration,
) -> Result<Samples> {
    let mut samples = Samples::default();
    let begun = Instant::now();
    while begun.elapsed() < span {
        let value = b.call(&["GET", "probe"])?;
        let number = value.as_text().and_then(|text| text.parse().ok()).unwrap_or(0);
        let now = Instant::now();
        while *seen < number {
            let sent = written.recv().context("the writer ended")?;
            samples.add((now - sent).as_secs_f64() * 1e3);
            *seen += 1;
        }
        wait::pause(LOOK);
    }
    Ok(samples)
}

/// What the sidecars have used by now.
struct Account {
    at: Instant,
    cpu: [f64; 2],
    rss_mb: [f64; 2],
    wire: u64,
    log: u64,
    frames: u64,
    packings: String,
}

impl Account {
    fn of(clouds: &Clouds) -> Result<Self> {
        let sidecars = ["a", "b"].map(|cloud| &clouds.cloud(cloud).shards[0].sidecar);
        let page = http_get(&format!("http://{}/metrics", sidecars[0].metrics))?;
        let packings = page.lines().filter(|l| l.contains("packed_frames_total{")).map(|line| {
            let packing = line.split("packing=\"").nth(1).and_then(|rest| rest.split('"').next());
            let count = line.rsplit(' ').next().unwrap_or_default();
            format!("{} {count}", packing.unwrap_or("?"))
        });
        Ok(Self {
            at: Instant::now(),
            cpu: [cpu(&sidecars[0].process)?, cpu(&sidecars[1].process)?],
            rss_mb: [rss(&sidecars[0].process, "VmHWM")?, rss(&sidecars[1].process, "VmHWM")?],
            wire: sidecar_counter(&clouds.layout, "a", "godwit_replicator_sent_bytes_total"),
            log: metric(&page, "godwit_replicator_packed_log_bytes_total"),
            frames: metric(&page, "godwit_replicator_frames_sent_total"),
            packings: packings.collect::<Vec<_>>().join(", "),
        })
    }
}

fn report(bench: &Bench, rate: f64, lag: &Samples, before: &Account, after: &Account) -> String {
    let seconds = (after.at - before.at).as_secs_f64();
    let writes = rate * seconds;
    let micros = |n: usize| (after.cpu[n] - before.cpu[n]) * 1e6 / writes;
    let (wire, log) = (after.wire - before.wire, after.log - before.log);
    format!(
        "{rate:.0} writes/s of {} B ({}), {} ms each way{}: written to readable p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms ({} samples)\n\
         wire {:.1} MB for {:.1} MB of log: {:.2}x; {:.0} frames/s; packed so far: {}\n\
         processor a write: source {:.1} us, target {:.1} us; memory at most: {:.0} and {:.0} MB",
        bench.value,
        if bench.random { "random" } else { "like JSON" },
        bench.latency.as_millis(),
        if bench.tls { ", TLS" } else { "" },
        lag.percentile(0.5),
        lag.percentile(0.99),
        lag.percentile(1.0),
        lag.count(),
        wire as f64 / 1e6,
        log as f64 / 1e6,
        wire as f64 / log.max(1) as f64,
        (after.frames - before.frames) as f64 / seconds,
        after.packings,
        micros(0),
        micros(1),
        after.rss_mb[0],
        after.rss_mb[1],
    )
}
