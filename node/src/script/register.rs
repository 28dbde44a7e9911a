//! `redis.register_function`: what a library's code says of its functions.

use std::sync::atomic::AtomicBool;

use mlua::{Function as LuaFunction, Lua, MultiValue, Value};

use super::flags::ScriptFlags;
use super::function::Function;
use super::metadata::check_name;

/// The most functions of a library.
const FUNCTIONS_MAX: usize = 10_000;

/// What was registered so far.
#[derive(Default)]
pub(super) struct Registrar {
    pub(super) functions: Vec<(Function, LuaFunction)>,
}

/// A call's arguments, read.
#[derive(Default)]
struct Named {
    name: Option<String>,
    description: Option<Vec<u8>>,
    callback: Option<LuaFunction>,
    flags: ScriptFlags,
}

impl Registrar {
    /// A call of it; the answer says what is wrong.
    pub(super) fn register(&mut self, lua: &Lua, values: &MultiValue) -> Result<(), String> {
        let mut values = values.iter();
        let named = match (values.next(), values.next(), values.next()) {
            (Some(only), None, None) => by_name(lua, only)?,
            (Some(name), Some(callback), None) => by_position(lua, name, callback)?,
            _ => return Err("wrong number of arguments to redis.register_function".to_owned()),
        };
        let missing = |what: &str| format!("redis.register_function must get a {what} argument");
        let name = named.name.ok_or_else(|| missing("function name"))?;
        let callback = named.callback.ok_or_else(|| missing("callback"))?;
        check_name(&name)?;
        if self.functions.iter().any(|(function, _)| function.name == name) {
            return Err("Function already exists in the library".to_owned());
        }
        if self.functions.len() >= FUNCTIONS_MAX {
            return Err(format!("a library may have {FUNCTIONS_MAX} functions"));
        }
        let (description, flags) = (named.description, named.flags);
        let needs_all = AtomicBool::new(false);
        self.functions.push((Function { name, description, flags, needs_all }, callback));
        Ok(())
    }
}

/// A string, or a number as one.
fn text(lua: &Lua, value: &Value) -> Option<Vec<u8>> {
    let text = lua.coerce_string(value.clone()).ok()??;
    Some(text.as_bytes().to_vec())
}

fn name_of(lua: &Lua, value: &Value) -> Option<String> {
    text(lua, value).map(|text| String::from_utf8_lossy(&text).into_owned())
}

fn by_position(lua: &Lua, name: &Value, callback: &Value) -> Result<Named, String> {
    let wrong = |which: &str, what: &str| {
        format!("{which} argument to redis.register_function must be a {what}")
    };
    let name = Some(name_of(lua, name).ok_or_else(|| wrong("first", "string"))?);
    let Value::Function(callback) = callback else { return Err(wrong("second", "function")) };
    Ok(Named { name, callback: Some(callback.clone()), ..Named::default() })
}

fn by_name(lua: &Lua, value: &Value) -> Result<Named, String> {
    let Value::Table(table) = value else {
        return Err(
            "calling redis.register_function with a single argument is only applicable to \
                    Lua table (representing named arguments)."
                .to_owned(),
        );
    };
    let mut named = Named::default();
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair.map_err(|why| why.to_string())?;
        let key = name_of(lua, &key)
            .ok_or("named argument key given to redis.register_function is not a string")?;
        let wrong = |what: &str| {
            format!("{key} argument given to redis.register_function must be a {what}")
        };
        match &key.to_ascii_lowercase()[..] {
            "function_name" => {
                named.name = Some(name_of(lua, &value).ok_or_else(|| wrong("string"))?);
            }
            "description" => {
                named.description = Some(text(lua, &value).ok_or_else(|| wrong("string"))?);
            }
            "callback" => match value {
                Value::Function(callback) => named.callback = Some(callback),
                _ => return Err(wrong("function")),
            },
            "flags" => named.flags = flags(lua, &value)?,
            _ => return Err("unknown argument given to redis.register_function".to_owned()),
        }
    }
    Ok(named)
}

fn flags(lua: &Lua, value: &Value) -> Result<ScriptFlags, String> {
    let Value::Table(table) = value else {
        return Err("flags argument to redis.register_function must be a table representing \
                    function flags"
            .to_owned());
    };
    let mut flags = ScriptFlags::default();
    for index in 1.. {
        let value: Value = table.raw_get(index).map_err(|why| why.to_string())?;
        if value.is_nil() {
            break;
        }
        let flag = text(lua, &value).map(|text| text.to_ascii_lowercase());
        let flag = flag.and_then(|name| ScriptFlags::named(&name));
        flags = flags.and(flag.ok_or("unknown flag given")?);
    }
    Ok(flags)
}
