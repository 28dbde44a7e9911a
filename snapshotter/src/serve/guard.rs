//! What a pusher may put: what adds to history, and nothing that takes from it.
//!
//! Nothing is overwritten or deleted over the wire at all. But a record can say that a snapshot counts no
//! more, and a run of gc would then delete it: so of lists only pages are taken that add a record of the
//! kinds that pushers and sidecars write. Whose key was stolen can fill the disk, and take nothing away.

use serde_json::Value;
use store::bucket::{Bucket, Guard};
use tokio::sync::watch;

/// The longest page that is read.
const PAGE_BYTES_MAX: u64 = 64 << 20;
/// Pages of a group: the next page of a group repeats the records of the one before.
const GROUP: u64 = 64;

/// Takes what adds to history.
#[derive(Debug)]
pub(super) struct AppendOnly {
    pub(super) service: String,
    pub(super) bucket: Bucket,
    /// Bytes that must stay free where the objects are; `None`: it is a bucket.
    pub(super) free: Option<(std::path::PathBuf, u64)>,
    /// Counts snapshots that were sealed.
    pub(super) sealed: watch::Sender<u64>,
}

/// What an object is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Bytes that something else must name before they count.
    Bytes,
    /// A page of a list whose records have a kind of these.
    Page(&'static [&'static str]),
    /// The rest.
    Nothing,
}

impl What {
    fn of(name: &str) -> Self {
        let parts: Vec<&str> = name.split('/').collect();
        match parts[..] {
            ["GODWIT-STORE"] | ["objects", _, _] | ["snapshots", _, _]
                if !name.starts_with("snapshots/chain/") =>
            {
                Self::Bytes
            }
            ["snapshots", "chain", _] => Self::Page(&["sealed"]),
            ["archive", _, _, "chain", _] => Self::Page(&["base", "segment"]),
            ["archive", _, _, "bases", _] | ["archive", _, _, "segments", _, _] => Self::Bytes,
            // Who pushes, and until when: a lock that is held for nothing ends with its lease.
            ["locks", ..] => Self::Bytes,
            _ => Self::Nothing,
        }
    }
}

impl Guard for AppendOnly {
    fn knows(&self, service: &str) -> Result<(), String> {
        if service == self.service {
            return Ok(());
        }
        Err(format!(
            "this daemon keeps snapshots of the service `{}`, not of `{}`",
            self.service,
            service.chars().take(80).collect::<String>().escape_debug()
        ))
    }

    async fn may_put(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        if let Some((dir, least)) = &self.free {
            let free = ops::disk::free(dir);
            if free.saturating_sub(bytes.len() as u64) < *least {
                return Err(format!(
                    "only {free} bytes are free where the snapshots are, and {least} must stay so: make room there; nothing was sealed"
                ));
            }
        }
        match What::of(name) {
            What::Bytes => Ok(()),
            What::Page(kinds) => {
                let number = name.rsplit('/').next().and_then(|digits| digits.parse::<u64>().ok());
                let number = number.ok_or("a page's name is its number")?;
                let before = match number.checked_sub(1).filter(|_| number % GROUP != 0) {
                    None => Vec::new(),
                    Some(before) => self.page(name, before).await?,
                };
                check_page(bytes, &before, kinds)
            }
            What::Nothing => Err("who pushes may add to history, and this would not".to_owned()),
        }
    }

    fn was_put(&self, name: &str) {
        if name.starts_with("snapshots/chain/") {
            self.sealed.send_modify(|count| *count += 1);
        }
    }
}

impl AppendOnly {
    /// The records of the page of that number beside `name`.
    async fn page(&self, name: &str, number: u64) -> Result<Vec<Value>, String> {
        let dir = name.rsplit_once('/').map_or("", |(dir, _)| dir);
        let before = format!("{dir}/{number:016}");
        let bytes =
            self.bucket.get(&before, PAGE_BYTES_MAX).await.map_err(|why| why.to_string())?;
        let bytes = bytes.ok_or_else(|| format!("the page before it, {before}, is not there"))?;
        records(&bytes)
    }
}

/// A page repeats the records of the one before it in its group, and adds one.
fn check_page(bytes: &[u8], before: &[Value], kinds: &[&str]) -> Result<(), String> {
    let records = records(bytes)?;
    let Some((added, repeated)) = records.split_last() else {
        return Err("a page has a record at least".to_owned());
    };
    if repeated != before {
        return Err("the page does not repeat the one before it".to_owned());
    }
    match added.get("kind").and_then(Value::as_str) {
        Some(kind) if kinds.contains(&kind) => Ok(()),
        kind => Err(format!(
            "a record of kind {kind:?} is not a pusher's to write: do this where the snapshots are kept"
        )),
    }
}

/// The records of a page: what its reader would believe, if its hash is good.
fn records(bytes: &[u8]) -> Result<Vec<Value>, String> {
    let json = bytes.splitn(2, |byte| *byte == b'\n').nth(1).ok_or("a page begins with a hash")?;
    let mut page: Value = serde_json::from_slice(json).map_err(|why| why.to_string())?;
    match page.get_mut("records").map(Value::take) {
        Some(Value::Array(records)) => Ok(records),
        _ => Err("a page has records".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(kinds: &[&str]) -> Vec<u8> {
        let records: Vec<_> =
            kinds.iter().map(|kind| serde_json::json!({ "kind": kind, "id": "x" })).collect();
        let json = serde_json::json!({ "format": 1, "records": records });
        format!("{}\n{json}\n", "0".repeat(64)).into_bytes()
    }

    #[test]
    fn a_page_adds_one_record_of_a_kind_that_pushers_write() {
        let sealed = records(&page(&["sealed"])).unwrap();
        let check = |bytes: &[u8], before: &[Value]| check_page(bytes, before, &["sealed"]);
        check(&page(&["sealed"]), &[]).unwrap();
        check(&page(&["sealed", "sealed"]), &sealed).unwrap();
        for (bytes, before) in [
            (page(&["forgotten"]), &[][..]),
            (page(&["sealed", "forgotten"]), &sealed[..]),
            // Two at once, one of them hidden; one rewritten; none.
            (page(&["forgotten", "sealed"]), &sealed[..]),
            (page(&["forgotten", "sealed"]), &[][..]),
            (page(&["sealed"]), &sealed[..]),
            (page(&[]), &[][..]),
            (b"no page".to_vec(), &[][..]),
        ] {
            assert!(check(&bytes, before).is_err());
        }
    }

    #[test]
    fn names_say_what_may_be_put() {
        for bytes in ["GODWIT-STORE", "objects/ab/abcd", "snapshots/20261121T000000Z-1/shard-0"] {
            assert_eq!(What::of(bytes), What::Bytes, "{bytes}");
        }
        assert_eq!(What::of("snapshots/chain/0000000000000001"), What::Page(&["sealed"]));
        for nothing in ["gc/marks", "gc/lease/1", "archive/s/a-0/marks/1", "x", "objects/a/b/c"] {
            assert_eq!(What::of(nothing), What::Nothing, "{nothing}");
        }
    }
}
