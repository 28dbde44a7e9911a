//! `struct`: values packed into strings by a format, and taken out of them.

use mlua::{Lua, MultiValue, Result, Table, Value};

use super::given::{Failed, Given, Outcome, number_of};
use super::library;

/// The widest integer in bytes.
const INTEGER_BYTES_MAX: usize = 32;
/// The alignment that `!` alone means.
const ALIGNMENT: usize = 8;
/// The longest string that is packed, in bytes: what a value may be.
const PACKED_BYTES_MAX: usize = 512 << 20;
/// The most values that are taken out at once.
const VALUES_MAX: usize = 7000;

pub(in crate::script) fn open(lua: &Lua) -> Result<Table> {
    library(lua, &[("pack", pack), ("unpack", unpack), ("size", size)])
}

/// A format that is being read.
struct Format<'f> {
    left: &'f [u8],
    big: bool,
    align: usize,
}

/// What a value's place in the bytes is.
struct Item {
    option: u8,
    size: usize,
    padding: usize,
}

impl<'f> Format<'f> {
    /// A string ends, for this library, at its first zero.
    fn new(format: &'f [u8]) -> Self {
        let end = format.iter().position(|&byte| byte == 0).unwrap_or(format.len());
        Self { left: &format[..end], big: false, align: 1 }
    }

    fn number(&mut self, absent: usize) -> std::result::Result<usize, Failed> {
        let digits = self.left.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return Ok(absent);
        }
        let (digits, left) = self.left.split_at(digits);
        self.left = left;
        let number = digits.iter().try_fold(0_i32, |number, digit| {
            number.checked_mul(10)?.checked_add(i32::from(digit - b'0'))
        });
        number.map(|number| number as usize).ok_or_else(|| "integral size overflow".into())
    }

    /// The next option at a position; options that only set something are done here.
    fn next(&mut self, given: &Given<'_>, at: usize) -> std::result::Result<Option<Item>, Failed> {
        let Some((&option, left)) = self.left.split_first() else { return Ok(None) };
        self.left = left;
        let size = match option {
            b'b' | b'B' | b'x' => 1,
            b'h' | b'H' => 2,
            b'f' => 4,
            b'l' | b'L' | b'T' | b'd' => 8,
            b'c' => self.number(1)?,
            b'i' | b'I' => {
                let size = self.number(4)?;
                if size > INTEGER_BYTES_MAX {
                    let max = INTEGER_BYTES_MAX;
                    return Err(
                        format!("integral size {size} is larger than limit of {max}").into()
                    );
                }
                size
            }
            b's' | b' ' => 0,
            b'>' | b'<' => {
                self.big = option == b'>';
                0
            }
            b'!' => {
                let align = self.number(ALIGNMENT)?;
                if !align.is_power_of_two() {
                    return Err(format!("alignment {align} is not a power of 2").into());
                }
                self.align = align;
                0
            }
            other => {
                let option = char::from(other);
                return Err(given.bad(1, &format!("invalid format option '{option}'")));
            }
        };
        let padding = if size == 0 || option == b'c' {
            0
        } else {
            // As C does it, for sizes that are no powers of two as well.
            let size = size.min(self.align);
            size.wrapping_sub(at & (size - 1)) & (size - 1)
        };
        Ok(Some(Item { option, size, padding }))
    }
}

fn pack(given: &Given<'_>) -> Outcome {
    let text = given.string(1)?;
    let text = text.as_bytes();
    let mut format = Format::new(&text);
    let (mut out, mut next) = (Vec::new(), 2);
    while let Some(item) = format.next(given, out.len())? {
        out.resize(out.len() + item.padding, 0);
        match item.option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let number = given.number(next)?;
                let value = if number < 0.0 { (number as i64) as u64 } else { number as u64 };
                put_integer(&mut out, value, item.size, format.big);
                next += 1;
            }
            b'x' => out.push(0),
            b'f' => {
                let bytes = (given.number(next)? as f32).to_le_bytes();
                put_bytes(&mut out, &bytes, format.big);
                next += 1;
            }
            b'd' => {
                put_bytes(&mut out, &given.number(next)?.to_le_bytes(), format.big);
                next += 1;
            }
            b'c' | b's' => {
                let string = given.string(next)?;
                let string = string.as_bytes();
                let size = if item.size == 0 { string.len() } else { item.size };
                next += 1;
                let Some(part) = string.get(..size) else {
                    return Err(given.bad(next, "string too short"));
                };
                out.extend_from_slice(part);
                if item.option == b's' {
                    out.push(0);
                }
            }
            _ => {}
        }
        if out.len() > PACKED_BYTES_MAX {
            return Err("the packed string is more than 512 MiB".into());
        }
    }
    given.bytes(&out)
}

