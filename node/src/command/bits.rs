//! Bits of strings: single ones, counts, positions, and strings combined bit by bit. The first bit
//! is the highest of the first byte.

use resp::reply::Writer;

use super::string::STRING_BYTES_MAX;
use super::{Answer, Args, Fail, Flags, Keys, Spec};
use crate::worker::{Class, Key, View};

const G: &str = "bitmap";
const W: Flags = Flags::WRITE.and(Flags::DENYOOM);
const R: Flags = Flags::READONLY;

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "setbit", 4, W, Keys::ONE, setbit),
    Spec::data(G, "getbit", 3, R.and(Flags::FAST), Keys::ONE, getbit),
    Spec::data(G, "bitcount", -2, R, Keys::ONE, bitcount),
    Spec::data(G, "bitpos", -3, R, Keys::ONE, bitpos),
    Spec::data(G, "bitop", -4, W, Keys::range(2, -1, 1), bitop),
];

/// Where a bit is: `#n` counts in fields of `width` bits, where that is above 0.
pub(super) fn offset(text: &[u8], width: u64) -> Result<u64, Fail> {
    let bad = || Fail::text("ERR bit offset is not an integer or out of range");
    let (text, unit) = match text.strip_prefix(b"#") {
        Some(rest) if width > 0 => (rest, width),
        _ => (text, 1),
    };
    let offset = resp::integer(text).and_then(|n| u64::try_from(n).ok());
    let offset = offset.and_then(|n| n.checked_mul(unit)).ok_or_else(bad)?;
    if offset / 8 >= STRING_BYTES_MAX { Err(bad()) } else { Ok(offset) }
}

/// Which byte, and which bit of it.
fn place(args: &Args<'_>) -> Result<(usize, u8), Fail> {
    let offset = offset(args.at(2), 0)?;
    Ok(((offset / 8) as usize, 0x80 >> (offset % 8)))
}

/// A string to be changed, and when it expires; nothing is an empty one.
pub(super) fn owned(view: &mut View<'_>, key: Key<'_>) -> Result<(Vec<u8>, u64), Fail> {
    Ok(match view.string(key)? {
        Some(text) => (text.to_vec(), text.expire_ms),
        None => (Vec::new(), 0),
    })
}

fn setbit(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (byte, mask) = place(args)?;
    let on = match args.at(3) {
        b"0" => false,
        b"1" => true,
        _ => return Err(Fail::text("ERR bit is not an integer or out of range")),
    };
    let key = args.key(1);
    let (mut bytes, expire_ms) = owned(view, key)?;
    let grows = bytes.len() <= byte;
    if grows {
        bytes.resize(byte + 1, 0);
    }
    let was_on = bytes[byte] & mask != 0;
    if was_on != on {
        bytes[byte] ^= mask;
    }
    if grows || was_on != on {
        view.put_string(key, &bytes, expire_ms);
        view.notify(Class::STRING, "setbit", key);
    }
    out.integer(i64::from(was_on));
    Ok(())
}

fn getbit(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (byte, mask) = place(args)?;
    let found = view.string(args.key(1))?.and_then(|text| text.get(byte).copied());
    out.integer(i64::from(found.unwrap_or(0) & mask != 0));
    Ok(())
}

/// Whether the argument at this index says BIT; it may also say BYTE.
fn in_bits(args: &Args<'_>, at: usize) -> Result<bool, Fail> {
    match () {
        () if args.get(at).is_none() || args.is(at, "byte") => Ok(false),
        () if args.is(at, "bit") => Ok(true),
        () => Err(Fail::Syntax),
    }
}

/// The bits that an inclusive range of bits or bytes means in a string of so many bytes, the last
/// one included; negative numbers count from the end.
fn span(start: i64, end: i64, bits: bool, bytes: usize) -> Option<(usize, usize)> {
    // A string's bits are far below 2^63.
    let len = if bits { bytes as i64 * 8 } else { bytes as i64 };
    let clip = |index: i64| if index < 0 { index.saturating_add(len).max(0) } else { index };
    let (start, end) = (clip(start), clip(end).min(len - 1));
    if start > end {
        return None;
    }
    let (start, end) = (start as usize, end as usize);
    Some(if bits { (start, end) } else { (start * 8, end * 8 + 7) })
}

/// The byte at this index, only those of its bits that lie within the span.
fn masked(byte: u8, index: usize, (from, to): (usize, usize)) -> u8 {
    let low = if index == from / 8 { 0xff >> (from % 8) } else { 0xff };
    let high = if index == to / 8 { 0xff << (7 - to % 8) } else { 0xff };
    byte & low & high
}

