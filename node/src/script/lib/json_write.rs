//! Lua's values as JSON.

use mlua::{Table, Value};

use super::cjson::{Invalid, Settings};
use super::given::{Failed, number_of, type_name};
use super::number;

/// The longest text that is written, in bytes: what a value may be.
const TEXT_BYTES_MAX: usize = 512 << 20;

/// JSON that is being written.
pub(super) struct Writer<'s> {
    out: Vec<u8>,
    settings: &'s Settings,
}

impl<'s> Writer<'s> {
    pub(super) fn new(settings: &'s Settings) -> Self {
        Self { out: Vec::new(), settings }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.out
    }

    pub(super) fn value(&mut self, value: &Value, depth: usize) -> Result<(), Failed> {
        if self.out.len() > TEXT_BYTES_MAX {
            return Err("Cannot serialise, the text is more than 512 MiB".into());
        }
        match value {
            Value::String(text) => self.string(&text.as_bytes()),
            Value::Integer(_) | Value::Number(_) => self.number(value)?,
            Value::Boolean(true) => self.out.extend_from_slice(b"true"),
            Value::Boolean(false) => self.out.extend_from_slice(b"false"),
            Value::Table(table) => self.table(table, depth + 1)?,
            Value::Nil => self.out.extend_from_slice(b"null"),
            Value::LightUserData(pointer) if pointer.0.is_null() => {
                self.out.extend_from_slice(b"null");
            }
            other => return Err(cannot(other, "type not supported")),
        }
        Ok(())
    }

    fn string(&mut self, text: &[u8]) {
        self.out.push(b'"');
        let mut from = 0;
        for (at, &byte) in text.iter().enumerate() {
            let escaped: Option<&[u8]> = match byte {
                b'"' => Some(b"\\\""),
                b'\\' => Some(b"\\\\"),
                b'/' => Some(b"\\/"),
                8 => Some(b"\\b"),
                b'\t' => Some(b"\\t"),
                b'\n' => Some(b"\\n"),
                12 => Some(b"\\f"),
                b'\r' => Some(b"\\r"),
                0..32 | 127 => None,
                _ => continue,
            };
            self.out.extend_from_slice(&text[from..at]);
            match escaped {
                Some(escaped) => self.out.extend_from_slice(escaped),
                None => self.out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            }
            from = at + 1;
        }
        self.out.extend_from_slice(&text[from..]);
        self.out.push(b'"');
    }

    fn number(&mut self, value: &Value) -> Result<(), Failed> {
        let number = number_of(value).unwrap_or(f64::NAN);
        if number.is_finite() {
            number::general(&mut self.out, number, self.settings.precision);
            return Ok(());
        }
        let text: &[u8] = match self.settings.encode_invalid {
            Invalid::Error => return Err(cannot(value, "must not be NaN or Inf")),
            Invalid::Null => b"null",
            Invalid::AsIs if number.is_nan() => b"nan",
            Invalid::AsIs if number > 0.0 => b"inf",
            Invalid::AsIs => b"-inf",
        };
        self.out.extend_from_slice(text);
        Ok(())
    }

    fn table(&mut self, table: &Table, depth: usize) -> Result<(), Failed> {
        if depth > self.settings.encode_depth_max {
            return Err(format!("Cannot serialise, excessive nesting ({depth})").into());
        }
        match self.array_length(table)? {
            Some(length) if length > 0 => {
                self.out.push(b'[');
                for index in 1..=length {
                    if index > 1 {
                        self.out.push(b',');
                    }
                    self.value(&table.raw_get(index)?, depth)?;
                }
                self.out.push(b']');
            }
            _ => {
                self.out.push(b'{');
                let mut first = true;
                for pair in table.pairs::<Value, Value>() {
                    let (key, value) = pair?;
                    if !std::mem::take(&mut first) {
                        self.out.push(b',');
                    }
                    match &key {
                        Value::String(key) => self.string(&key.as_bytes()),
                        Value::Integer(_) | Value::Number(_) => {
                            self.out.push(b'"');
                            self.number(&key)?;
                            self.out.push(b'"');
                        }
                        other => {
                            return Err(cannot(other, "table key must be a number or string"));
                        }
                    }
                    self.out.push(b':');
                    self.value(&value, depth)?;
                }
                self.out.push(b'}');
            }
        }
        Ok(())
    }

    /// The greatest index, if all keys are indices and not too many are missing.
    fn array_length(&self, table: &Table) -> Result<Option<i64>, Failed> {
        let (mut greatest, mut count) = (0, 0);
        for pair in table.pairs::<Value, Value>() {
            match pair?.0 {
                Value::Integer(index) if index >= 1 => {
                    greatest = greatest.max(index);
                    count += 1;
                }
                _ => return Ok(None),
            }
        }
        let Settings { sparse_convert, sparse_ratio, sparse_safe, .. } = *self.settings;
        let sparse = sparse_ratio > 0
            && greatest > sparse_ratio.saturating_mul(count)
            && greatest > sparse_safe;
        match sparse {
            false => Ok(Some(greatest)),
            true if sparse_convert => Ok(None),
            true => Err("Cannot serialise table: excessively sparse array".into()),
        }
    }
}

fn cannot(value: &Value, why: &str) -> Failed {
    format!("Cannot serialise {}: {why}", type_name(value)).into()
}
