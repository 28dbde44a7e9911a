//! Which way a shard's snapshot goes: by its files, or by its log since the last one. Pure.

use store::repository::Manifest;
use stream::export::{ExportFile, Ready};

use crate::report::size;

/// How far snapshots may go on by their logs before files are sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainLimits {
    /// Segments behind one set of files.
    pub segments: usize,
    /// Their bytes, of a hundred of the files'.
    pub percent: u64,
}

/// What was decided, with the figures that it was decided by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// Whether the log is the way.
    pub(super) log: bool,
    /// About how many bytes the files would be; `None` where nothing was there to compare.
    pub(super) files_bytes: Option<u64>,
    /// About how many bytes the log would be; `None` where it cannot be the way.
    pub(super) log_bytes: Option<u64>,
    /// In words.
    pub(super) why: String,
}

/// Decides. `has` says of a hash whether the store has a piece with it.
pub(super) fn choose(
    ready: &Ready,
    last: Option<&Manifest>,
    limits: ChainLimits,
    has: impl Fn(&[u8; 32]) -> bool,
) -> Decision {
    let by_files =
        |files_bytes, log_bytes, why| Decision { log: false, files_bytes, log_bytes, why };
    let Some(last) = last else {
        return by_files(None, None, "there is no snapshot to follow on".to_owned());
    };
    let files = lacking(ready, has);
    let log = match &ready.log {
        Ok(log) => *log,
        Err(why) => return by_files(Some(files), None, why.clone()),
    };
    let past = |why: String| by_files(Some(files), Some(log), why);
    if last.log.len() >= limits.segments {
        return past(format!("{} segments follow on its files already", last.log.len()));
    }
    let allowed = (u128::from(last.bytes()) * u128::from(limits.percent) / 100) as u64;
    if last.log_bytes().saturating_add(log) > allowed {
        return past(format!(
            "with its log {} would follow on {} of files, more than {} %",
            size(last.log_bytes().saturating_add(log)),
            size(last.bytes()),
            limits.percent
        ));
    }
    // As many bytes: files are restored sooner.
    if files <= log {
        return past(format!("about {} of files, {} of log", size(files), size(log)));
    }
    let why = format!("about {} of log, {} of files", size(log), size(files));
    Decision { log: true, files_bytes: Some(files), log_bytes: Some(log), why }
}

/// Packed bytes of the table files that the store lacks, by the sidecar's sample.
fn lacking(ready: &Ready, has: impl Fn(&[u8; 32]) -> bool) -> u64 {
    let of = |file: &ExportFile| match &file.hashes {
        None => file.size,
        Some(hashes) => (0_u64..)
            .zip(hashes)
            .filter(|(_, hash)| !has(hash))
            .map(|(n, _)| file.piece_bytes(n) as u64)
            .sum(),
    };
    let bytes: u64 = ready.files.iter().map(of).sum();
    (u128::from(bytes) * u128::from(ready.files_permille) / 1000) as u64
}

#[cfg(test)]
mod tests {
    use keyspace::{Hlc, SlotSet};
    use store::ObjectId;
    use store::repository::{FileEntry, LogSegment};
    use wal::{Chain, History};

    use super::*;

    const MIB: u64 = 1 << 20;

    fn last(segments: u64) -> Manifest {
        let position = "0000000000000000000000000000beef@42".parse().unwrap();
        let segment = |_| LogSegment {
            start: position,
            end: position,
            chain_before: Chain::START,
            chain: Chain::START,
            log_chain: Chain::START,
            stamp: Hlc(1),
            epoch: 1,
            bytes: MIB,
            blake3: ObjectId([1; 32]),
            copy: 0,
        };
        Manifest {
            format: Manifest::FORMAT,
            service: "demo".to_owned(),
            shard: "a/0".to_owned(),
            slots: SlotSet::all(),
            database: "beef".to_owned(),
            position,
            history: History::default(),
            stamp: Hlc(1),
            epoch: 1,
            taken_at: 1,
            files: vec![FileEntry {
                name: "000012.sst".parse().unwrap(),
                size: 1000 * MIB,
                pieces: Vec::new(),
            }],
            log: (0..segments).map(segment).collect(),
            cut: None,
            digest: None,
        }
    }

    fn ready(log: Result<u64, String>) -> Ready {
        let file =
            |name: &str, hashes| ExportFile { name: name.to_owned(), size: 100 * MIB, hashes };
        let files = vec![file("000014.sst", None), file("000012.sst", Some(vec![[7; 32]; 13]))];
        Ready { files, files_permille: 500, log }
    }

    #[test]
    fn the_cheapest_way_is_taken_within_the_limits_and_said() {
        let limits = ChainLimits { segments: 10, percent: 25 };
        let has = |hash: &[u8; 32]| hash[0] == 7;
        let check = |ready: &Ready, last: Option<&Manifest>, log, word: &str| {
            let decision = choose(ready, last, limits, has);
            assert_eq!(decision.log, log, "{decision:?}");
            assert!(decision.why.contains(word), "{decision:?}");
        };
        check(&ready(Ok(0)), None, false, "no snapshot");
        check(&ready(Err("gone".to_owned())), Some(&last(0)), false, "gone");
        // 100 MiB of new files, half of that packed.
        check(&ready(Ok(49 * MIB)), Some(&last(0)), true, "of log");
        check(&ready(Ok(50 * MIB)), Some(&last(0)), false, "of files");
        check(&ready(Ok(MIB)), Some(&last(10)), false, "10 segments");
        let nothing_known = choose(&ready(Ok(60 * MIB)), Some(&last(0)), limits, |_| false);
        assert_eq!((nothing_known.log, nothing_known.files_bytes), (true, Some(100 * MIB)));
        let tight = ChainLimits { percent: 4, ..limits };
        let past = choose(&ready(Ok(45 * MIB)), Some(&last(0)), tight, has);
        assert!(!past.log && past.why.contains("more than 4 %"), "{past:?}");
    }
}
