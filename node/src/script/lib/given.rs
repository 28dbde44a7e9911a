//! A library function's arguments, read as Lua's own functions read theirs, and its answer.

use mlua::{IntoLua, Lua, LuaString, MultiValue, Result, Value};

/// What a function was called with.
pub(in crate::script) struct Given<'a> {
    pub(in crate::script) lua: &'a Lua,
    pub(in crate::script) values: MultiValue,
    pub(in crate::script) name: &'static str,
}

/// A function's results, or why it has none.
pub(in crate::script) type Outcome = std::result::Result<MultiValue, Failed>;

/// Why a function has no result.
pub(in crate::script) enum Failed {
    /// A message for the script.
    Said(String),
    /// Lua itself failed: it has no memory left.
    Lua(mlua::Error),
}

impl From<mlua::Error> for Failed {
    fn from(error: mlua::Error) -> Self {
        Self::Lua(error)
    }
}

impl From<String> for Failed {
    fn from(said: String) -> Self {
        Self::Said(said)
    }
}

impl From<&str> for Failed {
    fn from(said: &str) -> Self {
        Self::Said(said.to_owned())
    }
}

/// The outcome as the prelude takes it.
pub(in crate::script) fn answer(lua: &Lua, outcome: Outcome) -> Result<MultiValue> {
    match outcome {
        Ok(mut values) => {
            values.push_front(Value::Boolean(true));
            Ok(values)
        }
        Err(Failed::Said(said)) => {
            let said = Value::String(lua.create_string(said)?);
            Ok(MultiValue::from_iter([Value::Boolean(false), said]))
        }
        Err(Failed::Lua(error)) => Err(error),
    }
}

impl Given<'_> {
    /// The argument at this index, the first being 1; `None`: there is none.
    pub(in crate::script) fn get(&self, index: usize) -> Option<&Value> {
        self.values.get(index - 1)
    }

    pub(in crate::script) fn len(&self) -> usize {
        self.values.len()
    }

    /// What is wrong with an argument, in Lua's words.
    pub(in crate::script) fn bad(&self, index: usize, why: &str) -> Failed {
        Failed::Said(format!("bad argument #{index} to '{}' ({why})", self.name))
    }

    fn expected(&self, index: usize, what: &str) -> Failed {
        let got = self.get(index).map_or("no value", type_name);
        self.bad(index, &format!("{what} expected, got {got}"))
    }

    /// A number, or a string that spells one.
    pub(in crate::script) fn number(&self, index: usize) -> std::result::Result<f64, Failed> {
        let value = self.get(index).cloned().unwrap_or_default();
        self.lua.coerce_number(value)?.ok_or_else(|| self.expected(index, "number"))
    }

    /// An integer; what Lua's numbers become in C.
    pub(in crate::script) fn integer(&self, index: usize) -> std::result::Result<i64, Failed> {
        Ok(self.number(index)? as i64)
    }

    /// An integer, if it is given.
    pub(in crate::script) fn integer_or(
        &self,
        index: usize,
        absent: i64,
    ) -> std::result::Result<i64, Failed> {
        match self.get(index) {
            None | Some(Value::Nil) => Ok(absent),
            Some(_) => self.integer(index),
        }
    }

    /// A string, or a number as one.
    pub(in crate::script) fn string(&self, index: usize) -> std::result::Result<LuaString, Failed> {
        let value = self.get(index).cloned().unwrap_or_default();
        self.lua.coerce_string(value)?.ok_or_else(|| self.expected(index, "string"))
    }

    /// One result.
    pub(in crate::script) fn one(&self, value: impl IntoLua) -> Outcome {
        Ok(MultiValue::from_iter([value.into_lua(self.lua)?]))
    }

    /// One string as the result.
    pub(in crate::script) fn bytes(&self, bytes: &[u8]) -> Outcome {
        self.one(self.lua.create_string(bytes)?)
    }
}

/// A value's type as Lua names it.
pub(in crate::script) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "number",
        Value::LightUserData(_) => "userdata",
        other => other.type_name(),
    }
}

/// A number of Lua's, however it came over.
pub(in crate::script) fn number_of(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Number(number) => Some(*number),
        _ => None,
    }
}