fn put_integer(out: &mut Vec<u8>, value: u64, size: usize, big: bool) {
    let mut bytes = [0; INTEGER_BYTES_MAX];
    bytes[..8].copy_from_slice(&value.to_le_bytes());
    put_bytes(out, &bytes[..size], big);
}

/// Puts little-endian bytes in the order that is wanted.
fn put_bytes(out: &mut Vec<u8>, bytes: &[u8], big: bool) {
    if big { out.extend(bytes.iter().rev()) } else { out.extend_from_slice(bytes) }
}

fn unpack(given: &Given<'_>) -> Outcome {
    let (text, data) = (given.string(1)?, given.string(2)?);
    let (text, data) = (text.as_bytes(), data.as_bytes());
    let position = given.integer_or(3, 1)?;
    let Some(mut at) = usize::try_from(position).ok().and_then(|at| at.checked_sub(1)) else {
        return Err(given.bad(3, "offset must be 1 or greater"));
    };
    let short = || given.bad(2, "data string too short");
    let mut format = Format::new(&text);
    let mut results: Vec<Value> = Vec::new();
    while let Some(item) = format.next(given, at)? {
        at += item.padding;
        let mut size = item.size;
        let field = at.checked_add(size).and_then(|end| data.get(at..end)).ok_or_else(short)?;
        if results.len() > VALUES_MAX {
            return Err("too many results".into());
        }
        match item.option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let signed = item.option.is_ascii_lowercase();
                results.push(Value::Number(integer(field, signed, format.big)));
            }
            b'f' => {
                let mut bytes = [0; 4];
                bytes.copy_from_slice(field);
                let number =
                    if format.big { f32::from_be_bytes(bytes) } else { f32::from_le_bytes(bytes) };
                results.push(Value::Number(number.into()));
            }
            b'd' => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(field);
                let number =
                    if format.big { f64::from_be_bytes(bytes) } else { f64::from_le_bytes(bytes) };
                results.push(Value::Number(number));
            }
            b'c' => {
                let mut field = field;
                if size == 0 {
                    let before = results.pop();
                    let Some(length) = before.as_ref().and_then(number_of) else {
                        return Err("format 'c0' needs a previous size".into());
                    };
                    size = length.max(0.0) as usize;
                    field =
                        at.checked_add(size).and_then(|end| data.get(at..end)).ok_or_else(short)?;
                }
                results.push(Value::String(given.lua.create_string(field)?));
            }
            b's' => {
                let Some(length) = data[at..].iter().position(|&byte| byte == 0) else {
                    return Err("unfinished string in data".into());
                };
                results.push(Value::String(given.lua.create_string(&data[at..at + length])?));
                size = length + 1;
            }
            _ => {}
        }
        at += size;
    }
    results.push(Value::Integer(at as i64 + 1));
    Ok(MultiValue::from_iter(results))
}

/// An integer of any width; of those wider than eight bytes the low eight count.
fn integer(field: &[u8], signed: bool, big: bool) -> f64 {
    let mut bits: u64 = 0;
    let mut push = |byte: u8| bits = bits << 8 | u64::from(byte);
    if big {
        field.iter().for_each(|&byte| push(byte));
    } else {
        field.iter().rev().for_each(|&byte| push(byte));
    }
    if !signed {
        return bits as f64;
    }
    let unused = 64_u32.saturating_sub(field.len() as u32 * 8).min(63);
    ((bits << unused).cast_signed() >> unused) as f64
}

fn size(given: &Given<'_>) -> Outcome {
    let text = given.string(1)?;
    let text = text.as_bytes();
    let mut format = Format::new(&text);
    let mut at: usize = 0;
    while let Some(item) = format.next(given, at)? {
        match item.option {
            b's' => return Err(given.bad(1, "option 's' has no fixed size")),
            b'c' if item.size == 0 => {
                return Err(given.bad(1, "option 'c0' has no fixed size"));
            }
            _ => at += item.padding + item.size,
        }
    }
    given.one(at as i64)
}
