//! BITFIELD and BITFIELD_RO: integers of any width anywhere in a string.

use resp::reply::Writer;

use super::bits::{offset, owned};
use super::{Answer, Args, Fail, Flags, Keys, Spec};
use crate::worker::{Class, View};

const G: &str = "bitmap";

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "bitfield", -2, Flags::WRITE.and(Flags::DENYOOM), Keys::ONE, |v, a, o| {
        bitfield(v, a, o, true)
    }),
    Spec::data(G, "bitfield_ro", -2, Flags::READONLY.and(Flags::FAST), Keys::ONE, |v, a, o| {
        bitfield(v, a, o, false)
    }),
];

/// What becomes of a number that its field is too narrow for.
#[derive(Clone, Copy)]
enum Overflow {
    /// Its low bits are kept.
    Wrap,
    /// The nearest number that fits.
    Saturate,
    /// Nothing is written.
    Refuse,
}

/// A field of a string.
#[derive(Clone, Copy)]
struct Field {
    signed: bool,
    /// 1 to 64, unsigned to 63.
    width: u64,
    /// Its first bit.
    at: u64,
}

#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64, Overflow),
    Add(i64, Overflow),
}

impl Field {
    fn parse(kind: &[u8], at: &[u8]) -> Result<Self, Fail> {
        let bad = || {
            Fail::text(
                "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
            )
        };
        let (sign, width) = kind.split_first().ok_or_else(bad)?;
        let signed = match sign {
            b'i' => true,
            b'u' => false,
            _ => return Err(bad()),
        };
        let width = resp::integer(width).and_then(|n| u64::try_from(n).ok()).ok_or_else(bad)?;
        if !(1..=if signed { 64 } else { 63 }).contains(&width) {
            return Err(bad());
        }
        Ok(Self { signed, width, at: offset(at, width)? })
    }

    /// Bytes that a string needs to hold it.
    const fn end(&self) -> usize {
        (self.at + self.width).div_ceil(8) as usize
    }

    /// The bytes that it lies in, at most nine, as one number whose low bits it ends `shift` above.
    fn window(&self) -> (std::ops::Range<usize>, u32) {
        let range = (self.at / 8) as usize..self.end();
        (range, (self.end() as u64 * 8 - self.at - self.width) as u32)
    }

    const fn mask(&self) -> u128 {
        (1 << self.width) - 1
    }

    /// Its low bits as the number that they spell.
    const fn number(&self, bits: u128) -> i128 {
        let bits = (bits & self.mask()) as i128;
        if self.signed && bits >> (self.width - 1) == 1 { bits - (1 << self.width) } else { bits }
    }

    fn read(&self, bytes: &[u8]) -> i128 {
        let (range, shift) = self.window();
        // Beyond the string there are zeros.
        let bits = range.fold(0, |bits: u128, index| {
            bits << 8 | u128::from(bytes.get(index).copied().unwrap_or(0))
        });
        self.number(bits >> shift)
    }

    /// The string is long enough.
    fn write(&self, bytes: &mut [u8], number: i128) {
        let (range, shift) = self.window();
        let mut mask = self.mask() << shift;
        let mut bits = (number as u128 & self.mask()) << shift;
        for byte in bytes[range].iter_mut().rev() {
            *byte = *byte & !(mask as u8) | bits as u8;
            (mask, bits) = (mask >> 8, bits >> 8);
        }
    }

    /// What is to be stored for a number; `None`: nothing.
    fn fit(&self, number: i128, overflow: Overflow) -> Option<i128> {
        let (low, high) = match self.signed {
            true => (-(1 << (self.width - 1)), (1 << (self.width - 1)) - 1),
            false => (0, (1 << self.width) - 1),
        };
        match overflow {
            _ if (low..=high).contains(&number) => Some(number),
            Overflow::Wrap => Some(self.number(number as u128)),
            Overflow::Saturate => Some(number.clamp(low, high)),
            Overflow::Refuse => None,
        }
    }
}

