//! One worker's Lua: its state, what it compiled, and how a script is run in it.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;
use mlua::chunk::ChunkMode;
use mlua::{Function as LuaFunction, Lua, LuaOptions, MultiValue, StdLib, Table, Value};
use resp::Version;
use resp::reply::Double;

use super::Scripting;
use super::answer::Answer;
use super::function::Library;
use super::hook::{self, State};
use super::metadata;
use super::primitives::{self, message_of};
use super::register::Registrar;
use super::reply::Reply;
use super::runner::{Ended, Halt, Ran, Runner};
use super::running::Kind;
use super::scripts::Script;
use super::sha::Sha;
use super::tail_calls;
use crate::command::Args;

const PRELUDE: &str = include_str!("prelude.lua");
/// What one worker's Lua may hold, in bytes: a value of 512 MiB, and what is made of it.
const MEMORY_BYTES_MAX: usize = 1 << 30;
/// Scripts that stay compiled; beyond them all are forgotten and compiled as they come.
const COMPILED_MAX: usize = 4096;
/// The buffers of a script's commands are given back beyond this.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// A script or a function that can be run.
pub(crate) struct Entry<'a> {
    /// Which of the two.
    pub(crate) kind: Kind,
    /// Its hash or its name, for errors.
    pub(crate) name: &'a str,
    /// What Lua calls.
    pub(crate) function: LuaFunction,
    /// What the client sent.
    pub(crate) command: Args<'a>,
    /// Which of its arguments are keys; the rest after them are arguments.
    pub(crate) keys: Range<usize>,
}

/// A worker's Lua.
pub(crate) struct Engine {
    lua: Lua,
    eval: LuaFunction,
    call: LuaFunction,
    load: LuaFunction,
    library_globals: Table,
    state: Arc<State>,
    compiled: HashMap<Sha, LuaFunction>,
    /// What it loaded of each library, by the library's name.
    libraries: HashMap<String, (Arc<Library>, HashMap<String, LuaFunction>)>,
    /// At which SCRIPT FLUSH it was made.
    pub(crate) flushes: u64,
    buffers: RefCell<Buffers>,
}

/// What a script's commands are put together in.
#[derive(Default)]
struct Buffers {
    bytes: Vec<u8>,
    ranges: Vec<Range<usize>>,
    reply: Vec<u8>,
}

impl Engine {
    /// A fresh one.
    pub(crate) fn new(scripting: Arc<Scripting>, worker: u16) -> Result<Self, String> {
        let flushes = scripting.scripts.flushes();
        let state = Arc::new(State::new(scripting, worker));
        let begun = begin(&state).map_err(|why| format!("ERR Lua cannot begin: {why}"));
        let (lua, library_globals, (eval, call, load)) = begun?;
        Ok(Self {
            lua,
            eval,
            call,
            load,
            library_globals,
            state,
            compiled: HashMap::new(),
            libraries: HashMap::new(),
            flushes,
            buffers: RefCell::default(),
        })
    }

    /// Bytes that Lua holds.
    pub(crate) fn memory(&self) -> usize {
        self.lua.used_memory()
    }

    /// The same, once all that nobody holds is given back.
    pub(crate) fn collect(&self) -> usize {
        // What cannot be collected is still held.
        let _ = self.lua.gc_collect();
        self.memory()
    }

    /// A script, compiled.
    pub(crate) fn script(&mut self, script: &Script) -> Result<LuaFunction, String> {
        if let Some(function) = self.compiled.get(&script.sha) {
            return Ok(function.clone());
        }
        let code = tail_calls::avoid(script.code());
        let chunk = self.lua.load(&*code).set_name("@user_script");
        let compiled = chunk.set_mode(ChunkMode::Text).into_function();
        let function = compiled.map_err(|why| {
            format!("ERR Error compiling script (new function): {}", message_of(&why))
        })?;
        if self.compiled.len() >= COMPILED_MAX {
            self.compiled.clear();
        }
        self.compiled.insert(script.sha, function.clone());
        Ok(function)
    }

    /// A library that is loaded from its text.
    pub(crate) fn load(&mut self, text: &[u8]) -> Result<Arc<Library>, String> {
        let (library, functions) = self.register(text)?;
        let library = Arc::new(library);
        self.libraries.insert(library.name.clone(), (library.clone(), functions));
        Ok(library)
    }

