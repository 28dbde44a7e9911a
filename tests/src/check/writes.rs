//! Checks what writers remember against what is there, each kind of write by its own rule.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use resp::reply::Reply;

use super::survivors::Survivors;
use super::verdict::Verdict;
use crate::load::operation::{Kind, Operation};
use crate::load::{Entry, Ledger, Outcome};

/// Compares a ledger with the nodes of the surviving cloud.
pub fn check(ledger: &Ledger, survivors: &mut Survivors) -> Result<Verdict> {
    let mut verdict = Verdict { acknowledged: ledger.acknowledged(), ..Verdict::default() };
    for entries in &ledger.writers {
        let of = |kind| entries.iter().filter(move |e| e.operation.kind() == kind);
        sets(ledger, of(Kind::Set).collect(), survivors, &mut verdict)?;
        by_key(ledger, of(Kind::Incr), "GET", survivors, &mut verdict, counter)?;
        by_key(ledger, of(Kind::Push), "LRANGE", survivors, &mut verdict, list)?;
        by_key(ledger, of(Kind::Field), "HGETALL", survivors, &mut verdict, hash)?;
    }
    Ok(verdict)
}

/// What is there for one write, against its outcome.
fn weigh(run: &str, entry: &Entry, there: bool, verdict: &mut Verdict) {
    let key = || entry.operation.key(run);
    let number = entry.operation.number;
    match (&entry.outcome, there) {
        (Outcome::Acknowledged(_), true) | (Outcome::Refused(_), false) => {}
        (Outcome::Acknowledged(_), false) => {
            verdict.lost += 1;
            verdict.find(|| {
                format!("lost: {} (write {number}, answered at {} ms)", key(), entry.done_us / 1000)
            });
        }
        (Outcome::Unknown, true) => verdict.unknown_applied += 1,
        (Outcome::Unknown, false) => verdict.unknown_not_applied += 1,
        (Outcome::Refused(text), true) => {
            verdict.resurrected += 1;
            verdict.find(|| format!("refused but there: {} (write {number}: {text})", key()));
        }
    }
}

fn damaged(key: &str, found: &[u8], verdict: &mut Verdict) {
    verdict.damaged += 1;
    verdict.find(|| format!("damaged: {key} holds `{}`", String::from_utf8_lossy(found)));
}

fn sets(
    ledger: &Ledger,
    entries: Vec<&Entry>,
    survivors: &mut Survivors,
    verdict: &mut Verdict,
) -> Result<()> {
    let get = |e: &&Entry| vec!["GET".to_owned(), e.operation.key(&ledger.run)];
    let answers = survivors.ask(&entries.iter().map(get).collect::<Vec<_>>())?;
    for (entry, answer) in entries.into_iter().zip(answers) {
        if let Reply::Error(text) = &answer {
            damaged(&entry.operation.key(&ledger.run), text.as_bytes(), verdict);
        }
        let found = answer.as_bytes();
        if let Some(bytes) = found
            && bytes != entry.operation.value(&ledger.run).as_bytes()
        {
            damaged(&entry.operation.key(&ledger.run), bytes, verdict);
        }
        weigh(&ledger.run, entry, found.is_some(), verdict);
    }
    Ok(())
}

/// A key that many writes share: its writes in order, and what is there.
struct Shared<'a> {
    run: &'a str,
    key: &'a str,
    entries: &'a [&'a Entry],
}

fn by_key<'a>(
    ledger: &Ledger,
    entries: impl Iterator<Item = &'a Entry>,
    verb: &str,
    survivors: &mut Survivors,
    verdict: &mut Verdict,
    rule: fn(&Shared<'_>, &Reply, &mut Verdict),
) -> Result<()> {
    let mut keys: BTreeMap<String, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        keys.entry(entry.operation.key(&ledger.run)).or_default().push(entry);
    }
    let command = |key: &String| {
        let mut command = vec![verb.to_owned(), key.clone()];
        if verb == "LRANGE" {
            command.extend(["0".to_owned(), "-1".to_owned()]);
        }
        command
    };
    let answers = survivors.ask(&keys.keys().map(command).collect::<Vec<_>>())?;
    for ((key, entries), answer) in keys.iter().zip(answers) {
        if let Reply::Error(text) = &answer {
            // What the node itself cannot read; its writes then count as missing.
            damaged(key, text.as_bytes(), verdict);
        }
        rule(&Shared { run: &ledger.run, key, entries }, &answer, verdict);
    }
    Ok(())
}

/// Between what must have happened and what may have, at every answer and at the end.
fn counter(shared: &Shared<'_>, answer: &Reply, verdict: &mut Verdict) {
    let key = shared.key;
    let (mut low, mut high, mut unknown, mut acknowledged) = (0_i64, 0_i64, 0_i64, 0_i64);
    let weigh = |value: i64, low: i64, high: i64, what: &str, verdict: &mut Verdict| {
        if value < low {
            verdict.lost += low.abs_diff(value);
            verdict.find(|| format!("lost: {key} {what} {value}, at least {low} was acknowledged"));
        } else if value > high {
            verdict.duplicated += value.abs_diff(high);
            verdict.find(|| format!("duplicated: {key} {what} {value}, at most {high} was sent"));
        }
    };
    for entry in shared.entries {
        match &entry.outcome {
            Outcome::Acknowledged(value) => {
                weigh(*value, low + 1, high + 1, "answered", verdict);
                acknowledged += 1;
                (low, high) = (*value, *value);
            }
            Outcome::Unknown => {
                unknown += 1;
                high += 1;
            }
            Outcome::Refused(_) => {}
        }
    }
    let text = answer.as_text().unwrap_or("0");
    let Ok(last) = text.parse::<i64>() else { return damaged(key, text.as_bytes(), verdict) };
    weigh(last, low, high, "is", verdict);
    let applied = (last - acknowledged).clamp(0, unknown);
    verdict.unknown_applied += applied.unsigned_abs();
    verdict.unknown_not_applied += (unknown - applied).unsigned_abs();
}

