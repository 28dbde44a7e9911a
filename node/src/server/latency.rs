//! LATENCY: what took long, and how long commands take.

use std::fmt::Write;

use resp::reply::Writer;

use super::session::Session;
use crate::command::{Args, Fail, table};
use crate::settings;
use crate::stats::commands::{self, Total};
use crate::stats::events::{self, Sample, Series};

pub(super) fn latency(
    session: &mut Session,
    args: &Args<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Fail> {
    let mut out = Writer::new(out, session.version);
    match &args.at(1).to_ascii_lowercase()[..] {
        b"latest" => {
            let all = events::all();
            out.array(all.len());
            for (name, series) in all {
                let last = series.samples.back().copied();
                let Sample { at_s, took_ms } = last.unwrap_or(Sample { at_s: 0, took_ms: 0 });
                out.array(4);
                out.bulk(name.as_bytes());
                out.integer(at_s as i64);
                out.integer(took_ms as i64);
                out.integer(series.max_ms as i64);
            }
        }
        b"history" => {
            let samples = events::named(args.at(2)).unwrap_or_default().samples;
            out.array(samples.len());
            for sample in samples {
                out.array(2);
                out.integer(sample.at_s as i64);
                out.integer(sample.took_ms as i64);
            }
        }
        b"reset" => {
            let forgotten = events::forget(&args.from(2).collect::<Vec<_>>());
            out.integer(forgotten as i64);
        }
        b"graph" => {
            let event = String::from_utf8_lossy(args.at(2));
            let none = || Fail::text(format!("ERR No samples available for event '{event}'"));
            let series = events::named(args.at(2)).ok_or_else(none)?;
            out.verbatim(*b"txt", graph(&event, &series).as_bytes());
        }
        b"doctor" => out.verbatim(*b"txt", doctor().as_bytes()),
        b"histogram" => histogram(args, &mut out),
        _ => return Err(super::unknown_subcommand_syntax(args)),
    }
    Ok(())
}

fn histogram(args: &Args<'_>, out: &mut Writer<'_>) {
    let mut totals = commands::totals();
    totals.retain(|total| total.times.total() > 0);
    let of = |name: &str| {
        let of_container = |total: &&Total| {
            let container = table::container_of(total.spec);
            total.spec.name.eq_ignore_ascii_case(name)
                || container.is_some_and(|container| container.eq_ignore_ascii_case(name))
        };
        totals.iter().filter(of_container).collect::<Vec<_>>()
    };
    let shown: Vec<&Total> = match args.len() {
        2 => totals.iter().collect(),
        _ => args.from(2).flat_map(|name| of(&String::from_utf8_lossy(name))).collect(),
    };
    out.map(shown.len());
    for total in shown {
        out.bulk(total.spec.name.as_bytes());
        out.map(2);
        out.bulk(b"calls");
        out.integer(total.times.total() as i64);
        out.bulk(b"histogram_usec");
        let doublings = total.times.doublings();
        out.map(doublings.len());
        for (end_us, count) in doublings {
            out.integer(end_us as i64);
            out.integer(count as i64);
        }
    }
}

/// One row for each sample, the newest last: how long ago, how long, and a bar.
fn graph(event: &str, series: &Series) -> String {
    const WIDTH: u64 = 60;
    let high = series.samples.iter().map(|sample| sample.took_ms).max().unwrap_or(0);
    let low = series.samples.iter().map(|sample| sample.took_ms).min().unwrap_or(0);
    let mut text =
        format!("{event} - high {high} ms, low {low} ms (all time high {} ms)\n", series.max_ms);
    text += &"-".repeat(80);
    let now_s = ops::clock::unix_ms() / 1000;
    for sample in &series.samples {
        let ago = ago(now_s.saturating_sub(sample.at_s));
        let bar = "#".repeat((sample.took_ms * WIDTH / high.max(1)) as usize);
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{ago:>4} {:>7} ms {bar}", sample.took_ms);
    }
    text.push('\n');
    text
}

fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn doctor() -> String {
    let all = events::all();
    if all.is_empty() && settings::LATENCY_MS.get() == 0 {
        return "Latency monitoring is disabled in this node. You may use \"CONFIG SET \
                latency-monitor-threshold <milliseconds>\" in order to enable it.\n"
            .to_owned();
    }
    if all.is_empty() {
        return "No latency spike was observed during the lifetime of this node, not in the \
                slightest bit.\n"
            .to_owned();
    }
    let mut text = "Latency spikes were observed in this node:\n\n".to_owned();
    for (number, (name, series)) in all.iter().enumerate() {
        let count = series.samples.len() as u64;
        let mean = series.samples.iter().map(|s| s.took_ms).sum::<u64>() / count.max(1);
        let ends = series.samples.front().zip(series.samples.back());
        let span = ends.map_or(0, |(first, last)| last.at_s.saturating_sub(first.at_s));
        let period = span as f64 / count as f64;
        let _ = writeln!(
            text,
            "{}. {name}: {count} latency spikes (average {mean}ms, period {period:.2} sec). Worst \
             all time event {}ms.",
            number + 1,
            series.max_ms
        );
    }
    text.push_str(
        "\nSLOWLOG GET shows which commands were slow; INFO rocksdb and the metrics show stalls \
         and compactions.\n",
    );
    text
}
