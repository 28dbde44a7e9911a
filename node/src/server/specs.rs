//! The table's lines for what I/O threads answer.

use super::{cluster, commands, config, hello, info};
use crate::command::{Flags, Spec};

const C: &str = "connection";
const S: &str = "server";
const L: Flags = Flags::LOADING.and(Flags::STALE);
const F: Flags = L.and(Flags::FAST);
const A: Flags = L.and(Flags::ADMIN);

pub(crate) const CONNECTION: &[Spec] = &[
    Spec::session(C, "ping", -1, F, hello::ping),
    Spec::session(C, "echo", 2, F, hello::echo),
    Spec::session(C, "quit", -1, F, hello::quit),
    Spec::session(C, "reset", 1, F, hello::reset),
    Spec::session(C, "select", 2, F, hello::select),
    Spec::session(C, "hello", -1, F, hello::hello),
    Spec::session(C, "auth", -2, F, hello::auth),
    Spec::session(C, "client", -2, L, hello::client),
    Spec::session("cluster", "readonly", 1, F, hello::readonly),
    Spec::session("cluster", "readwrite", 1, F, hello::readwrite),
    Spec::session("cluster", "cluster", -2, L, cluster::cluster),
    Spec::session("godwit", "godwit.hold", 1, F, hello::hold),
    Spec::session("godwit", "godwit.resume", 1, F, hello::resume),
];

pub(crate) const SERVER: &[Spec] = &[
    Spec::session(S, "command", -1, L, commands::command),
    Spec::session(S, "config", -2, A, config::config),
    Spec::session(S, "info", -1, L, info::info),
    Spec::session(S, "time", 1, F, info::time),
    Spec::session(S, "role", 1, F, info::role),
    Spec::session(S, "shutdown", -1, A, info::shutdown),
];
