//! The table's lines for what I/O threads answer.

use super::{
    acl, auth, cluster, commands, config, hello, info, latency, lifecycle, monitor, probe, pubsub,
    saving, slowlog, transaction,
};
use crate::command::{Flags, Handler, Keys, Spec};

const C: &str = "connection";
const S: &str = "server";
const L: Flags = Flags::LOADING.and(Flags::STALE);
const F: Flags = L.and(Flags::FAST);
/// What may be said before AUTH.
const U: Flags = F.and(Flags::NO_AUTH).and(Flags::NO_SCRIPT);
const A: Flags = L.and(Flags::ADMIN);

pub(crate) const CONNECTION: &[Spec] = &[
    Spec::session(C, "ping", -1, F, hello::ping),
    Spec::session(C, "echo", 2, F, hello::echo),
    Spec::session(C, "quit", -1, U, hello::quit),
    Spec::session(C, "reset", 1, U, hello::reset),
    Spec::session(C, "select", 2, F, hello::select),
    Spec::session(C, "hello", -1, U, hello::hello),
    Spec::session(C, "auth", -2, U, auth::auth),
    Spec::session(C, "client", -2, Flags::NONE, hello::client),
    Spec::session("cluster", "readonly", 1, F, hello::readonly),
    Spec::session("cluster", "readwrite", 1, F, hello::readwrite),
    Spec::session("cluster", "cluster", -2, Flags::NONE, cluster::cluster),
    Spec::session("godwit", "godwit.crossslot", 1, F.and(Flags::NO_MULTI), hello::cross_slots),
    Spec::session("godwit", "godwit.hold", 1, F.and(Flags::NO_MULTI), hello::hold),
    Spec::session("godwit", "godwit.probe", 1, U.and(Flags::ALLOW_BUSY), probe::probe),
    Spec::session("godwit", "godwit.resume", 1, F.and(Flags::NO_MULTI), hello::resume),
];

pub(crate) const SERVER: &[Spec] = &[
    Spec::session(S, "acl", -2, Flags::NONE, acl::acl),
    Spec::session(S, "command", -1, L, commands::command),
    Spec::session(S, "config", -2, Flags::NONE, config::config),
    Spec::session(S, "latency", -2, Flags::NONE, latency::latency),
    Spec::session(S, "slowlog", -2, Flags::NONE, slowlog::slowlog),
    Spec::session(S, "info", -1, L, info::info),
    Spec::session(S, "monitor", 1, A.and(Flags::NO_SCRIPT), monitor::monitor),
    Spec::late(S, "bgsave", -1, Flags::ADMIN.and(Flags::NO_SCRIPT), saving::bgsave),
    Spec::session(S, "lastsave", 1, F, saving::lastsave),
    Spec::session(S, "time", 1, F, lifecycle::time),
    Spec::session(S, "role", 1, F, lifecycle::role),
    Spec::session(S, "shutdown", -1, A.and(Flags::NO_MULTI), lifecycle::shutdown),
];

const T: &str = "transactions";
const B: Flags = L.and(Flags::NO_SCRIPT).and(Flags::ALLOW_BUSY);
const BF: Flags = B.and(Flags::FAST);

pub(crate) const TRANSACTIONS: &[Spec] = &[
    Spec::session(T, "multi", 1, BF, transaction::multi),
    Spec::session(T, "discard", 1, BF, transaction::discard),
    Spec::session(T, "unwatch", 1, BF, transaction::unwatch),
    Spec { name: "exec", arity: 1, flags: B, keys: Keys::NONE, group: T, handler: Handler::Exec },
    Spec {
        name: "watch",
        arity: -2,
        flags: BF,
        keys: Keys::ALL,
        group: T,
        handler: Handler::Watch,
    },
];

const P: &str = "pubsub";
const PL: Flags = L.and(Flags::PUBSUB);
const PU: Flags = PL.and(Flags::FAST);
const PS: Flags = PL.and(Flags::NO_SCRIPT).and(Flags::SUBSCRIBES);

pub(crate) const PUBSUB: &[Spec] = &[
    Spec::late(P, "subscribe", -2, PS, pubsub::subscribe),
    Spec::late(P, "unsubscribe", -1, PS, pubsub::unsubscribe),
    Spec::late(P, "psubscribe", -2, PS, pubsub::subscribe),
    Spec::late(P, "punsubscribe", -1, PS, pubsub::unsubscribe),
    Spec::late(P, "ssubscribe", -2, PS, pubsub::subscribe),
    Spec::late(P, "sunsubscribe", -1, PS, pubsub::unsubscribe),
    Spec::late(P, "publish", 3, PU, pubsub::publish),
    Spec::late(P, "spublish", 3, PU, pubsub::publish),
    Spec::late(P, "pubsub", -2, PL, pubsub::pubsub),
];
