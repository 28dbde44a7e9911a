//! SCAN: pages of the whole keyspace, in the order of slots and keys.

use keyspace::meta::{self, Meta};
use keyspace::{SLOTS, Slot};
use resp::reply::Writer;

use super::page::{cursor, page};
use super::{Answer, Args, Fail, Flags, Keys, Spec};
use crate::worker::View;

pub(super) const SPECS: &[Spec] =
    &[Spec::data("generic", "scan", -2, Flags::READONLY, Keys::NONE, scan)];

/// A cursor is a remembered key's number and its slot.
const SLOT_BITS: u32 = 14;

/// The meta key where a cursor goes on.
fn start(view: &View<'_>, cursor: u64) -> Result<Vec<u8>, Fail> {
    if cursor == 0 {
        return Ok(vec![0, 0]);
    }
    let token = cursor >> SLOT_BITS;
    if let Some(mut key) = view.positions.find(token).map(Vec::from) {
        // The least key above the one that was last.
        key.push(0);
        return Ok(key);
    }
    let slot = u16::try_from(cursor % u64::from(SLOTS)).ok().and_then(Slot::new);
    Ok(slot.ok_or(Fail::text("ERR invalid cursor"))?.prefix().to_vec())
}

fn scan(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let from = start(view, cursor(args.at(1))?)?;
    let page = page(args, 2, true)?;
    let now_ms = view.now_ms;
    let mut keys = view.keys(from, SLOTS.to_be_bytes().to_vec())?;
    let mut found = Vec::new();
    let mut last: Vec<u8> = Vec::new();
    let mut seen = 0;
    let next = loop {
        if seen == page.count {
            let slot = Slot::of_encoded(&last).map_or(0, Slot::number);
            break view.positions.keep(&last) << SLOT_BITS | u64::from(slot);
        }
        let Some((key, value)) = keys.step()? else { break 0 };
        seen += 1;
        last.clear();
        last.extend_from_slice(key);
        let (record, (_, name)) = (Meta::decode(value)?, meta::decode_key(key)?);
        let typed = page.kind.is_none_or(|kind| kind == Some(record.kind()));
        if record.is_live(now_ms) && typed && page.wants(name) {
            found.push(name.to_vec());
        }
    };
    out.array(2);
    out.bulk(itoa::Buffer::new().format(next).as_bytes());
    out.array(found.len());
    found.iter().for_each(|name| out.bulk(name));
    Ok(())
}
