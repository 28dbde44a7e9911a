//! Single bits of strings.

use resp::reply::Writer;

use super::string::STRING_BYTES_MAX;
use super::{Answer, Args, Fail, Flags, Keys, Spec};
use crate::worker::View;

const G: &str = "bitmap";

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "setbit", 4, Flags::WRITE.and(Flags::DENYOOM), Keys::ONE, setbit),
    Spec::data(G, "getbit", 3, Flags::READONLY.and(Flags::FAST), Keys::ONE, getbit),
];

/// Which byte, and which bit of it.
fn place(args: &Args<'_>) -> Result<(usize, u8), Fail> {
    let bad = || Fail::text("ERR bit offset is not an integer or out of range");
    let offset = resp::integer(args.at(2)).and_then(|n| u64::try_from(n).ok()).ok_or_else(bad)?;
    let byte = offset / 8;
    // The first bit is the highest of the first byte.
    let mask = 0x80 >> (offset % 8);
    if byte >= STRING_BYTES_MAX { Err(bad()) } else { Ok((byte as usize, mask)) }
}

fn setbit(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (byte, mask) = place(args)?;
    let on = match args.at(3) {
        b"0" => false,
        b"1" => true,
        _ => return Err(Fail::text("ERR bit is not an integer or out of range")),
    };
    let key = args.key(1);
    let (mut bytes, expire_ms) = match view.string(key)? {
        Some(text) => (text.to_vec(), text.expire_ms),
        None => (Vec::new(), 0),
    };
    if bytes.len() <= byte {
        bytes.resize(byte + 1, 0);
    }
    out.integer(i64::from(bytes[byte] & mask != 0));
    if on {
        bytes[byte] |= mask;
    } else {
        bytes[byte] &= !mask;
    }
    view.put_string(key, &bytes, expire_ms);
    Ok(())
}

fn getbit(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (byte, mask) = place(args)?;
    let found = view.string(args.key(1))?.and_then(|text| text.get(byte).copied());
    out.integer(i64::from(found.unwrap_or(0) & mask != 0));
    Ok(())
}
