//! What the prelude is given by Rust.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mlua::{Error, Lua, LuaString, MultiValue, Result, Table, Value};
use resp::Version;

use super::hook::State;
use super::lib::{self, Given, Outcome, answer};
use super::sha::Sha;
use crate::server::REDIS_VERSION;

/// The table `R` of the prelude.
pub(super) fn table(lua: &Lua, state: &Arc<State>) -> Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("version", REDIS_VERSION)?;
    table.raw_set("version_number", version_number(REDIS_VERSION))?;
    let shared = state.clone();
    let halted = lua.create_function(move |_, ()| Ok(shared.halted().is_some()))?;
    table.raw_set("halted", halted)?;
    table.raw_set("text_of", lua.create_function(|_, error: Value| Ok(text_of(&error)))?)?;
    table.raw_set("place", lua.create_function(|lua, ()| Ok(place(lua)))?)?;
    table.raw_set("sha1hex", lua.create_function(sha1hex)?)?;
    table.raw_set("error_text", lua.create_function(error_text)?)?;
    table.raw_set("log", lua.create_function(|lua, values| log(lua, &values))?)?;
    let shared = state.clone();
    let setresp = move |_: &Lua, version: f64| {
        let version = match version as i64 {
            2 => Version::V2,
            3 => Version::V3,
            _ => return Ok(false),
        };
        shared.speak(version);
        Ok(true)
    };
    table.raw_set("setresp", lua.create_function(setresp)?)?;
    table.raw_set("clock", lua.create_function(|_, ()| Ok(cpu_seconds()))?)?;
    random(lua, &table)?;
    table.raw_set("bit", lib::bit::open(lua)?)?;
    table.raw_set("struct", lib::pack::open(lua)?)?;
    table.raw_set("cmsgpack", lib::msgpack::open(lua)?)?;
    table.raw_set("cjson", lib::cjson::open(lua)?)?;
    table.raw_set("cjson_new", lua.create_function(|lua, ()| lib::cjson::open(lua))?)?;
    Ok(table)
}

/// `7.2.0` as Redis's number 0x00070200.
fn version_number(version: &str) -> i64 {
    let parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    parts.fold(0, |number: i64, part: i64| number << 8 | part & 0xff)
}

/// An error of Rust's in a script: its innermost message.
pub(super) fn text_of(error: &Value) -> String {
    match error {
        Value::Error(error) => message_of(error),
        _ => "unknown error".to_owned(),
    }
}

/// An error's innermost message, without a trace of the stack.
pub(super) fn message_of(error: &Error) -> String {
    match error {
        Error::CallbackError { cause, .. } => message_of(cause),
        Error::WithContext { cause, .. } => message_of(cause),
        Error::RuntimeError(message) | Error::MemoryError(message) => message.clone(),
        Error::SyntaxError { message, .. } => message.clone(),
        other => other.to_string(),
    }
}

/// Where in the user's code we are: its source and line.
fn place(lua: &Lua) -> (Option<String>, Option<usize>) {
    /// From the handler up to the user's code there are a few functions of ours and of C's.
    const LEVELS_MAX: usize = 16;
    let found = (1..LEVELS_MAX).find_map(|level| {
        lua.inspect_stack(level, |debug| {
            let source = debug.source().source.map(std::borrow::Cow::into_owned);
            let source = source.filter(|source| source.starts_with("@user_"));
            source.map(|source| (source, debug.current_line()))
        })?
    });
    found.map_or((None, None), |(source, line)| (Some(source), line))
}

fn sha1hex(lua: &Lua, text: Value) -> Result<String> {
    let text = lua.coerce_string(text)?;
    let sha = text.map_or_else(|| Sha::of(b""), |text| Sha::of(&text.as_bytes()));
    Ok(sha.to_string())
}

/// What `redis.error_reply` makes of a text: an error always has a code.
fn error_text(lua: &Lua, text: LuaString) -> Result<LuaString> {
    let text = text.as_bytes();
    let text = text.strip_prefix(b"-").unwrap_or(&text);
    let end = text.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |at| at + 1);
    if text.contains(&b' ') {
        return lua.create_string(&text[..end]);
    }
    lua.create_string([b"ERR ", &text[..end]].concat())
}

fn log(lua: &Lua, values: &MultiValue) -> Result<()> {
    let mut values = values.iter();
    let level = values.next().and_then(lib::number_of).unwrap_or(0.0) as i64;
    let mut line = String::new();
    for value in values {
        let Some(text) = lua.coerce_string(value.clone())? else { continue };
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&String::from_utf8_lossy(&text.as_bytes()));
    }
    match level {
        0 => tracing::trace!("a script says: {line}"),
        1 => tracing::debug!("a script says: {line}"),
        2 => tracing::info!("a script says: {line}"),
        _ => tracing::warn!("a script says: {line}"),
    }
    Ok(())
}

fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// `math.random`, the same for a seed on every machine: POSIX's generator of 48 bits.
fn random(lua: &Lua, table: &Table) -> Result<()> {
    let state = Arc::new(AtomicU64::new(rand::random::<u64>() & MASK));
    let seed = state.clone();
    let called = lua.create_function(move |lua, values| {
        let given = Given { lua, values, name: "random" };
        answer(lua, draw(&given, &state))
    })?;
    table.raw_set("random", called)?;
    let called = lua.create_function(move |lua, values| {
        let given = Given { lua, values, name: "randomseed" };
        let outcome = given.integer(1).map(|number| {
            seed.store(u64::from(number as u32) << 16 | 0x330e, Ordering::Relaxed);
            MultiValue::new()
        });
        answer(lua, outcome)
    })?;
    table.raw_set("randomseed", called)
}

const MASK: u64 = (1 << 48) - 1;

/// The next number of the sequence: 31 bits.
fn draw(given: &Given<'_>, state: &AtomicU64) -> Outcome {
    const GREATEST: f64 = i32::MAX as f64;
    let now = state.load(Ordering::Relaxed).wrapping_mul(0x5_deec_e66d).wrapping_add(0xb) & MASK;
    state.store(now, Ordering::Relaxed);
    let part = (now >> 17) as f64 % GREATEST / GREATEST;
    let (low, high) = match given.len() {
        0 => return given.one(part),
        1 => (1, given.integer(1)?),
        2 => (given.integer(1)?, given.integer(2)?),
        _ => return Err("wrong number of arguments".into()),
    };
    if low > high {
        return Err(given.bad(given.len(), "interval is empty"));
    }
    let count = high.saturating_sub(low).saturating_add(1);
    given.one((part * count as f64).floor() + low as f64)
}