    fn register(&mut self, text: &[u8]) -> Result<(Library, HashMap<String, LuaFunction>), String> {
        let (name, code) = metadata::of_library(text).map_err(|why| format!("ERR {why}"))?;
        let code = tail_calls::avoid(code);
        let chunk = self.lua.load(&*code);
        let chunk = chunk.set_name("@user_function").set_mode(ChunkMode::Text);
        let chunk = chunk.set_environment(self.library_globals.clone()).into_function();
        let chunk =
            chunk.map_err(|why| format!("ERR Error compiling function: {}", message_of(&why)))?;
        let registrar = RefCell::new(Registrar::default());
        self.state.begin_loading();
        let loaded = self.lua.scope(|scope| {
            let register = scope.create_function(|lua, values: MultiValue| {
                Ok(registrar.borrow_mut().register(lua, &values).err())
            })?;
            self.load.call::<(bool, Option<mlua::LuaString>)>((chunk, register))
        });
        let failed = |why: String| format!("ERR Error registering functions: {why}");
        match loaded {
            Ok((true, _)) => {}
            Ok((false, why)) => {
                let why = why.map(|why| String::from_utf8_lossy(&why.as_bytes()).into_owned());
                return Err(failed(why.unwrap_or_default()));
            }
            Err(why) => return Err(failed(message_of(&why))),
        }
        let (mut functions, mut by_name) = (Vec::new(), HashMap::new());
        for (function, callback) in registrar.into_inner().functions {
            by_name.insert(function.name.clone(), callback);
            functions.push(function);
        }
        if functions.is_empty() {
            return Err("ERR No functions registered".to_owned());
        }
        functions.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((Library { name, text: text.into(), functions }, by_name))
    }

    /// A function of a library, which is loaded here if it is not.
    pub(crate) fn function(
        &mut self,
        library: &Arc<Library>,
        name: &str,
    ) -> Result<LuaFunction, String> {
        let loaded = self.libraries.get(&library.name);
        if !loaded.is_some_and(|(known, _)| Arc::ptr_eq(known, library)) {
            let (_, functions) = self.register(&library.text)?;
            self.libraries.insert(library.name.clone(), (library.clone(), functions));
        }
        let loaded = self.libraries.get(&library.name);
        let found = loaded.and_then(|(_, functions)| functions.get(name)).cloned();
        found.ok_or_else(|| "ERR Function not found".to_owned())
    }

    /// Forgets libraries that are not there any more.
    pub(crate) fn keep_libraries(&mut self, is_there: impl Fn(&str) -> bool) {
        self.libraries.retain(|name, _| is_there(name));
    }

    /// Runs it. What it returns is appended, unless that is an error.
    pub(crate) fn run(
        &mut self,
        entry: &Entry<'_>,
        runner: &mut dyn Runner,
        client: Version,
        out: &mut Vec<u8>,
    ) -> Ended {
        self.state.begin(entry.kind, entry.name, &entry.command);
        let start = out.len();
        let ran = self.call(entry, runner);
        self.buffers.borrow_mut().shrink();
        match self.state.halted() {
            None | Some(Halt::Killed) => {}
            Some(halt) => return Ended::Halted(halt),
        }
        let answered = ran.and_then(|(ok, value)| {
            if !ok {
                return failure(entry, &value).map(Some);
            }
            if let Some(error) = returned_error(&value)? {
                return Ok(Some(error));
            }
            let mut answer = Answer { out, client, script: self.state.version() };
            answer.value(&value, 0).map(|()| None)
        });
        let (line, counted) = match answered {
            Ok(None) => return Ended::Answered,
            Ok(Some(error)) => error,
            Err(why) => {
                (format!("ERR Error running script {}, {}", entry.name, message_of(&why)), false)
            }
        };
        out.truncate(start);
        Ended::Failed { line, counted }
    }

    fn call(&self, entry: &Entry<'_>, runner: &mut dyn Runner) -> mlua::Result<(bool, Value)> {
        let lua = &self.lua;
        let command = &entry.command;
        let keys = strings(lua, command.from(entry.keys.start).take(entry.keys.len()))?;
        let arguments = strings(lua, command.from(entry.keys.end))?;
        let runner = RefCell::new(runner);
        lua.scope(|scope| {
            let called = scope.create_function(|lua, (what, values): (u8, MultiValue)| {
                let mut runner = runner.borrow_mut();
                let mut buffers = self.buffers.borrow_mut();
                run_command(lua, &self.state, &mut **runner, &mut buffers, what, &values)
            })?;
            let run = if entry.kind == Kind::Eval { &self.eval } else { &self.call };
            run.call::<(bool, Value)>((&entry.function, called, keys, arguments))
        })
    }
}

impl Buffers {
    fn shrink(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
        self.reply.clear();
        self.reply.shrink_to(KEPT_BYTES_MAX);
    }
}

/// A state with the prelude in it; the globals of libraries, and how to run things.
fn begin(
    state: &Arc<State>,
) -> mlua::Result<(Lua, Table, (LuaFunction, LuaFunction, LuaFunction))> {
    let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH;
    let lua = Lua::new_with(libraries, LuaOptions::default())?;
    lua.set_memory_limit(MEMORY_BYTES_MAX)?;
    let (globals, library_globals) = (lua.create_table()?, lua.create_table()?);
    let given = primitives::table(&lua, state)?;
    let prelude = lua.load(PRELUDE).set_name("@prelude").set_environment(globals.clone());
    let run = prelude.into_function()?.call((
        lua.globals(),
        given,
        globals.clone(),
        library_globals.clone(),
    ))?;
    lua.set_globals(globals)?;
    hook::set(&lua, state.clone())?;
    lua.gc_collect()?;
    Ok((lua, library_globals, run))
}

