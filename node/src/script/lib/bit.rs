//! `bit`: operations on the low 32 bits of numbers, as Lua BitOp defines them.

use mlua::{Lua, Result, Table};

use super::given::{Failed, Given, Outcome};
use super::library;

pub(in crate::script) fn open(lua: &Lua) -> Result<Table> {
    library(
        lua,
        &[
            ("tobit", |given| signed(given, bits(given, 1)?)),
            ("bnot", |given| signed(given, !bits(given, 1)?)),
            ("band", |given| fold(given, |a, b| a & b)),
            ("bor", |given| fold(given, |a, b| a | b)),
            ("bxor", |given| fold(given, |a, b| a ^ b)),
            ("lshift", |given| shift(given, |a, n| a << n)),
            ("rshift", |given| shift(given, |a, n| a >> n)),
            ("arshift", |given| shift(given, |a, n| (a.cast_signed() >> n).cast_unsigned())),
            ("rol", |given| shift(given, u32::rotate_left)),
            ("ror", |given| shift(given, u32::rotate_right)),
            ("bswap", |given| signed(given, bits(given, 1)?.swap_bytes())),
            ("tohex", tohex),
        ],
    )
}

/// The low 32 bits of a number, rounded to the nearest integer: adding 2^52 + 2^51 leaves them in
/// the low bits of the double.
fn bits(given: &Given<'_>, index: usize) -> std::result::Result<u32, Failed> {
    let number = given.number(index)? + 6_755_399_441_055_744.0;
    Ok(number.to_bits() as u32)
}

fn signed(given: &Given<'_>, bits: u32) -> Outcome {
    given.one(bits.cast_signed())
}

fn fold(given: &Given<'_>, operation: fn(u32, u32) -> u32) -> Outcome {
    let mut all = bits(given, 1)?;
    for index in 2..=given.len() {
        all = operation(all, bits(given, index)?);
    }
    signed(given, all)
}

fn shift(given: &Given<'_>, operation: fn(u32, u32) -> u32) -> Outcome {
    let (number, count) = (bits(given, 1)?, bits(given, 2)? & 31);
    signed(given, operation(number, count))
}

fn tohex(given: &Given<'_>) -> Outcome {
    let number = bits(given, 1)?;
    let digits = if given.len() < 2 { 8 } else { bits(given, 2)?.cast_signed() };
    let count = digits.unsigned_abs().min(8) as usize;
    let text = if digits < 0 { format!("{number:08X}") } else { format!("{number:08x}") };
    given.bytes(&text.as_bytes()[8 - count..])
}
