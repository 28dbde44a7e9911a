//! What is printed: medians, ratios, and the goals beside them.

use crate::compare::Found;
use crate::load::{Load, Sample};
use crate::say;

/// A line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Line {
    /// A command, pipelined by so many.
    Load(Load, usize),
    /// GET by 16 right after a start: nothing is cached.
    Cold,
}

/// Who was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Redis,
    Node,
    Floor,
}

/// What a line is measured against.
enum Goal {
    /// So many times redis-server's CPU.
    Redis(f64),
    /// The floor's CPU and so many microseconds.
    FloorPlus(f64),
    /// So many times the floor's CPU.
    Floor(f64),
}

impl Line {
    const fn goal(self) -> Goal {
        match self {
            Self::Cold => Goal::Floor(1.3),
            Self::Load(_, 1) => Goal::Redis(1.15),
            Self::Load(Load::Set, _) => Goal::FloorPlus(1.5),
            Self::Load(Load::Get, _) => Goal::Redis(1.3),
            Self::Load(Load::Hset, _) => Goal::Redis(2.1),
            Self::Load(Load::Zadd, _) => Goal::Redis(1.2),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Cold => "GET by 16, cold".to_owned(),
            Self::Load(load, pipeline) => format!("{} by {pipeline}", load.name()),
        }
    }
}

fn median(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints the table of one size of values.
pub(crate) fn print(value_bytes: usize, keys: u64, rounds: usize, found: &Found, notes: &[String]) {
    say!("\nvalues of {value_bytes} bytes, {keys} keys, medians of {rounds} rounds");
    say!("CPU of the server in us an operation; thousands of operations a second; p99 in ms\n");
    say!("| | redis-server | godwit-node | RocksDB | x redis | x RocksDB | p99 x | goal | |");
    say!("|---|---|---|---|---|---|---|---|---|");
    let mut lines: Vec<Line> = found.keys().map(|(line, _)| *line).collect();
    lines.dedup();
    for line in lines {
        let of = |who| found.get(&(line, who)).map(|samples| Medians::of(samples));
        let (redis, node, floor) = (of(Who::Redis), of(Who::Node), of(Who::Floor));
        let Some(node) = node else { continue };
        let to_redis = redis.as_ref().map(|redis| node.cpu_us / redis.cpu_us);
        let to_floor = floor.as_ref().map(|floor| node.cpu_us / floor.cpu_us);
        let (goal, reached) = match line.goal() {
            Goal::Redis(times) => (format!("{times}x redis"), to_redis.map(|found| found <= times)),
            Goal::Floor(times) => {
                (format!("{times}x RocksDB"), to_floor.map(|found| found <= times))
            }
            Goal::FloorPlus(more) => {
                let within = floor.as_ref().map(|floor| node.cpu_us <= floor.cpu_us + more);
                (format!("RocksDB + {more} us"), within)
            }
        };
        let reached = reached.map_or("", |reached| if reached { "reached" } else { "missed" });
        let p99 = redis.as_ref().map(|redis| node.p99_ms / redis.p99_ms);
        let ratio = |found: Option<f64>| found.map_or(String::new(), |found| format!("{found:.2}"));
        let cell = |found: Option<Medians>| found.map_or(String::new(), |found| found.cell());
        let floor = floor.map_or(String::new(), |floor| format!("{:.2}", floor.cpu_us));
        say!(
            "| {} | {} | {} | {floor} | {} | {} | {} | {goal} | {reached} |",
            line.name(),
            cell(redis),
            cell(Some(node)),
            ratio(to_redis),
            ratio(to_floor),
            ratio(p99)
        );
    }
    say!("");
    for note in notes {
        say!("{note}");
    }
}

struct Medians {
    cpu_us: f64,
    rate: f64,
    p99_ms: f64,
}

impl Medians {
    fn of(samples: &[Sample]) -> Self {
        Self {
            cpu_us: median(samples, |sample| sample.cpu_us),
            rate: median(samples, |sample| sample.rate),
            p99_ms: median(samples, |sample| sample.p99_ms),
        }
    }

    fn cell(&self) -> String {
        format!("{:.2} / {:.0} k / {:.2}", self.cpu_us, self.rate / 1e3, self.p99_ms)
    }
}
