//! Parameters of Redis that are always the same here, or that only a start can change.

use std::path::PathBuf;

use ops::tls::TlsFiles;

use super::super::session::Shared;
use crate::control::Mode;

/// A parameter that CONFIG SET refuses to change.
pub(in crate::server) struct Fixed {
    /// Redis's name for it.
    pub(super) name: &'static str,
    /// What it is.
    pub(super) get: fn(&Shared) -> String,
}

const fn fixed(name: &'static str, get: fn(&Shared) -> String) -> Fixed {
    Fixed { name, get }
}

fn no(_: &Shared) -> String {
    "no".to_owned()
}

fn yes(_: &Shared) -> String {
    "yes".to_owned()
}

fn zero(_: &Shared) -> String {
    "0".to_owned()
}

fn nothing(_: &Shared) -> String {
    String::new()
}

fn words(words: &str) -> String {
    words.to_owned()
}

fn tls(shared: &Shared, which: fn(&TlsFiles) -> Option<&PathBuf>) -> String {
    let path = shared.facts.tls.as_ref().and_then(|(files, _)| which(files));
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

pub(super) static ALL: &[Fixed] = &[
    // How the node was started.
    fixed("port", |s| s.address.port().to_string()),
    fixed("bind", |s| s.address.ip().to_string()),
    fixed("dir", |s| s.facts.dir.display().to_string()),
    fixed("aclfile", |s| s.users.path().display().to_string()),
    fixed("io-threads", |s| s.facts.io_threads.to_string()),
    fixed("appendfsync", |s| words(s.facts.append_fsync)),
    fixed("cluster-enabled", |s| {
        words(if s.authority.mode() == Mode::Standalone { "no" } else { "yes" })
    }),
    fixed("tls-port", |s| s.facts.tls.as_ref().map_or(0, |(_, port)| *port).to_string()),
    fixed("tls-cert-file", |s| tls(s, |files| Some(&files.cert))),
    fixed("tls-key-file", |s| tls(s, |files| Some(&files.key))),
    fixed("tls-ca-cert-file", |s| tls(s, |files| files.client_ca.as_ref())),
    fixed("tls-auth-clients", |s| {
        let files = s.facts.tls.as_ref().map(|(files, _)| files);
        words(match files {
            Some(TlsFiles { client_ca: Some(_), clients_may_lack: true, .. }) => "optional",
            Some(TlsFiles { client_ca: Some(_), .. }) => "yes",
            _ => "no",
        })
    }),
    // The log is always written, and there are no dumps.
    fixed("appendonly", yes),
    fixed("save", nothing),
    fixed("dbfilename", nothing),
    fixed("stop-writes-on-bgsave-error", no),
    fixed("no-appendfsync-on-rewrite", no),
    fixed("auto-aof-rewrite-percentage", zero),
    fixed("auto-aof-rewrite-min-size", zero),
    // One database, on disk: nothing is evicted.
    fixed("databases", |_| words("1")),
    fixed("maxmemory", zero),
    fixed("maxmemory-policy", |_| words("noeviction")),
    fixed("maxmemory-clients", zero),
    fixed("maxmemory-samples", |_| words("5")),
    // Deleting is one small write whatever is deleted.
    fixed("lazyfree-lazy-eviction", yes),
    fixed("lazyfree-lazy-expire", yes),
    fixed("lazyfree-lazy-server-del", yes),
    fixed("lazyfree-lazy-user-del", yes),
    fixed("lazyfree-lazy-user-flush", yes),
    fixed("activedefrag", no),
    fixed("list-compress-depth", zero),
    // Followers are the sidecar's business.
    fixed("replicaof", nothing),
    fixed("slaveof", nothing),
    fixed("min-replicas-to-write", zero),
    fixed("min-slaves-to-write", zero),
    fixed("replica-read-only", yes),
    fixed("slave-read-only", yes),
    fixed("replica-serve-stale-data", yes),
    fixed("repl-backlog-size", zero),
    // Ten looks for expired keys a second, whatever else there is to do.
    fixed("hz", |_| words("10")),
    fixed("dynamic-hz", no),
    // It runs in the foreground, and says what happens on its standard error.
    fixed("daemonize", no),
    fixed("supervised", no),
    fixed("logfile", nothing),
    fixed("pidfile", nothing),
    fixed("unixsocket", nothing),
    fixed("tcp-backlog", |_| words("1024")),
    fixed("enable-protected-configs", no),
    fixed("enable-module-command", no),
    fixed("enable-debug-command", yes),
];
