//! FUNCTION: libraries, which are records of the database that belong to no slot, and what all
//! workers know of them.

use std::sync::Arc;

use keyspace::library::{self, LibraryValue};
use keyspace::{Cf, Hlc};
use resp::reply::Writer;

use super::cursor::{Cursor, Direction};
use super::request::Call;
use super::run::Worker;
use crate::command::rdb::{dump_libraries, load_libraries};
use crate::command::{Args, CHANGE_FUNCTIONS, Fail, glob_matches};
use crate::control::{Mode, Refusal};
use crate::script::{Engine, Library, Policy, Problem, Set};
use crate::store::Store;

/// How much of the database is known to be the same while this number is.
fn generation(worker: &Worker, store: &Store) -> u128 {
    let position = store.position();
    // A node that writes knows of all its writes; one that does not is changed from outside.
    match worker.authority.mode() {
        Mode::Standalone | Mode::Primary => position.timeline.0,
        _ => position.timeline.0 ^ u128::from(position.sequence.0),
    }
}

impl Worker {
    /// The libraries that the database has now.
    pub(super) fn libraries(
        &mut self,
        store: &Store,
        engine: &mut Engine,
    ) -> Result<Arc<Set>, Fail> {
        let scripting = self.scripts.scripting.clone();
        let generation = generation(self, store);
        let known = scripting.libraries.now();
        if scripting.libraries.is_of(generation) {
            return Ok(known);
        }
        if !self.pending.is_whole() && !self.pending.is_empty() && !self.commit(Some(store)) {
            return Err(Fail::Lost);
        }
        let (lower, upper) = library::bounds();
        let over = self.pending.over(Cf::Data, &lower, &upper);
        let (lower, upper) = (lower.to_vec(), upper.to_vec());
        let mut records = Cursor::new(store, Cf::Data, lower, upper, Direction::Up).with(over);
        let mut found = Vec::new();
        while let Some((_, value)) = records.step()? {
            let text = LibraryValue::decode(value)?.text;
            let same = known.all().find(|library| *library.text == *text);
            let library = match same {
                Some(library) => Ok(library.clone()),
                None => engine.load(text),
            };
            match library {
                Ok(library) => found.push(library),
                Err(why) => tracing::warn!("a library of functions cannot be loaded: {why}"),
            }
        }
        let set = Set::default().with(&found, true).unwrap_or_else(|why| {
            tracing::warn!("functions of two libraries collide: {why:?}");
            Set::default()
        });
        scripting.libraries.set(set);
        scripting.libraries.was_read(generation);
        let now = scripting.libraries.now();
        engine.keep_libraries(|name| now.get(name).is_some());
        Ok(now)
    }

