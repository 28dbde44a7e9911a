//! What the writers and readers remember: every write that was sent, and what came back.

use super::operation::Operation;

/// What became of a write, as its client knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged, with the number that the answer held (INCR: the value; others: as answered).
    Acknowledged(i64),
    /// `-UNKNOWN`, or its connection ended before an answer came.
    Unknown,
    /// Any other error: it must not have happened.
    Refused(String),
}

/// One write.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which.
    pub operation: Operation,
    /// What became of it.
    pub outcome: Outcome,
    /// The number of its key's slot.
    pub slot: u16,
    /// When it was sent, in microseconds since the traffic began.
    pub sent_us: u64,
    /// When its answer was there.
    pub done_us: u64,
}

impl Entry {
    /// Whether it was acknowledged.
    pub const fn acknowledged(&self) -> bool {
        matches!(self.outcome, Outcome::Acknowledged(_))
    }
}

/// Everything that happened.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Sets this run's keys apart from every other's.
    pub run: String,
    /// The writes, by connection, in the order sent.
    pub writers: Vec<Vec<Entry>>,
    /// Connections that broke.
    pub disconnects: u64,
    /// Reads that were answered with an error.
    pub read_errors: u64,
    /// Reads of an acknowledged write that did not show it, and then did a moment later.
    pub stale_reads: u64,
    /// Reads of an acknowledged write that never showed it.
    pub wrong_reads: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// The first errors, word by word.
    pub errors: Vec<String>,
}

impl Ledger {
    /// All writes.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.writers.iter().flatten()
    }

    /// How many writes were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.entries().filter(|e| e.acknowledged()).count() as u64
    }

    /// How many outcomes are unknown.
    pub fn unknown(&self) -> u64 {
        self.entries().filter(|e| e.outcome == Outcome::Unknown).count() as u64
    }

    /// Errors that clients saw, everything but unknown outcomes.
    pub fn client_errors(&self) -> u64 {
        let refused = self.entries().filter(|e| matches!(e.outcome, Outcome::Refused(_))).count();
        refused as u64 + self.disconnects + self.read_errors
    }

    /// The slowest acknowledged write of those answered after this moment, in microseconds: the
    /// pause that a client saw.
    pub fn slowest_us(&self, since_us: u64, until_us: u64) -> u64 {
        let during = self.entries().filter(|e| e.done_us >= since_us && e.sent_us <= until_us);
        let acknowledged = during.filter(|e| e.acknowledged());
        acknowledged.map(|e| e.done_us.saturating_sub(e.sent_us)).max().unwrap_or(0)
    }

    /// When writes to these slots were acknowledged again: the end of the longest silence that
    /// reached past this moment. (The first answer after it may have been on its way before.)
    pub fn served_again_us(&self, after_us: u64, slots: impl Fn(u16) -> bool) -> Option<u64> {
        let entries = self.entries().filter(|e| e.acknowledged() && slots(e.slot));
        let mut answers: Vec<u64> = entries.map(|e| e.done_us).collect();
        answers.sort_unstable();
        let pairs = answers.iter().zip(answers.iter().skip(1)).filter(|(_, end)| **end > after_us);
        pairs.max_by_key(|(begin, end)| *end - *begin).map(|(_, end)| *end)
    }

    /// Bytes of the keys and values of acknowledged writes in a span.
    pub fn payload_bytes(&self, since_us: u64, until_us: u64) -> u64 {
        let during = self.entries().filter(|e| e.done_us >= since_us && e.done_us <= until_us);
        let acknowledged = during.filter(|e| e.acknowledged());
        let size = |e: &Entry| {
            let command = e.operation.command(&self.run);
            command.iter().skip(1).map(String::len).sum::<usize>() as u64
        };
        acknowledged.map(size).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_is_back_at_the_end_of_the_longest_silence() {
        let entry = |(n, done_us): (u32, u64)| Entry {
            operation: Operation { writer: 0, number: n },
            outcome: Outcome::Acknowledged(0),
            slot: 1,
            sent_us: 0,
            done_us,
        };
        // Killed at 100; the answer at 101 was on its way.
        let entries = (0..).zip([80, 90, 101, 400, 410, 420]).map(entry).collect();
        let ledger = Ledger { writers: vec![entries], ..Ledger::default() };
        assert_eq!(ledger.served_again_us(100, |slot| slot == 1), Some(400));
        assert_eq!(ledger.served_again_us(100, |slot| slot == 2), None);
        assert_eq!(ledger.served_again_us(500, |_| true), None);
    }
}
