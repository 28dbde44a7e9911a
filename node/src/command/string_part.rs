//! Parts of strings.

use resp::reply::Writer;

use super::args::window;
use super::bits::owned;
use super::string::STRING_BYTES_MAX;
use super::{Answer, Args, Fail, Flags, Keys, Spec};
use crate::worker::{Class, View};

const G: &str = "string";
const W: Flags = Flags::WRITE.and(Flags::DENYOOM);
const R: Flags = Flags::READONLY;
const F: Flags = Flags::FAST;

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "append", 3, W.and(F), Keys::ONE, append),
    Spec::data(G, "strlen", 2, R.and(F), Keys::ONE, strlen),
    Spec::data(G, "getrange", 4, R, Keys::ONE, getrange),
    Spec::data(G, "substr", 4, R, Keys::ONE, getrange),
    Spec::data(G, "setrange", 4, W, Keys::ONE, setrange),
];

fn check_length(length: u64) -> Answer {
    if length <= STRING_BYTES_MAX {
        return Ok(());
    }
    Err(Fail::text("ERR string exceeds maximum allowed size (proto-max-bulk-len)"))
}

fn append(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let key = args.key(1);
    let (mut bytes, expire_ms) = owned(view, key)?;
    check_length(bytes.len() as u64 + args.at(2).len() as u64)?;
    bytes.extend_from_slice(args.at(2));
    view.put_string(key, &bytes, expire_ms);
    view.notify(Class::STRING, "append", key);
    out.integer(bytes.len() as i64);
    Ok(())
}

fn strlen(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let length = view.string(args.key(1))?.map_or(0, |text| text.len());
    out.integer(length as i64);
    Ok(())
}

fn getrange(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (start, stop) = (args.integer(2)?, args.integer(3)?);
    let Some(text) = view.string(args.key(1))? else {
        out.bulk(b"");
        return Ok(());
    };
    // As Redis: both before the start is nothing, in that order.
    if start < 0 && stop < 0 && start > stop {
        out.bulk(b"");
        return Ok(());
    }
    // Redis clips a stop before the start to the first byte.
    let stop = if stop < 0 { stop.saturating_add(text.len() as i64).max(0) } else { stop };
    let (from, count) = window(start, stop, text.len() as u64);
    out.bulk(&text[from as usize..(from + count) as usize]);
    Ok(())
}

fn setrange(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let offset = args.integer(2)?;
    let Ok(offset) = u64::try_from(offset) else {
        return Err(Fail::text("ERR offset is out of range"));
    };
    let (key, patch) = (args.key(1), args.at(3));
    let (mut bytes, expire_ms) = owned(view, key)?;
    if !patch.is_empty() {
        check_length(offset.saturating_add(patch.len() as u64))?;
        let (from, to) = (offset as usize, offset as usize + patch.len());
        if bytes.len() < to {
            bytes.resize(to, 0);
        }
        bytes[from..to].copy_from_slice(patch);
        view.put_string(key, &bytes, expire_ms);
        view.notify(Class::STRING, "setrange", key);
    }
    out.integer(bytes.len() as i64);
    Ok(())
}