fn parse(args: &Args<'_>) -> Result<Vec<(Field, Action)>, Fail> {
    let mut found = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut at = 2;
    while at < args.len() {
        let left = args.len() - at - 1;
        if args.is(at, "overflow") && left >= 1 {
            overflow = match () {
                () if args.is(at + 1, "wrap") => Overflow::Wrap,
                () if args.is(at + 1, "sat") => Overflow::Saturate,
                () if args.is(at + 1, "fail") => Overflow::Refuse,
                () => return Err(Fail::text("ERR Invalid OVERFLOW type specified")),
            };
            at += 2;
            continue;
        }
        let (set, add) = (args.is(at, "set"), args.is(at, "incrby"));
        if !(args.is(at, "get") && left >= 2 || (set || add) && left >= 3) {
            return Err(Fail::Syntax);
        }
        let field = Field::parse(args.at(at + 1), args.at(at + 2))?;
        let action = match (set, add) {
            (true, _) => Action::Set(args.integer(at + 3)?, overflow),
            (_, true) => Action::Add(args.integer(at + 3)?, overflow),
            _ => Action::Get,
        };
        at += if set || add { 4 } else { 3 };
        found.push((field, action));
    }
    Ok(found)
}

fn bitfield(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>, may_write: bool) -> Answer {
    let all = parse(args)?;
    let writes = all.iter().filter(|(_, action)| !matches!(action, Action::Get));
    let Some(end) = writes.map(|(field, _)| field.end()).max() else {
        let text = view.string(args.key(1))?;
        let bytes: &[u8] = text.as_deref().unwrap_or_default();
        out.array(all.len());
        all.iter().for_each(|(field, _)| out.integer(field.read(bytes) as i64));
        return Ok(());
    };
    if !may_write {
        return Err(Fail::text("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    let key = args.key(1);
    let (mut bytes, expire_ms) = owned(view, key)?;
    let mut changed = bytes.len() < end;
    bytes.resize(bytes.len().max(end), 0);
    out.array(all.len());
    for (field, action) in &all {
        let old = field.read(&bytes);
        let (new, answer) = match *action {
            Action::Get => (None, Some(old)),
            Action::Set(value, overflow) => {
                // An unsigned field takes a negative number for its 64 bits, as Redis does.
                let value = if field.signed { value.into() } else { i128::from(value as u64) };
                let new = field.fit(value, overflow);
                (new, new.map(|_| old))
            }
            Action::Add(by, overflow) => {
                let new = field.fit(old + i128::from(by), overflow);
                (new, new)
            }
        };
        if let Some(new) = new {
            field.write(&mut bytes, new);
            changed |= new != old;
        }
        match answer {
            Some(number) => out.integer(number as i64),
            None => out.null(),
        }
    }
    if changed {
        view.put_string(key, &bytes, expire_ms);
        view.notify(Class::STRING, "setbit", key);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_field_reads_back_and_leaves_the_rest(
            before in prop::collection::vec(any::<u8>(), 20),
            at in 0u64..80, width in 1u64..=64, signed: bool, number: i64,
        ) {
            let width = if signed { width } else { width.min(63) };
            let field = Field { signed, width, at };
            let fitted = field.fit(number.into(), Overflow::Wrap).unwrap();
            let mut after = before.clone();
            field.write(&mut after, fitted);
            prop_assert_eq!(field.read(&after), fitted);
            let bit = |bytes: &[u8], at: u64| bytes[at as usize / 8] >> (7 - at % 8) & 1;
            for other in (0..160).filter(|bit| !(at..at + width).contains(bit)) {
                prop_assert_eq!(bit(&before, other), bit(&after, other));
            }
        }
    }

    #[test]
    fn what_does_not_fit_wraps_saturates_or_is_refused() {
        let byte = |signed| Field { signed, width: 8, at: 0 };
        for (signed, number, wrapped, saturated) in [
            (false, 256, 0, 255),
            (false, -1, 255, 0),
            (true, 128, -128, 127),
            (true, -129, 127, -128),
        ] {
            let field = byte(signed);
            assert_eq!(field.fit(number, Overflow::Wrap), Some(wrapped));
            assert_eq!(field.fit(number, Overflow::Saturate), Some(saturated));
            assert_eq!(field.fit(number, Overflow::Refuse), None);
        }
    }
}