/// Each acknowledged element once, in the order pushed, and no others.
fn list(shared: &Shared<'_>, answer: &Reply, verdict: &mut Verdict) {
    let key = shared.key;
    let mut there = BTreeSet::new();
    let mut last = None;
    for element in answer.as_array().unwrap_or_default() {
        let bytes = element.as_bytes().unwrap_or_default();
        let Some(number) = element.as_text().and_then(|t| t.parse::<u32>().ok()) else {
            damaged(key, bytes, verdict);
            continue;
        };
        if !there.insert(number) {
            verdict.duplicated += 1;
            verdict.find(|| format!("duplicated: {key} holds element {number} again"));
        } else if last.is_some_and(|last| number < last) {
            verdict.disordered += 1;
            verdict.find(|| format!("disordered: {key} has element {number} after {last:?}"));
        }
        last = Some(number);
    }
    members(shared, there, verdict);
}

/// Each acknowledged field once, with its value, and no others.
fn hash(shared: &Shared<'_>, answer: &Reply, verdict: &mut Verdict) {
    let mut there = BTreeSet::new();
    let flat: Vec<&Reply> = match answer {
        Reply::Map(pairs) => pairs.iter().flat_map(|(field, value)| [field, value]).collect(),
        other => other.as_array().unwrap_or_default().iter().collect(),
    };
    for pair in flat.chunks_exact(2) {
        let [field, value] = pair else { continue };
        let found = value.as_bytes().unwrap_or_default();
        let number = field.as_text().and_then(|t| t.parse::<u32>().ok());
        let writer = shared.entries.first().map_or(0, |e| e.operation.writer);
        match number.map(|number| Operation { writer, number }) {
            Some(operation) if operation.value(shared.run).as_bytes() == found => {
                there.insert(operation.number);
            }
            _ => damaged(shared.key, found, verdict),
        }
    }
    for entry in shared.entries {
        // HSET answers how many fields are new: 0 for a field that was set before.
        if entry.outcome == Outcome::Acknowledged(0) {
            verdict.duplicated += 1;
            verdict.find(|| {
                format!("duplicated: {} had field {}", shared.key, entry.operation.number)
            });
        }
    }
    members(shared, there, verdict);
}

fn members(shared: &Shared<'_>, mut there: BTreeSet<u32>, verdict: &mut Verdict) {
    for entry in shared.entries {
        weigh(shared.run, entry, there.remove(&entry.operation.number), verdict);
    }
    for number in there {
        verdict.resurrected += 1;
        verdict.find(|| format!("never written: {} holds {number}", shared.key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(outcomes: &[Outcome]) -> Vec<Entry> {
        // Numbers 3, 11, 19... are INCRs of one counter; 5, 13, 21... pushes to one list.
        let entry = |(n, outcome): (u32, &Outcome)| Entry {
            operation: Operation { writer: 0, number: n },
            outcome: outcome.clone(),
            slot: 0,
            sent_us: 0,
            done_us: 0,
        };
        (0..).zip(outcomes).map(entry).collect()
    }

    fn judge(
        rule: fn(&Shared<'_>, &Reply, &mut Verdict),
        outcomes: &[Outcome],
        answer: Reply,
    ) -> Verdict {
        let entries = entries(outcomes);
        let entries: Vec<_> = entries.iter().collect();
        let mut verdict = Verdict::default();
        rule(&Shared { run: "r", key: "k", entries: &entries }, &answer, &mut verdict);
        verdict
    }

    fn number(text: &str) -> Reply {
        Reply::Bulk(text.into())
    }

    #[test]
    fn a_counter_is_between_what_must_and_what_may_have_happened() {
        use Outcome::{Acknowledged, Unknown};
        let outcomes = [Acknowledged(1), Unknown, Acknowledged(3), Unknown];
        let applied = judge(counter, &outcomes, number("4"));
        assert!(applied.is_good());
        assert_eq!((applied.unknown_applied, applied.unknown_not_applied), (2, 0));
        assert_eq!(judge(counter, &outcomes, number("3")).unknown_not_applied, 1);
        assert_eq!(judge(counter, &outcomes, number("2")).lost, 1);
        assert_eq!(judge(counter, &outcomes, number("6")).duplicated, 2);
        let twice = [Acknowledged(1), Acknowledged(3)];
        assert_eq!(judge(counter, &twice, number("3")).duplicated, 1);
    }

    #[test]
    fn a_list_has_each_element_once_in_order_and_no_others() {
        use Outcome::{Acknowledged, Refused, Unknown};
        let outcomes = [Acknowledged(1), Unknown, Acknowledged(2), Refused("no".to_owned())];
        let elements = |list: &[&str]| Reply::Array(list.iter().map(|e| number(e)).collect());
        let good = judge(list, &outcomes, elements(&["0", "2"]));
        assert!(good.is_good() && good.unknown_not_applied == 1);
        assert_eq!(judge(list, &outcomes, elements(&["0"])).lost, 1);
        assert_eq!(judge(list, &outcomes, elements(&["0", "2", "2"])).duplicated, 1);
        assert_eq!(judge(list, &outcomes, elements(&["2", "0"])).disordered, 1);
        assert_eq!(judge(list, &outcomes, elements(&["0", "2", "3"])).resurrected, 1);
        assert_eq!(judge(list, &outcomes, elements(&["0", "2", "9"])).resurrected, 1);
        assert_eq!(judge(list, &outcomes, elements(&["0", "2", "x"])).damaged, 1);
    }
}
