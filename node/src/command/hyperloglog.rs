//! HyperLogLog: about how many different elements there were, in strings that Redis reads too.

use resp::reply::Writer;

use super::encoding::HLL_SPARSE_BYTES;
use super::hll::{self, Damaged, Registers, Sketch};
use super::{Answer, Args, Fail, Flags, Keys, Spec};
use crate::worker::{Class, Key, Text, View};

const G: &str = "hyperloglog";
const W: Flags = Flags::WRITE.and(Flags::DENYOOM);

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "pfadd", -2, W.and(Flags::FAST), Keys::ONE, pfadd),
    Spec::data(G, "pfcount", -2, Flags::READONLY, Keys::ALL, pfcount),
    Spec::data(G, "pfmerge", -2, W, Keys::ALL, pfmerge),
    Spec::data(G, "pfdebug", -3, W.and(Flags::ADMIN), Keys::range(2, 2, 1), pfdebug),
];

impl From<Damaged> for Fail {
    fn from(_: Damaged) -> Self {
        Self::text("INVALIDOBJ Corrupted HLL object detected")
    }
}

fn sketch<'v>(view: &'v mut View<'_>, key: Key<'_>) -> Result<Option<Text<'v>>, Fail> {
    let Some(text) = view.string(key)? else { return Ok(None) };
    if !hll::is_sketch(&text) {
        return Err(Fail::text("WRONGTYPE Key is not a valid HyperLogLog string value."));
    }
    Ok(Some(text))
}

/// A sketch to be changed, and when it expires.
fn owned(view: &mut View<'_>, key: Key<'_>) -> Result<Option<(Sketch, u64)>, Fail> {
    let found = sketch(view, key)?;
    Ok(found.map(|text| (Sketch::of(text.to_vec()), text.expire_ms)))
}

fn sparse_bytes() -> usize {
    usize::try_from(HLL_SPARSE_BYTES.get()).unwrap_or(0)
}

fn pfadd(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let key = args.key(1);
    let found = owned(view, key)?;
    let mut changed = found.is_none();
    let (mut sketch, expire_ms) = found.unwrap_or_else(|| (Sketch::new(), 0));
    for element in args.from(2) {
        let (index, value) = hll::place(element);
        changed |= sketch.raise(index, value, sparse_bytes())?;
    }
    if changed {
        sketch.forget_count();
        view.put_string(key, sketch.bytes(), expire_ms);
        view.notify(Class::STRING, "pfadd", key);
    }
    out.integer(i64::from(changed));
    Ok(())
}

/// Reads only: the count that Redis would keep in the sketch is counted again.
fn pfcount(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let mut registers = Registers::new();
    for name in args.from(1) {
        let Some(text) = sketch(view, Key::new(name))? else { continue };
        if let Some(kept) = hll::kept_count(&text).filter(|_| args.len() == 2) {
            out.integer(kept as i64);
            return Ok(());
        }
        registers.merge(&text)?;
    }
    out.integer(registers.count() as i64);
    Ok(())
}

fn pfmerge(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let mut registers = Registers::new();
    let mut dense = false;
    for name in args.from(1) {
        let Some(text) = sketch(view, Key::new(name))? else { continue };
        dense |= !hll::is_sparse(&text);
        registers.merge(&text)?;
    }
    let key = args.key(1);
    let (mut target, expire_ms) = owned(view, key)?.unwrap_or_else(|| (Sketch::new(), 0));
    if dense {
        target.make_dense()?;
    }
    for (index, &value) in registers.values().iter().enumerate().filter(|(_, value)| **value > 0) {
        target.raise(index, value, sparse_bytes())?;
    }
    target.forget_count();
    view.put_string(key, target.bytes(), expire_ms);
    view.notify(Class::STRING, "pfadd", key);
    out.simple("OK");
    Ok(())
}

fn pfdebug(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let key = args.key(2);
    let Some((mut found, expire_ms)) = owned(view, key)? else {
        return Err(Fail::text("ERR The specified key does not exist"));
    };
    let sub = args.at(1).to_ascii_lowercase();
    let known = [&b"getreg"[..], b"decode", b"encoding", b"todense"].contains(&&sub[..]);
    let named = String::from_utf8_lossy(args.at(1));
    if !known {
        return Err(Fail::text(format!("ERR Unknown PFDEBUG subcommand '{named}'")));
    }
    if args.len() != 3 {
        let text = format!("ERR Wrong number of arguments for the '{named}' subcommand");
        return Err(Fail::text(text));
    }
    let sparse = hll::is_sparse(found.bytes());
    match &sub[..] {
        b"encoding" => out.simple(if sparse { "sparse" } else { "dense" }),
        b"decode" if !sparse => return Err(Fail::text("ERR HLL encoding is not sparse")),
        b"decode" => {
            let shown = hll::runs(found.bytes())?.into_iter().map(|run| run.to_string());
            out.bulk(shown.collect::<Vec<_>>().join(" ").as_bytes());
        }
        _ => {
            if sparse {
                found.make_dense()?;
                view.put_string(key, found.bytes(), expire_ms);
            }
            if sub == b"todense" {
                out.integer(i64::from(sparse));
                return Ok(());
            }
            let mut registers = Registers::new();
            registers.merge(found.bytes())?;
            out.array(registers.values().len());
            registers.values().iter().for_each(|&value| out.integer(value.into()));
        }
    }
    Ok(())
}
