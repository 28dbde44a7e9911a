//! What a script returns, as an answer to its client, by Redis's rules.

use mlua::{Result, Table, Value};
use resp::Version;
use resp::reply::Writer;

use super::lib::number_of;

/// How deep tables may be nested in what a script returns.
const DEPTH_MAX: usize = 1000;
/// The most that a script may return, in bytes.
const ANSWER_BYTES_MAX: usize = 512 << 20;

/// Writes what a script returns.
pub(super) struct Answer<'o> {
    pub(super) out: &'o mut Vec<u8>,
    /// What the client speaks.
    pub(super) client: Version,
    /// What the script said that it speaks.
    pub(super) script: Version,
}

impl Answer<'_> {
    fn writer(&mut self) -> Writer<'_> {
        Writer::new(self.out, self.client)
    }

    pub(super) fn value(&mut self, value: &Value, depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            self.writer().error("ERR reached lua stack limit");
            return Ok(());
        }
        if self.out.len() > ANSWER_BYTES_MAX {
            return Err(mlua::Error::runtime("what the script returns is more than 512 MiB"));
        }
        match value {
            Value::String(text) => self.writer().bulk(&text.as_bytes()),
            Value::Integer(number) => self.writer().integer(*number),
            Value::Number(number) => self.writer().integer(*number as i64),
            Value::Boolean(value) if self.script == Version::V3 => self.writer().boolean(*value),
            Value::Boolean(true) => self.writer().integer(1),
            Value::Table(table) => self.table(table, depth)?,
            _ => self.writer().null(),
        }
        Ok(())
    }

    fn table(&mut self, table: &Table, depth: usize) -> Result<()> {
        if let Value::String(text) = table.raw_get("err")? {
            let text = String::from_utf8_lossy(&text.as_bytes()).into_owned();
            self.writer().error(&text);
            return Ok(());
        }
        if let Value::String(text) = table.raw_get("ok")? {
            let text = String::from_utf8_lossy(&text.as_bytes()).into_owned();
            self.writer().simple(&text);
            return Ok(());
        }
        if let Some(number) = number_of(&table.raw_get("double")?) {
            self.writer().double(number);
            return Ok(());
        }
        if let Value::String(text) = table.raw_get("big_number")? {
            let digits = String::from_utf8_lossy(&text.as_bytes()).replace(['\r', '\n'], " ");
            self.writer().big_number(&digits);
            return Ok(());
        }
        if let Value::Table(verbatim) = table.raw_get("verbatim_string")?
            && let Value::String(format) = verbatim.raw_get("format")?
            && let Value::String(text) = verbatim.raw_get("string")?
        {
            let mut name = *b"   ";
            for (to, from) in name.iter_mut().zip(format.as_bytes().iter()) {
                *to = *from;
            }
            self.writer().verbatim(name, &text.as_bytes());
            return Ok(());
        }
        if let Value::Table(map) = table.raw_get("map")? {
            let (start, mut count) = (self.out.len(), 0);
            for pair in map.pairs::<Value, Value>() {
                let (key, value) = pair?;
                self.value(&key, depth + 1)?;
                self.value(&value, depth + 1)?;
                count += 1;
            }
            self.head(start, |out| out.map(count));
            return Ok(());
        }
        if let Value::Table(set) = table.raw_get("set")? {
            let (start, mut count) = (self.out.len(), 0);
            for pair in set.pairs::<Value, Value>() {
                self.value(&pair?.0, depth + 1)?;
                count += 1;
            }
            self.head(start, |out| out.set(count));
            return Ok(());
        }
        let (start, mut count) = (self.out.len(), 0_usize);
        loop {
            let value: Value = table.raw_get(count + 1)?;
            if value.is_nil() {
                break;
            }
            self.value(&value, depth + 1)?;
            count += 1;
        }
        self.head(start, |out| out.array(count));
        Ok(())
    }

    /// Puts a head before what was written since `start`: how much it is was not known before.
    fn head(&mut self, start: usize, write: impl FnOnce(&mut Writer<'_>)) {
        let mut head = Vec::with_capacity(16);
        write(&mut Writer::new(&mut head, self.client));
        self.out.splice(start..start, head);
    }
}
