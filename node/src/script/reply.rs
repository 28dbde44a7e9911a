//! A command's answer as a value of Lua's, by Redis's rules.

use mlua::{Lua, Result, Table, Value};

/// How deep an answer may be nested: more than any command's is.
const DEPTH_MAX: usize = 64;
/// Room made at once for the elements of an answer.
const ROOM_MAX: usize = 1 << 16;

/// An answer of this node's own that is read.
pub(super) struct Reply<'a> {
    lua: &'a Lua,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reply<'a> {
    pub(super) fn new(lua: &'a Lua, bytes: &'a [u8]) -> Self {
        Self { lua, bytes, at: 0 }
    }

    /// The value; errors are tables with an `err`.
    pub(super) fn read(mut self) -> Result<Value> {
        self.value(DEPTH_MAX)
    }

    fn line(&mut self) -> Result<(u8, &'a [u8])> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let (&tag, rest) = rest.split_first().ok_or_else(broken)?;
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or_else(broken)?;
        self.at += end + 2;
        Ok((tag, &rest[..end.checked_sub(1).ok_or_else(broken)?]))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let bytes = self.bytes.get(self.at..self.at + length).ok_or_else(broken)?;
        self.at += length + 2;
        Ok(bytes)
    }

    fn single(&self, name: &str, value: Value) -> Result<Value> {
        let table = self.lua.create_table_with_capacity(0, 1)?;
        table.raw_set(name, value)?;
        Ok(Value::Table(table))
    }

    fn text(&self, bytes: &[u8]) -> Result<Value> {
        Ok(Value::String(self.lua.create_string(bytes)?))
    }

    fn value(&mut self, depth: usize) -> Result<Value> {
        let depth = depth.checked_sub(1).ok_or_else(broken)?;
        let (tag, line) = self.line()?;
        let count = || resp::integer(line).and_then(|count| usize::try_from(count).ok());
        Ok(match tag {
            b'$' => match count() {
                Some(length) => {
                    let bytes = self.take(length)?;
                    self.text(bytes)?
                }
                None => Value::Boolean(false),
            },
            b':' => Value::Integer(resp::integer(line).ok_or_else(broken)?),
            b'+' => self.single("ok", self.text(line)?)?,
            b'-' => self.single("err", self.text(line)?)?,
            b'*' | b'>' => match count() {
                Some(count) => {
                    let table = self.lua.create_table_with_capacity(count.min(ROOM_MAX), 0)?;
                    for index in 1..=count {
                        let value = self.value(depth)?;
                        table.raw_set(index, value)?;
                    }
                    Value::Table(table)
                }
                None => Value::Boolean(false),
            },
            b'%' => {
                let table = self.lua.create_table()?;
                for _ in 0..count().ok_or_else(broken)? {
                    let (key, value) = (self.value(depth)?, self.value(depth)?);
                    put(&table, key, value)?;
                }
                self.single("map", Value::Table(table))?
            }
            b'~' => {
                let table = self.lua.create_table()?;
                for _ in 0..count().ok_or_else(broken)? {
                    let member = self.value(depth)?;
                    put(&table, member, Value::Boolean(true))?;
                }
                self.single("set", Value::Table(table))?
            }
            b'_' => Value::Nil,
            b'#' => Value::Boolean(line == b"t"),
            b',' => {
                let number = std::str::from_utf8(line).ok().and_then(|text| text.parse().ok());
                self.single("double", Value::Number(number.ok_or_else(broken)?))?
            }
            b'(' => self.single("big_number", self.text(line)?)?,
            b'=' => {
                let bytes = self.take(count().ok_or_else(broken)?)?;
                let (format, text) = bytes.split_at_checked(4).ok_or_else(broken)?;
                let table = self.lua.create_table()?;
                table.raw_set("format", self.text(&format[..3])?)?;
                table.raw_set("string", self.text(text)?)?;
                self.single("verbatim_string", Value::Table(table))?
            }
            b'|' => {
                for _ in 0..2 * count().ok_or_else(broken)? {
                    self.value(depth)?;
                }
                self.value(depth)?
            }
            _ => return Err(broken()),
        })
    }
}

/// Puts an entry, if Lua can have its key.
fn put(table: &Table, key: Value, value: Value) -> Result<()> {
    match key {
        Value::Nil => Ok(()),
        Value::Number(number) if number.is_nan() => Ok(()),
        key => table.raw_set(key, value),
    }
}

fn broken() -> mlua::Error {
    mlua::Error::runtime("the answer of this command could not be read")
}
