//! `cjson`: Lua CJSON as Redis has it, with its settings.

use std::sync::{Arc, Mutex, PoisonError};

use mlua::{Lua, Result, Table, Value};

use super::given::{Failed, Given, Outcome, answer};
use super::json_read::Reader;
use super::json_write::Writer;

/// What the library's functions can be told.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Arrays with many holes become objects; else they are an error.
    pub(super) sparse_convert: bool,
    /// An array has too many holes if its greatest index is so many times its length; 0: never.
    pub(super) sparse_ratio: i64,
    /// Whatever the ratio, an array up to this index has not.
    pub(super) sparse_safe: i64,
    pub(super) encode_depth_max: usize,
    pub(super) decode_depth_max: usize,
    /// What becomes of numbers that JSON has not.
    pub(super) encode_invalid: Invalid,
    pub(super) decode_invalid: bool,
    /// Significant digits of a number.
    pub(super) precision: usize,
    /// Said and answered; it changes nothing here.
    keep_buffer: bool,
}

/// What is written for NaN and infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Invalid {
    Error,
    AsIs,
    Null,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_depth_max: 1000,
            decode_depth_max: 1000,
            encode_invalid: Invalid::Error,
            decode_invalid: true,
            precision: 14,
            keep_buffer: true,
        }
    }
}

/// However deep a script allows values to be nested: a thread's stack has an end.
const DEPTH_MAX: usize = 2000;

type Function = fn(&Given<'_>, &mut Settings) -> Outcome;

const FUNCTIONS: &[(&str, Function)] = &[
    ("encode", encode),
    ("decode", decode),
    ("encode_sparse_array", sparse_array),
    ("encode_max_depth", |given, settings| depth(given, &mut settings.encode_depth_max)),
    ("decode_max_depth", |given, settings| depth(given, &mut settings.decode_depth_max)),
    ("encode_number_precision", precision),
    ("encode_keep_buffer", |given, settings| {
        at_most(given, 1)?;
        let kept = switch(given, 1, &mut settings.keep_buffer)?;
        given.one(kept)
    }),
    ("encode_invalid_numbers", encode_invalid),
    ("decode_invalid_numbers", |given, settings| {
        at_most(given, 1)?;
        let decoded = switch(given, 1, &mut settings.decode_invalid)?;
        given.one(decoded)
    }),
];

/// The library's table, with settings of its own.
pub(in crate::script) fn open(lua: &Lua) -> Result<Table> {
    let table = lua.create_table()?;
    let settings = Arc::new(Mutex::new(Settings::default()));
    for &(name, function) in FUNCTIONS {
        let settings = settings.clone();
        let called = lua.create_function(move |lua, values| {
            let given = Given { lua, values, name };
            let mut settings = settings.lock().unwrap_or_else(PoisonError::into_inner);
            answer(lua, function(&given, &mut settings))
        })?;
        table.raw_set(name, called)?;
    }
    table.raw_set("null", Value::NULL)?;
    table.raw_set("_NAME", "cjson")?;
    table.raw_set("_VERSION", "2.1.0")?;
    Ok(table)
}

fn encode(given: &Given<'_>, settings: &mut Settings) -> Outcome {
    let Some(value) = given.get(1).filter(|_| given.len() == 1) else {
        return Err(given.bad(1, "expected 1 argument"));
    };
    let mut writer = Writer::new(settings);
    writer.value(value, 0)?;
    given.bytes(writer.bytes())
}

fn decode(given: &Given<'_>, settings: &mut Settings) -> Outcome {
    if given.len() != 1 {
        return Err(given.bad(1, "expected 1 argument"));
    }
    let text = given.string(1)?;
    let text = text.as_bytes();
    if text.len() >= 2 && text[..2].contains(&0) {
        return Err("JSON parser does not support UTF-16 or UTF-32".into());
    }
    let value = Reader::new(given.lua, &text, settings).whole()?;
    given.one(value)
}

fn at_most(given: &Given<'_>, count: usize) -> std::result::Result<(), Failed> {
    if given.len() > count {
        return Err(given.bad(count + 1, "found too many arguments"));
    }
    Ok(())
}

/// Sets a number, if it is given; answers what it is then.
fn number(
    given: &Given<'_>,
    index: usize,
    now: i64,
    (least, most): (i64, i64),
) -> std::result::Result<i64, Failed> {
    let value = given.integer_or(index, now)?;
    if value < least || value > most {
        return Err(given.bad(1, &format!("expected integer between {least} and {most}")));
    }
    Ok(value)
}

/// Sets a switch, if it is given: a boolean, `on` or `off`.
fn switch(
    given: &Given<'_>,
    index: usize,
    setting: &mut bool,
) -> std::result::Result<bool, Failed> {
    *setting = match given.get(index) {
        None | Some(Value::Nil) => *setting,
        Some(Value::Boolean(value)) => *value,
        Some(_) => {
            let word = given.string(index)?;
            match &*word.as_bytes() {
                b"on" => true,
                b"off" => false,
                other => return Err(invalid_option(given, index, other)),
            }
        }
    };
    Ok(*setting)
}

fn invalid_option(given: &Given<'_>, index: usize, word: &[u8]) -> Failed {
    given.bad(index, &format!("invalid option '{}'", String::from_utf8_lossy(word)))
}

const INT_MAX: i64 = i32::MAX as i64;

fn sparse_array(given: &Given<'_>, settings: &mut Settings) -> Outcome {
    at_most(given, 3)?;
    switch(given, 1, &mut settings.sparse_convert)?;
    settings.sparse_ratio = number(given, 2, settings.sparse_ratio, (0, INT_MAX))?;
    settings.sparse_safe = number(given, 3, settings.sparse_safe, (0, INT_MAX))?;
    Ok(mlua::MultiValue::from_iter([
        Value::Boolean(settings.sparse_convert),
        Value::Integer(settings.sparse_ratio),
        Value::Integer(settings.sparse_safe),
    ]))
}

fn depth(given: &Given<'_>, setting: &mut usize) -> Outcome {
    at_most(given, 1)?;
    let value = number(given, 1, *setting as i64, (1, INT_MAX))?;
    *setting = (value as usize).min(DEPTH_MAX);
    given.one(value)
}

fn precision(given: &Given<'_>, settings: &mut Settings) -> Outcome {
    at_most(given, 1)?;
    let value = number(given, 1, settings.precision as i64, (1, 14))?;
    settings.precision = value as usize;
    given.one(value)
}

fn encode_invalid(given: &Given<'_>, settings: &mut Settings) -> Outcome {
    at_most(given, 1)?;
    settings.encode_invalid = match given.get(1) {
        None | Some(Value::Nil) => settings.encode_invalid,
        Some(Value::Boolean(true)) => Invalid::AsIs,
        Some(Value::Boolean(false)) => Invalid::Error,
        Some(_) => {
            let word = given.string(1)?;
            match &*word.as_bytes() {
                b"off" => Invalid::Error,
                b"on" => Invalid::AsIs,
                b"null" => Invalid::Null,
                other => return Err(invalid_option(given, 1, other)),
            }
        }
    };
    match settings.encode_invalid {
        Invalid::Error => given.one(false),
        Invalid::AsIs => given.one(true),
        Invalid::Null => given.bytes(b"null"),
    }
}