fn bitcount(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let Some(text) = view.string(args.key(1))? else {
        out.integer(0);
        return Ok(());
    };
    let range = match args.len() {
        2 => span(0, -1, false, text.len()),
        4 | 5 => {
            let (start, end) = (args.integer(2)?, args.integer(3)?);
            if start < 0 && end < 0 && start > end {
                None
            } else {
                span(start, end, in_bits(args, 4)?, text.len())
            }
        }
        _ => return Err(Fail::Syntax),
    };
    let count = range.map_or(0, |(from, to)| {
        let (first, last) = (from / 8, to / 8);
        let all: u64 = text[first..=last].iter().map(|byte| u64::from(byte.count_ones())).sum();
        let outside = |index: usize| {
            u64::from((text[index] & !masked(text[index], index, (from, to))).count_ones())
        };
        all - outside(first) - if last > first { outside(last) } else { 0 }
    });
    out.integer(count as i64);
    Ok(())
}

/// The first bit that is on, or off, within a span of the bits.
fn first(bytes: &[u8], on: bool, (from, to): (usize, usize)) -> Option<usize> {
    let wanted = |byte: u8| if on { byte } else { !byte };
    let (first, last) = (from / 8, to / 8);
    let at = |index: usize| Some(masked(wanted(bytes[index]), index, (from, to)));
    let found = |index: usize| {
        at(index).filter(|&byte| byte != 0).map(|byte| index * 8 + byte.leading_zeros() as usize)
    };
    let between = || {
        let inner = bytes.get(first + 1..last)?;
        found(first + 1 + inner.iter().position(|&byte| wanted(byte) != 0)?)
    };
    found(first).or_else(between).or_else(|| found(last))
}

fn bitpos(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let on = match args.integer(2)? {
        0 => false,
        1 => true,
        _ => return Err(Fail::text("ERR The bit argument must be 1 or 0.")),
    };
    let Some(text) = view.string(args.key(1))? else {
        // An endless row of zeros.
        out.integer(if on { -1 } else { 0 });
        return Ok(());
    };
    let (start, end, bits) = match args.len() {
        3 => (0, -1, false),
        4 => (args.integer(3)?, -1, false),
        5 | 6 => {
            let start = args.integer(3)?;
            let bits = in_bits(args, 5)?;
            (start, args.integer(4)?, bits)
        }
        _ => return Err(Fail::Syntax),
    };
    let range = span(start, end, bits, text.len());
    let found = range.and_then(|range| first(&text, on, range));
    out.integer(match found {
        Some(at) => at as i64,
        // Without an end, zeros follow the string.
        None if !on && range.is_some() && args.len() < 5 => text.len() as i64 * 8,
        None => -1,
    });
    Ok(())
}

fn bitop(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let combine: fn(&mut u8, u8) = match &args.at(1).to_ascii_lowercase()[..] {
        b"and" => |to, with| *to &= with,
        b"or" => |to, with| *to |= with,
        b"xor" => |to, with| *to ^= with,
        b"not" if args.len() == 4 => |to, _| *to = !*to,
        b"not" => {
            return Err(Fail::text("ERR BITOP NOT must be called with a single source key."));
        }
        _ => return Err(Fail::Syntax),
    };
    let mut result: Option<Vec<u8>> = None;
    for name in args.from(3) {
        let text = view.string(Key::new(name))?;
        let text: &[u8] = text.as_deref().unwrap_or_default();
        match &mut result {
            None => result = Some(text.to_vec()),
            Some(result) => {
                // A shorter string is as if zeros followed it.
                result.resize(result.len().max(text.len()), 0);
                let (with, rest) = result.split_at_mut(text.len());
                with.iter_mut().zip(text).for_each(|(to, &with)| combine(to, with));
                rest.iter_mut().for_each(|to| combine(to, 0));
            }
        }
    }
    let mut result = result.unwrap_or_default();
    if args.is(1, "not") {
        result.iter_mut().for_each(|byte| combine(byte, 0));
    }
    let target = args.key(2);
    if !result.is_empty() {
        view.put_string(target, &result, 0);
        view.notify(Class::STRING, "set", target);
    } else if view.entry(target)?.is_some() {
        view.delete(target);
        view.notify(Class::GENERIC, "del", target);
    }
    out.integer(result.len() as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bit_of_a_span_is_found() {
        let bytes = [0x00, 0xff, 0xf0, 0x00];
        let slow = |on: bool, (from, to): (usize, usize)| {
            (from..=to).find(|&at| (bytes[at / 8] & 0x80 >> (at % 8) != 0) == on)
        };
        for from in 0..32 {
            for to in from..32 {
                for on in [false, true] {
                    let range = (from, to);
                    assert_eq!(first(&bytes, on, range), slow(on, range), "{on} {range:?}");
                }
            }
        }
    }

    #[test]
    fn spans_are_clipped() {
        assert_eq!(span(0, -1, false, 2), Some((0, 15)));
        assert_eq!(span(-1, -1, false, 2), Some((8, 15)));
        assert_eq!(span(3, 100, true, 1), Some((3, 7)));
        assert_eq!(span(i64::MIN, i64::MAX, true, 1), Some((0, 7)));
        assert_eq!(span(2, 1, false, 4), None);
        assert_eq!(span(0, -1, false, 0), None);
    }
}
