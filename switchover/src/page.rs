//! A report as one page that needs nothing else: figures, and when each phase of each shard was.

use std::fmt::Write as _;

use crate::history::Entry;
use crate::report::{Mark, Report};
use crate::time::utc;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 150.0;
const ROW: f64 = 26.0;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}\
table{border-collapse:collapse}td,th{padding:.2em 1em .2em 0;text-align:left;vertical-align:top}\
svg text{font:12px system-ui,sans-serif;fill:#222}.bad{color:#a00}.good{color:#060}";

/// Text that stands for itself in HTML.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn colour(phase: &str) -> &'static str {
    match phase {
        "freeze" => "#7b9acc",
        "end" => "#e2a76f",
        "drain" | "level" => "#e8d174",
        "commit" => "#d05c5c",
        "promote" | "promoted" => "#6fae75",
        "register" => "#8cc6c0",
        "reverse" => "#b39ddb",
        _ => "#999999",
    }
}

/// One row of bars: each from where the one before ended.
fn row(svg: &mut String, y: f64, name: &str, bars: &[(&str, f64)], whole: f64) {
    let x = |ms: f64| LEFT + (WIDTH - LEFT) * (ms / whole).clamp(0.0, 1.0);
    // Writing to a string does not fail.
    let _ = write!(svg, "<text x=\"0\" y=\"{:.1}\">{}</text>", y + 16.0, escaped(name));
    let mut from = 0.0;
    for (phase, to) in bars {
        let to = to.max(from);
        let _ = write!(
            svg,
            "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"20\" fill=\"{}\"><title>{}: {from:.1} to {to:.1} ms</title></rect>",
            x(from),
            (x(to) - x(from)).max(1.0),
            colour(phase),
            escaped(phase)
        );
        from = to;
    }
}

fn of_shard<'a>(marks: &'a [Mark], shard: &str) -> Vec<(&'a str, f64)> {
    let mut bars: Vec<_> =
        marks.iter().filter(|m| m.shard == shard).map(|m| (m.did.as_str(), m.at_ms)).collect();
    bars.sort_by(|a, b| a.1.total_cmp(&b.1));
    bars
}

/// When each step and each shard's phase was.
fn timeline(report: &Report) -> String {
    let ends = report.steps.iter().map(|s| s.at_ms).chain(report.marks.iter().map(|m| m.at_ms));
    let whole = ends.fold(1.0, f64::max);
    let mut shards: Vec<_> = report.marks.iter().map(|m| m.shard.as_str()).collect();
    shards.sort_unstable();
    shards.dedup();
    let height = ROW * (shards.len() as f64 + 2.0);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" width=\"100%\" role=\"img\" aria-label=\"timeline\">"
    );
    let steps: Vec<_> = report.steps.iter().map(|s| (s.name.as_str(), s.at_ms)).collect();
    row(&mut svg, 0.0, "steps", &steps, whole);
    let mut y = ROW;
    for shard in shards {
        row(&mut svg, y, shard, &of_shard(&report.marks, shard), whole);
        y += ROW;
    }
    let _ = write!(
        svg,
        "<text x=\"{LEFT}\" y=\"{0:.1}\">0 ms</text><text x=\"{WIDTH}\" y=\"{0:.1}\" text-anchor=\"end\">{whole:.1} ms</text></svg>",
        y + 16.0
    );
    svg
}

/// The page of an operation.
pub(crate) fn of(service: &str, entry: &Entry, report: &Report) -> String {
    let mut rows = String::new();
    let mut line = |name: &str, value: String| {
        let _ = write!(rows, "<tr><th>{}</th><td>{}</td></tr>", escaped(name), escaped(&value));
    };
    line("id", entry.id.clone());
    line("began", utc(entry.began_ms));
    if let Some(by) = &entry.by {
        line("by", by.to_string());
    }
    if let Some(reason) = &entry.reason {
        line("reason", reason.clone());
    }
    if let Some(epoch) = report.epoch {
        line("epoch", epoch.to_string());
    }
    if let Some(pause) = report.pause_ms {
        line("pause", format!("{pause} ms"));
    }
    if let Some(wait) = report.lease_wait_ms {
        line("lease wait", format!("{wait} ms"));
    }
    if let Some(lost) = &report.lost {
        line("lost", lost.text());
    }
    for loss in &report.losses {
        line("", loss.text());
    }
    if let Some(resize) = &report.resize {
        for (name, value) in resize.lines(&report.from, &report.to) {
            line(name, value);
        }
    }
    for proxy in &report.proxies {
        line("proxy", format!("{} routed anew {} ms after the freeze", proxy.id, proxy.pause_ms));
    }
    for (name, proxies) in [
        ("silent", &report.proxies_silent),
        ("no answer", &report.proxies_missing),
        ("not holding", &report.proxies_not_holding),
    ] {
        if !proxies.is_empty() {
            line(name, proxies.join(", "));
        }
    }
    if let Some(message) = &report.message {
        line("", message.clone());
    }
    let mut steps = String::new();
    for step in &report.steps {
        let _ = write!(
            steps,
            "<tr><td><svg width=\"12\" height=\"12\"><rect width=\"12\" height=\"12\" fill=\"{}\"/></svg> {}</td><td>{} ms</td></tr>",
            colour(&step.name),
            escaped(&step.name),
            step.ms
        );
    }
    let title = format!("{} {} to {} of {service}", report.operation, report.from, report.to);
    let class = if report.exit == 0 { "good" } else { "bad" };
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}</style></head><body>\
<h1>{0}: <span class=\"{class}\">{1}</span></h1><table>{rows}</table><h2>When</h2>{2}<h2>Steps</h2><table>{steps}</table></body></html>\n",
        escaped(&title),
        escaped(&report.outcome),
        timeline(report)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_wrote_is_text_in_the_page() {
        assert_eq!(escaped("<b a='1'>&\""), "&lt;b a=&#39;1&#39;&gt;&amp;&quot;");
        let marks = [("b/0", "promoted", 9.0), ("a/0", "end", 2.0), ("b/0", "level", 4.0)];
        let marks = marks.map(|(shard, did, at_ms)| Mark {
            shard: shard.to_owned(),
            did: did.to_owned(),
            at_ms,
        });
        let report = Report { marks: marks.into(), ..Report::default() };
        assert_eq!(of_shard(&report.marks, "b/0"), [("level", 4.0), ("promoted", 9.0)]);
        let svg = timeline(&report);
        assert!(
            svg.contains("level: 0.0 to 4.0 ms") && svg.contains("promoted: 4.0 to 9.0 ms"),
            "{svg}"
        );
    }
}