    /// FUNCTION. All workers wait, so what follows it on its connection sees what it did.
    pub(super) fn functions(
        &mut self,
        store: &Store,
        engine: &mut Engine,
        (call, args): (&Call, &Args<'_>),
        out: &mut Writer<'_>,
    ) -> Result<(), Fail> {
        let known = self.libraries(store, engine)?;
        match (&args.at(1).to_ascii_lowercase()[..], args.len()) {
            (b"load", 3..) => {
                self.admit_change(store, call)?;
                let last = args.len() - 1;
                if let Some(other) = (2..last).find(|&at| !args.is(at, "replace")) {
                    let other = String::from_utf8_lossy(args.at(other));
                    return Err(Fail::text(format!("ERR Unknown option given: {other}")));
                }
                let library = engine.load(args.at(last)).map_err(Fail::text)?;
                let new = known.with(std::slice::from_ref(&library), last > 2);
                let new = new.map_err(|why| refused(why, "'"))?;
                self.put_library(store, &library);
                self.set_libraries(engine, new);
                out.bulk(library.name.as_bytes());
            }
            (b"delete", 3) => {
                self.admit_change(store, call)?;
                let name = String::from_utf8_lossy(args.at(2));
                let library = known.get(&name).ok_or(Fail::text("ERR Library not found"))?;
                self.delete_library(library);
                self.set_libraries(engine, known.without(&name));
                out.simple("OK");
            }
            (b"flush", 2 | 3) => {
                if args.len() == 3 && !args.is(2, "sync") && !args.is(2, "async") {
                    return Err(Fail::text("ERR FUNCTION FLUSH only supports SYNC|ASYNC option"));
                }
                self.admit_change(store, call)?;
                known.all().for_each(|library| self.delete_library(library));
                self.set_libraries(engine, Set::default());
                out.simple("OK");
            }
            (b"restore", 3 | 4) => {
                self.admit_change(store, call)?;
                self.restore(store, engine, &known, args)?;
                out.simple("OK");
            }
            (b"dump", 2) => {
                out.bulk(&dump_libraries(known.all().map(|library| &library.text[..])));
            }
            (b"list", _) => list(&known, args, out)?,
            (b"stats", 2) => stats(&known, out),
            (b"help", 2) => {
                out.array(HELP.len());
                HELP.iter().for_each(|line| out.simple(line));
            }
            (sub @ (b"restore" | b"flush"), 4..) => {
                let sub = String::from_utf8_lossy(sub);
                return Err(Fail::text(format!(
                    "ERR unknown subcommand or wrong number of arguments for '{sub}'. Try FUNCTION \
                     HELP."
                )));
            }
            (sub @ (b"load" | b"delete" | b"restore" | b"dump" | b"stats" | b"help"), _) => {
                let sub = String::from_utf8_lossy(sub);
                return Err(Fail::text(format!(
                    "ERR wrong number of arguments for 'function|{sub}' command"
                )));
            }
            _ => {
                let sub = String::from_utf8_lossy(args.at(1));
                return Err(Fail::text(format!(
                    "ERR unknown subcommand '{sub}'. Try FUNCTION HELP."
                )));
            }
        }
        Ok(())
    }

    fn admit_change(&mut self, store: &Store, call: &Call) -> Result<(), Fail> {
        if let Some(hindrance) = store.hindrance() {
            return Err(Refusal::from(hindrance).into());
        }
        self.admit_whole(&Call { spec: &CHANGE_FUNCTIONS, slot: None, ..call.like() })
    }

    fn put_library(&mut self, store: &Store, library: &Library) {
        let stamp: Hlc = store.hlc().next(store.now_ms());
        let (mut key, mut value) = (Vec::new(), Vec::new());
        library::encode_key(&library.name, &mut key);
        LibraryValue { stamp, text: &library.text }.encode(&mut value);
        self.pending.put(Cf::Data, &key, &value);
    }

    fn delete_library(&mut self, library: &Library) {
        let mut key = Vec::new();
        library::encode_key(&library.name, &mut key);
        self.pending.delete(Cf::Data, &key);
    }

    fn set_libraries(&self, engine: &mut Engine, set: Set) {
        engine.keep_libraries(|name| set.get(name).is_some());
        self.scripts.scripting.libraries.set(set);
    }

    fn restore(
        &mut self,
        store: &Store,
        engine: &mut Engine,
        known: &Set,
        args: &Args<'_>,
    ) -> Result<(), Fail> {
        let policy = match args.get(3).map(<[u8]>::to_ascii_lowercase).as_deref() {
            None | Some(b"append") => Policy::Append,
            Some(b"replace") => Policy::Replace,
            Some(b"flush") => Policy::Flush,
            Some(_) => {
                return Err(Fail::text(
                    "ERR Wrong restore policy given, value should be either FLUSH, APPEND or \
                     REPLACE.",
                ));
            }
        };
        let texts = load_libraries(args.at(2)).map_err(|why| Fail::text(format!("ERR {why}")))?;
        let mut new = Vec::new();
        for text in texts {
            new.push(engine.load(&text).map_err(Fail::text)?);
        }
        let nothing = Set::default();
        let base = if policy == Policy::Flush { &nothing } else { known };
        // None of them may be there twice.
        let alone = nothing.with(&new, false).map_err(|why| refused(why, ""))?;
        let set = base.with(&new, policy == Policy::Replace).map_err(|why| refused(why, ""))?;
        for library in known.all().filter(|library| set.get(&library.name).is_none()) {
            self.delete_library(library);
        }
        alone.all().for_each(|library| self.put_library(store, library));
        self.set_libraries(engine, set);
        Ok(())
    }
}

fn refused(why: Problem, quote: &str) -> Fail {
    Fail::text(match why {
        Problem::Library(name) => format!("ERR Library {quote}{name}{quote} already exists"),
        Problem::Function(name) => format!("ERR Function {name} already exists"),
        Problem::TooMuch => {
            "ERR the libraries of functions would come to more than 64 MiB".to_owned()
        }
    })
}

fn list(known: &Set, args: &Args<'_>, out: &mut Writer<'_>) -> Result<(), Fail> {
    let (mut with_code, mut pattern, mut at) = (false, None, 2);
    while at < args.len() {
        if args.is(at, "withcode") && !with_code {
            with_code = true;
        } else if args.is(at, "libraryname") && pattern.is_none() {
            at += 1;
            let missing = || Fail::text("ERR library name argument was not given");
            pattern = Some(args.get(at).ok_or_else(missing)?);
        } else {
            let other = String::from_utf8_lossy(args.at(at));
            return Err(Fail::text(format!("ERR Unknown argument {other}")));
        }
        at += 1;
    }
    let wanted = |library: &&Arc<Library>| {
        pattern.is_none_or(|pattern| glob_matches(pattern, library.name.as_bytes()))
    };
    let wanted = known.all().filter(wanted);
    out.array(wanted.clone().count());
    for library in wanted {
        out.map(if with_code { 4 } else { 3 });
        out.bulk(b"library_name");
        out.bulk(library.name.as_bytes());
        out.bulk(b"engine");
        out.bulk(b"LUA");
        out.bulk(b"functions");
        out.array(library.functions.len());
        for function in &library.functions {
            out.map(3);
            out.bulk(b"name");
            out.bulk(function.name.as_bytes());
            out.bulk(b"description");
            match &function.description {
                Some(description) => out.bulk(description),
                None => out.null(),
            }
            out.bulk(b"flags");
            out.set(function.flags.names().count());
            function.flags.names().for_each(|name| out.simple(name));
        }
        if with_code {
            out.bulk(b"library_code");
            out.bulk(&library.text);
        }
    }
    Ok(())
}

fn stats(known: &Set, out: &mut Writer<'_>) {
    out.map(2);
    out.bulk(b"running_script");
    out.null();
    engines(known, out);
}

/// The second half of FUNCTION STATS.
pub(crate) fn engines(known: &Set, out: &mut Writer<'_>) {
    out.bulk(b"engines");
    out.map(1);
    out.bulk(b"LUA");
    out.map(2);
    out.bulk(b"libraries_count");
    out.integer(known.all().count() as i64);
    out.bulk(b"functions_count");
    out.integer(known.functions() as i64);
}

const HELP: [&str; 25] = [
    "FUNCTION <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "LOAD [REPLACE] <FUNCTION CODE>",
    "    Create a new library with the given library name and code.",
    "DELETE <LIBRARY NAME>",
    "    Delete the given library.",
    "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
    "    Return general information on all the libraries.",
    "STATS",
    "    Return information about the current function running.",
    "KILL",
    "    Kill the current running function.",
    "FLUSH [ASYNC|SYNC]",
    "    Delete all the libraries.",
    "DUMP",
    "    Return a serialized payload representing the current libraries, can be restored using \
     FUNCTION RESTORE command",
    "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
    "    Restore the libraries represented by the given payload, it is possible to give a restore \
     policy to",
    "    control how to handle existing libraries (default APPEND):",
    "    * FLUSH: delete all existing libraries.",
    "    * APPEND: appends the restored libraries to the existing libraries. On collision, abort.",
    "    * REPLACE: appends the restored libraries to the existing libraries, On collision, replace \
     the old",
    "      libraries with the new libraries (notice that even on this option there is a chance of \
     failure",
    "      in case of functions name conflict with another library).",
    "HELP",
    "    Prints this help.",
];
