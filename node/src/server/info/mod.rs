//! INFO: a section a function. Only what is true here is shown; what Redis counts and there is none
//! of is 0 where dashboards read it.

mod commands;
mod sections;

use resp::reply::Writer;

use super::session::{Session, Shared};
use crate::command::{Args, Fail};

type Section = fn(&Shared, &mut String);

/// The sections in Redis's order; whether each is shown to who asks for none.
const SECTIONS: &[(&str, Section, bool)] = &[
    ("server", sections::server, true),
    ("clients", sections::clients, true),
    ("memory", sections::memory, true),
    ("persistence", sections::persistence, true),
    ("stats", sections::stats, true),
    ("replication", sections::replication, true),
    ("cpu", sections::cpu, true),
    ("modules", sections::modules, true),
    ("commandstats", commands::commandstats, false),
    ("errorstats", commands::errorstats, true),
    ("latencystats", commands::latencystats, false),
    ("cluster", sections::cluster, true),
    ("keyspace", sections::keyspace, true),
    ("rocksdb", sections::rocksdb, false),
];

pub(super) fn info(session: &mut Session, args: &Args<'_>, out: &mut Vec<u8>) -> Result<(), Fail> {
    let said = |word: &str| args.from(1).any(|arg| arg.eq_ignore_ascii_case(word.as_bytes()));
    let all = said("all") || said("everything");
    let default = args.len() == 1 || said("default");
    let mut text = String::new();
    for (name, section, by_default) in SECTIONS {
        if all || default && *by_default || said(name) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            section(&session.shared, &mut text);
        }
    }
    Writer::new(out, session.version).verbatim(*b"txt", text.as_bytes());
    Ok(())
}

/// Appends a line. Writing to a string cannot fail.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => {{
        let _ = std::fmt::Write::write_fmt($out, format_args!($($arg)*));
        $out.push_str("\r\n");
    }};
}
use line;
