//! MessagePack, read.

use mlua::{Lua, Value};

use super::given::Failed;

/// How deep arrays and maps may be nested in what is read.
const DEPTH_MAX: usize = 1000;
/// Room made at once for the entries that a header announces.
const ROOM_MAX: usize = 1024;

/// Packed bytes that are being read.
pub(super) struct Reader<'a> {
    lua: &'a Lua,
    bytes: &'a [u8],
    at: usize,
}

type Read<T> = Result<T, Failed>;

impl<'a> Reader<'a> {
    pub(super) fn new(lua: &'a Lua, bytes: &'a [u8]) -> Self {
        Self { lua, bytes, at: 0 }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// How many bytes were read.
    pub(super) fn taken(&self) -> usize {
        self.at
    }

    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let end = self.at.checked_add(count);
        let bytes = end.and_then(|end| self.bytes.get(self.at..end));
        let bytes = bytes.ok_or("Missing bytes in input.")?;
        self.at += count;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    pub(super) fn value(&mut self, depth: usize) -> Read<Value> {
        if depth > DEPTH_MAX {
            return Err("Bad data format in input.".into());
        }
        let [kind] = self.array()?;
        Ok(match kind {
            0x00..=0x7f => Value::Integer(kind.into()),
            0x80..=0x8f => self.map(usize::from(kind & 0x0f), depth)?,
            0x90..=0x9f => self.list(usize::from(kind & 0x0f), depth)?,
            0xa0..=0xbf => self.string(usize::from(kind & 0x1f))?,
            0xc0 => Value::Nil,
            0xc2 | 0xc3 => Value::Boolean(kind == 0xc3),
            0xca => Value::Number(f32::from_be_bytes(self.array()?).into()),
            0xcb => Value::Number(f64::from_be_bytes(self.array()?)),
            0xcc => Value::Integer(u8::from_be_bytes(self.array()?).into()),
            0xcd => Value::Integer(u16::from_be_bytes(self.array()?).into()),
            0xce => Value::Integer(u32::from_be_bytes(self.array()?).into()),
            0xcf => Value::Number(u64::from_be_bytes(self.array()?) as f64),
            0xd0 => Value::Integer(i8::from_be_bytes(self.array()?).into()),
            0xd1 => Value::Integer(i16::from_be_bytes(self.array()?).into()),
            0xd2 => Value::Integer(i32::from_be_bytes(self.array()?).into()),
            0xd3 => Value::Number(i64::from_be_bytes(self.array()?) as f64),
            0xd9 => {
                let length = u8::from_be_bytes(self.array()?).into();
                self.string(length)?
            }
            0xda => {
                let length = u16::from_be_bytes(self.array()?).into();
                self.string(length)?
            }
            0xdb => {
                let length = u32::from_be_bytes(self.array()?) as usize;
                self.string(length)?
            }
            0xdc => {
                let length = u16::from_be_bytes(self.array()?).into();
                self.list(length, depth)?
            }
            0xdd => {
                let length = u32::from_be_bytes(self.array()?) as usize;
                self.list(length, depth)?
            }
            0xde => {
                let length = u16::from_be_bytes(self.array()?).into();
                self.map(length, depth)?
            }
            0xdf => {
                let length = u32::from_be_bytes(self.array()?) as usize;
                self.map(length, depth)?
            }
            0xe0..=0xff => Value::Integer(kind.cast_signed().into()),
            _ => return Err("Bad data format in input.".into()),
        })
    }

    fn string(&mut self, length: usize) -> Read<Value> {
        let bytes = self.take(length)?;
        Ok(Value::String(self.lua.create_string(bytes)?))
    }

    fn list(&mut self, length: usize, depth: usize) -> Read<Value> {
        let table = self.lua.create_table_with_capacity(length.min(ROOM_MAX), 0)?;
        for index in 1..=length {
            let value = self.value(depth + 1)?;
            table.raw_set(index, value)?;
        }
        Ok(Value::Table(table))
    }

    fn map(&mut self, length: usize, depth: usize) -> Read<Value> {
        let table = self.lua.create_table_with_capacity(0, length.min(ROOM_MAX))?;
        for _ in 0..length {
            let key = self.value(depth + 1)?;
            let value = self.value(depth + 1)?;
            match key {
                Value::Nil => return Err("table index is nil".into()),
                Value::Number(number) if number.is_nan() => {
                    return Err("table index is NaN".into());
                }
                key => table.raw_set(key, value)?,
            }
        }
        Ok(Value::Table(table))
    }
}
