//! `cmsgpack`: MessagePack, as Redis's library packs Lua's values.

use mlua::{Lua, MultiValue, Result, Table, Value};

use super::given::{Failed, Given, Outcome};
use super::library;
use super::msgpack_read::Reader;

/// Tables that are nested deeper are packed as nil: so one that holds itself has an end.
const DEPTH_MAX: usize = 16;
/// The longest string that is packed, in bytes: what a value may be.
const PACKED_BYTES_MAX: usize = 512 << 20;
/// The most values that are unpacked at once.
const VALUES_MAX: usize = 7000;

pub(in crate::script) fn open(lua: &Lua) -> Result<Table> {
    let table = library(
        lua,
        &[
            ("pack", pack),
            ("unpack", |given| unpack(given, 0, 0)),
            ("unpack_one", |given| unpack(given, 1, given.integer_or(2, 0)?)),
            ("unpack_limit", |given| unpack(given, given.integer(2)?, given.integer_or(3, 0)?)),
        ],
    )?;
    table.raw_set("_NAME", "cmsgpack")?;
    table.raw_set("_VERSION", "lua-cmsgpack 0.4.0")?;
    Ok(table)
}

fn pack(given: &Given<'_>) -> Outcome {
    if given.len() == 0 {
        return Err(given.bad(0, "MessagePack pack needs input."));
    }
    let mut out = Vec::new();
    for value in &given.values {
        put(&mut out, value, 0)?;
    }
    given.bytes(&out)
}

fn put(out: &mut Vec<u8>, value: &Value, depth: usize) -> std::result::Result<(), Failed> {
    if out.len() > PACKED_BYTES_MAX {
        return Err("the packed string is more than 512 MiB".into());
    }
    match value {
        Value::Boolean(value) => out.push(if *value { 0xc3 } else { 0xc2 }),
        Value::Integer(value) => put_integer(out, *value),
        Value::Number(value) => put_number(out, *value),
        Value::String(string) => put_string(out, &string.as_bytes()),
        Value::Table(table) if depth < DEPTH_MAX => match array_length(table)? {
            Some(length) => {
                put_length(out, length, (0x90, 0xdc, 0xdd));
                for index in 1..=length {
                    put(out, &table.raw_get(index)?, depth + 1)?;
                }
            }
            None => {
                let mut count = 0;
                table.for_each(|_: Value, _: Value| {
                    count += 1;
                    Ok(())
                })?;
                put_length(out, count, (0x80, 0xde, 0xdf));
                for pair in table.pairs::<Value, Value>() {
                    let (key, value) = pair?;
                    put(out, &key, depth + 1)?;
                    put(out, &value, depth + 1)?;
                }
            }
        },
        _ => out.push(0xc0),
    }
    Ok(())
}

/// How many values a table has, if its keys are the numbers from 1 to that.
fn array_length(table: &Table) -> Result<Option<usize>> {
    let (mut count, mut greatest, mut is_array) = (0_i64, 0, true);
    for pair in table.pairs::<Value, Value>() {
        match pair?.0 {
            Value::Integer(index) if index > 0 => {
                count += 1;
                greatest = greatest.max(index);
            }
            _ => {
                is_array = false;
                break;
            }
        }
    }
    Ok((is_array && greatest == count).then_some(count as usize))
}

/// The length of an array or a map.
fn put_length(out: &mut Vec<u8>, length: usize, (fix, short, long): (u8, u8, u8)) {
    match length {
        0..16 => out.push(fix | length as u8),
        16..0x1_0000 => {
            out.push(short);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(long);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
    }
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        length @ 0..32 => out.push(0xa0 | length as u8),
        length @ 32..0x100 => out.extend_from_slice(&[0xd9, length as u8]),
        length @ 0x100..0x1_0000 => {
            out.push(0xda);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0xdb);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

fn put_number(out: &mut Vec<u8>, value: f64) {
    const TWO_63: f64 = 9_223_372_036_854_775_808.0;
    if value.fract() == 0.0 && (-TWO_63..TWO_63).contains(&value) {
        return put_integer(out, value as i64);
    }
    let single = value as f32;
    if f64::from(single) == value {
        out.push(0xca);
        out.extend_from_slice(&single.to_be_bytes());
    } else {
        out.push(0xcb);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

fn put_integer(out: &mut Vec<u8>, value: i64) {
    match value {
        0..=127 => out.push(value as u8),
        128..=0xff => out.extend_from_slice(&[0xcc, value as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend_from_slice(&(value as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&(value as u32).to_be_bytes());
        }
        0x1_0000_0000.. => {
            out.push(0xcf);
            out.extend_from_slice(&value.to_be_bytes());
        }
        -32..=-1 => out.push(value as u8),
        -128..=-33 => out.extend_from_slice(&[0xd0, value as u8]),
        -0x8000..=-129 => {
            out.push(0xd1);
            out.extend_from_slice(&(value as i16).to_be_bytes());
        }
        -0x8000_0000..=-0x8001 => {
            out.push(0xd2);
            out.extend_from_slice(&(value as i32).to_be_bytes());
        }
        _ => {
            out.push(0xd3);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

/// All values from an offset on, or at most `limit`, with the offset of what follows first.
fn unpack(given: &Given<'_>, limit: i64, offset: i64) -> Outcome {
    let packed = given.string(1)?;
    let packed = packed.as_bytes();
    let (Ok(start), Ok(mut left)) = (usize::try_from(offset), usize::try_from(limit)) else {
        let length = packed.len();
        return Err(format!(
            "Invalid request to unpack with offset of {offset} and limit of {length}."
        )
        .into());
    };
    let Some(bytes) = packed.get(start..) else {
        let length = packed.len();
        return Err(format!("Start offset {offset} greater than input length {length}.").into());
    };
    let all = start == 0 && left == 0;
    if all {
        left = usize::MAX;
    }
    let mut reader = Reader::new(given.lua, bytes);
    let mut values = Vec::new();
    while !reader.is_at_end() && left > 0 {
        if values.len() > VALUES_MAX {
            return Err(
                "too many return values at once; use unpack_one or unpack_limit instead.".into()
            );
        }
        values.push(reader.value(0)?);
        left -= 1;
    }
    if !all {
        let next = if reader.is_at_end() { -1 } else { (start + reader.taken()) as i64 };
        values.insert(0, Value::Integer(next));
    }
    Ok(MultiValue::from_iter(values))
}
