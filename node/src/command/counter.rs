//! Strings that are numbers.

use resp::reply::Writer;

use super::{Answer, Args, Fail, Flags, Keys, Spec, float};
use crate::worker::{Class, View};

const G: &str = "string";
const W: Flags = Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST);

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "incr", 2, W, Keys::ONE, |view, args, out| add(view, args, 1, out)),
    Spec::data(G, "decr", 2, W, Keys::ONE, |view, args, out| add(view, args, -1, out)),
    Spec::data(G, "incrby", 3, W, Keys::ONE, |view, args, out| {
        add(view, args, args.integer(2)?, out)
    }),
    Spec::data(G, "decrby", 3, W, Keys::ONE, decrby),
    Spec::data(G, "incrbyfloat", 3, W, Keys::ONE, incrbyfloat),
];

fn add(view: &mut View<'_>, args: &Args<'_>, by: i64, out: &mut Writer<'_>) -> Answer {
    let key = args.key(1);
    let (old, expire_ms) = match view.string(key)? {
        Some(text) => (resp::integer(&text).ok_or(Fail::NotInteger)?, text.expire_ms),
        None => (0, 0),
    };
    let new = old.checked_add(by).ok_or(overflow())?;
    view.put_string(key, itoa::Buffer::new().format(new).as_bytes(), expire_ms);
    view.notify(Class::STRING, "incrby", key);
    out.integer(new);
    Ok(())
}

/// What Redis says when a counter leaves 64 bits.
pub(super) fn overflow() -> Fail {
    Fail::text("ERR increment or decrement would overflow")
}

fn decrby(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let by = args.integer(2)?;
    let by = by.checked_neg().ok_or(Fail::text("ERR decrement would overflow"))?;
    add(view, args, by, out)
}

fn incrbyfloat(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let key = args.key(1);
    let (sum, expire_ms) = match view.string(key)? {
        Some(text) => (add_floats(&text, args.at(2), Fail::NotFloat)?, text.expire_ms),
        None => (add_floats(b"0", args.at(2), Fail::NotFloat)?, 0),
    };
    view.put_string(key, sum.as_bytes(), expire_ms);
    view.notify(Class::STRING, "incrbyfloat", key);
    out.bulk(sum.as_bytes());
    Ok(())
}

/// The sum of two numbers as text. Redis adds long doubles and prints 17 digits after the point;
/// decimals that fit are added exactly here, which prints the same.
pub(super) fn add_floats(old: &[u8], by: &[u8], bad_old: Fail) -> Result<String, Fail> {
    let a = float(old).ok_or(bad_old)?;
    let b = float(by).ok_or(Fail::NotFloat)?;
    if let (Some(a), Some(b)) = (decimal(old), decimal(by))
        && let Some(sum) = a.checked_add(b)
    {
        return Ok(print_decimal(sum));
    }
    let sum = a + b;
    if !sum.is_finite() {
        return Err(Fail::text("ERR increment would produce NaN or Infinity"));
    }
    Ok(format!("{sum}"))
}

const DIGITS: usize = 17;
const SCALE: i128 = 10i128.pow(DIGITS as u32);

/// A decimal of at most 17 digits after the point, times 10^17.
fn decimal(text: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    let shift = i32::try_from(DIGITS)
        .ok()?
        .checked_add(exponent)?
        .checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let value = value.checked_mul(10i128.checked_pow(u32::try_from(shift).ok()?)?)?;
    Some(if negative { -value } else { value })
}

fn print_decimal(value: i128) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let (whole, fraction) = ((value / SCALE).abs(), (value % SCALE).abs());
    let text = format!("{sign}{whole}.{fraction:017}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_add_as_people_do() {
        for (a, b, sum) in [
            ("0.1", "0.2", "0.3"),
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "-1.1", "1.9"),
            ("-0.5", "0.5", "0"),
        ] {
            let found = add_floats(a.as_bytes(), b.as_bytes(), Fail::NotFloat).unwrap();
            assert_eq!(found, sum, "{a} + {b}");
        }
        assert!(add_floats(b"1e308", b"1.7e308", Fail::NotFloat).is_err());
    }
}
