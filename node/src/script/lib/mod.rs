//! The libraries that Redis gives to scripts beside Lua's own: `bit`, `struct`, `cmsgpack`, `cjson`.
//!
//! A function of theirs answers `true` and its results, or `false` and a message, which the prelude
//! raises as Lua's own functions would: where the script called.

pub(super) mod bit;
pub(super) mod cjson;
mod given;
mod json_read;
mod json_write;
pub(super) mod msgpack;
mod msgpack_read;
mod number;
pub(super) mod pack;

pub(super) use given::{Given, Outcome, answer, number_of};

use mlua::{Lua, Result, Table};

/// A function of a library.
type Primitive = fn(&Given<'_>) -> Outcome;

/// A table of functions by name.
fn library(lua: &Lua, functions: &[(&'static str, Primitive)]) -> Result<Table> {
    let table = lua.create_table()?;
    for &(name, primitive) in functions {
        let called = lua.create_function(move |lua, values| {
            let given = Given { lua, values, name };
            answer(lua, primitive(&given))
        })?;
        table.raw_set(name, called)?;
    }
    Ok(table)
}