fn strings<'a>(lua: &Lua, all: impl Iterator<Item = &'a [u8]>) -> mlua::Result<Table> {
    let table = lua.create_table_with_capacity(all.size_hint().0, 0)?;
    for (index, string) in (1_i64..).zip(all) {
        table.raw_set(index, lua.create_string(string)?)?;
    }
    Ok(table)
}

/// The prelude asks whether a command may be run.
const ASKED: u8 = 1;
/// The arguments come in a table, with their number.
const PACKED: u8 = 2;

/// `redis.call` and its kin: whether it failed, and the value.
fn run_command(
    lua: &Lua,
    state: &State,
    runner: &mut dyn Runner,
    buffers: &mut Buffers,
    what: u8,
    values: &MultiValue,
) -> mlua::Result<(bool, Value)> {
    let error = |text: &str| {
        let table = lua.create_table_with_capacity(0, 1)?;
        table.raw_set("err", text)?;
        Ok((true, Value::Table(table)))
    };
    // As Redis calls it: whoever answers with this error need not count it again.
    let counted = |value: Value| {
        if let Value::Table(table) = &value {
            table.raw_set(COUNTED, true)?;
        }
        Ok((true, value))
    };
    if state.halted().is_some() {
        return error(&format!("ERR {}", hook::KILLED));
    }
    let Buffers { bytes, ranges, reply } = buffers;
    bytes.clear();
    ranges.clear();
    reply.clear();
    let packed;
    let values = match (what, values.front(), values.get(1)) {
        (PACKED, Some(Value::Table(table)), Some(Value::Integer(count))) => {
            packed = (1..=*count).map(|index| table.raw_get(index)).collect::<Result<_, _>>()?;
            &packed
        }
        _ => values,
    };
    for value in values {
        let from = bytes.len();
        match value {
            Value::String(string) => bytes.extend_from_slice(&string.as_bytes()),
            Value::Integer(number) => {
                bytes.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes());
            }
            Value::Number(number) => bytes.extend_from_slice(Double::new().format(*number)),
            _ => {
                return error("ERR Lua redis lib command arguments must be strings or integers");
            }
        }
        ranges.push(from..bytes.len());
    }
    if ranges.is_empty() {
        return error("ERR Please specify at least one argument for this redis lib call");
    }
    let args = Args::new(bytes, ranges);
    if what == ASKED {
        return match runner.may_run(&args) {
            Ok(may) => Ok((false, Value::Boolean(may))),
            Err(why) => error(why),
        };
    }
    match runner.run(&args, state.version(), reply) {
        Ran::Answered if reply.first() == Some(&b'-') => counted(Reply::new(lua, reply).read()?),
        Ran::Answered => Ok((false, Reply::new(lua, reply).read()?)),
        Ran::Refused(why) => error(&why).and_then(|(_, value)| counted(value)),
        Ran::Halted(why) => {
            state.halt(why);
            error(&format!("ERR {}", hook::KILLED))
        }
    }
}

/// What says of an error that it was counted.
const COUNTED: &str = "ignore_error_stats_update";

/// An error, as a line, and whether it was counted already.
type ErrorLine = (String, bool);

fn text_in(table: &Table, name: &str) -> mlua::Result<Option<String>> {
    let value: Option<mlua::LuaString> = table.raw_get(name)?;
    Ok(value.map(|value| String::from_utf8_lossy(&value.as_bytes()).into_owned()))
}

fn is_counted(table: &Table) -> mlua::Result<bool> {
    Ok(matches!(table.raw_get(COUNTED)?, Value::Boolean(true)))
}

/// The error that a script returned, if what it returned is one.
fn returned_error(value: &Value) -> mlua::Result<Option<ErrorLine>> {
    let Value::Table(table) = value else { return Ok(None) };
    // Nothing but a string makes it one.
    let Value::String(_) = table.raw_get("err")? else { return Ok(None) };
    Ok(Some((text_in(table, "err")?.unwrap_or_default(), is_counted(table)?)))
}

/// The line that a script's error is answered with.
fn failure(entry: &Entry<'_>, error: &Value) -> mlua::Result<ErrorLine> {
    let Value::Table(table) = error else {
        let text = primitives::text_of(error);
        return Ok((format!("ERR Error running script {}, {text}", entry.name), false));
    };
    let message = text_in(table, "err")?.unwrap_or_else(|| "ERR unknown error".to_owned());
    let counted = is_counted(table)?;
    match (text_in(table, "source")?, text_in(table, "line")?) {
        (Some(source), Some(line)) => {
            Ok((format!("{message} script: {}, on {source}:{line}.", entry.name), counted))
        }
        _ => Ok((message, counted)),
    }
}
