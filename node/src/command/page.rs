//! SCAN's cursors and options.

use std::ops::Bound;

use keyspace::Cf;
use keyspace::meta::Type;
use resp::reply::Writer;

use super::{Args, Fail};
use crate::worker::{Direction, View};

/// What SCAN, HSCAN, SSCAN and ZSCAN can be asked for.
pub(super) struct Page<'a> {
    /// Entries to look at.
    pub(super) count: usize,
    /// A pattern that names must match.
    pub(super) pattern: Option<&'a [u8]>,
    /// A type that keys must have; `Some(None)`: one that no key has.
    pub(super) kind: Option<Option<Type>>,
}

/// The most entries that one page looks at.
const COUNT_MAX: usize = 100_000;
const COUNT_DEFAULT: usize = 10;

/// A cursor as clients send it.
pub(super) fn cursor(text: &[u8]) -> Result<u64, Fail> {
    let text = std::str::from_utf8(text).ok();
    let cursor =
        text.filter(|t| t.bytes().all(|b| b.is_ascii_digit())).and_then(|t| t.parse().ok());
    cursor.ok_or(Fail::text("ERR invalid cursor"))
}

/// The options from this argument on; TYPE only where it makes sense.
pub(super) fn page<'a>(args: &Args<'a>, mut at: usize, typed: bool) -> Result<Page<'a>, Fail> {
    let mut page = Page { count: COUNT_DEFAULT, pattern: None, kind: None };
    while at < args.len() {
        let Some(value) = args.get(at + 1) else { return Err(Fail::Syntax) };
        if args.is(at, "count") {
            let count = args.integer(at + 1)?;
            if count < 1 {
                return Err(Fail::Syntax);
            }
            page.count = usize::try_from(count).unwrap_or(COUNT_MAX).min(COUNT_MAX);
        } else if args.is(at, "match") {
            page.pattern = Some(value).filter(|p| p != b"*");
        } else if typed && args.is(at, "type") {
            let named = |t: &Type| value.eq_ignore_ascii_case(t.name().as_bytes());
            page.kind = Some(Type::ALL.into_iter().find(named));
        } else {
            return Err(Fail::Syntax);
        }
        at += 2;
    }
    Ok(page)
}

impl Page<'_> {
    /// Whether a name is wanted.
    pub(super) fn wants(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| super::glob_matches(pattern, name))
    }
}

/// One page of a collection's data records: `emit` writes an entry. It answers the cursor, then
/// the entries, `width` replies each.
pub(super) fn scan_collection(
    view: &mut View<'_>,
    args: &Args<'_>,
    out: &mut Writer<'_>,
    kind: Type,
    width: usize,
    mut emit: impl FnMut(&[u8], &[u8], &mut Writer<'_>) -> Result<(), Fail>,
) -> Result<(), Fail> {
    let token = cursor(args.at(2))?;
    let page = page(args, 3, false)?;
    let key = args.key(1);
    let Some(head) = view.head(key, kind)? else {
        out.array(2);
        out.bulk(b"0");
        out.array(0);
        return Ok(());
    };
    let from = if token == 0 { None } else { view.positions.find(token) };
    let from = from.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let version = head.at.version;
    let mut entries =
        view.iterate(Cf::Data, key, version, from, Bound::Unbounded, Direction::Up)?;
    let mut found = Vec::new();
    let mut last = Vec::new();
    let mut seen = 0;
    let next = loop {
        if seen == page.count {
            break view.positions.keep(&last);
        }
        let Some((name, value)) = entries.step()? else { break 0 };
        seen += 1;
        last.clear();
        last.extend_from_slice(name);
        if page.wants(name) {
            found.push((name.to_vec(), value.to_vec()));
        }
    };
    out.array(2);
    out.bulk(itoa::Buffer::new().format(next).as_bytes());
    out.array(found.len() * width);
    found.iter().try_for_each(|(name, value)| emit(name, value, out))
}

/// A collection that announced `size` entries must have had as many: the answer is broken off
/// otherwise, before a client counts wrong.
pub(super) fn check_size(size: usize, seen: usize) -> Result<(), Fail> {
    if size == seen {
        return Ok(());
    }
    Err(Fail::text(format!(
        "ERR this key is damaged: its record says {size} entries and there are {seen}"
    )))
}
