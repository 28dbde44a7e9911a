//! Loads packages: a hash for each with its fields, sorted sets of sizes by section, sets of
//! dependencies, strings of versions, lists by maintainer, streams of what came to a section.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Result, bail};
use resp::reply::Reply;

use super::packages::Package;
use crate::client::Client;

/// Commands sent before their answers are read.
const PIPELINE: usize = 128;
/// Connections that load at once.
const CONNECTIONS: usize = 4;
/// How often the packages may be loaded under another prefix to reach the size asked for.
const COPIES_MAX: u32 = 10_000;

/// What was loaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filled {
    /// Bytes of keys, fields, members and values.
    pub bytes: u64,
    /// Commands.
    pub commands: u64,
    /// How often the packages were loaded, each time under another prefix.
    pub copies: u32,
}

/// Loads packages through a proxy until at least this many bytes are in; `0`: once.
pub fn fill(proxy: &str, packages: &[Package], bytes_min: u64, live: &AtomicU64) -> Result<Filled> {
    let mut filled = Filled::default();
    while filled.copies == 0 || filled.bytes < bytes_min {
        if filled.copies == COPIES_MAX {
            bail!("{} packages are too few for {bytes_min} bytes", packages.len());
        }
        let prefix = match filled.copies {
            0 => "debian:".to_owned(),
            n => format!("debian:copy{n}:"),
        };
        let part = packages.len().div_ceil(CONNECTIONS).max(1);
        let parts = thread::scope(|scope| {
            let prefix = prefix.as_str();
            let load = |part| scope.spawn(move || fill_part(proxy, part, prefix, live));
            let threads: Vec<_> = packages.chunks(part).map(load).collect();
            threads
                .into_iter()
                .map(|t| t.join().expect("loading does not panic"))
                .collect::<Vec<_>>()
        });
        for part in parts {
            let (bytes, commands) = part?;
            filled.bytes += bytes;
            filled.commands += commands;
        }
        filled.copies += 1;
    }
    Ok(filled)
}

fn fill_part(
    proxy: &str,
    packages: &[Package],
    prefix: &str,
    live: &AtomicU64,
) -> Result<(u64, u64)> {
    let mut client = Client::connect(proxy)?;
    let (mut bytes, mut commands, mut waiting) = (0, 0, 0);
    let settle = |client: &mut Client, waiting: &mut usize| -> Result<()> {
        client.flush()?;
        for _ in 0..std::mem::take(waiting) {
            if let Reply::Error(text) = client.answer()? {
                bail!("loading was answered: {text}");
            }
        }
        Ok(())
    };
    for package in packages {
        for command in commands_for(package, prefix) {
            let size = command.iter().skip(1).map(String::len).sum::<usize>() as u64;
            client.push(&command);
            bytes += size;
            commands += 1;
            waiting += 1;
            live.fetch_add(size, Ordering::Relaxed);
        }
        if waiting >= PIPELINE {
            settle(&mut client, &mut waiting)?;
        }
    }
    settle(&mut client, &mut waiting)?;
    Ok((bytes, commands))
}

fn commands_for(package: &Package, prefix: &str) -> Vec<Vec<String>> {
    let name = package.name().to_owned();
    let command = |verb: &str, key: String| vec![verb.to_owned(), key];
    let mut hash = command("HSET", format!("{prefix}package:{name}"));
    hash.extend(package.fields.iter().flat_map(|(field, value)| [field.clone(), value.clone()]));
    let mut all = vec![hash];
    let section = package.get("Section").unwrap_or("none");
    if let Some(size) = package.get("Size").or_else(|| package.get("Installed-Size")) {
        let mut zset = command("ZADD", format!("{prefix}section:{section}:by-size"));
        zset.extend([size.to_owned(), name.clone()]);
        all.push(zset);
    }
    let depends = package.depends();
    if !depends.is_empty() {
        let mut set = command("SADD", format!("{prefix}depends:{name}"));
        set.extend(depends.into_iter().map(str::to_owned));
        all.push(set);
    }
    if let Some(version) = package.get("Version") {
        let mut entry = command("XADD", format!("{prefix}section:{section}:log"));
        entry.extend(["*", "package", &name, "version", version].map(str::to_owned));
        all.push(entry);
        let mut string = command("SET", format!("{prefix}version:{name}"));
        string.push(version.to_owned());
        all.push(string);
    }
    if let Some(maintainer) = package.get("Maintainer") {
        let mut list = command("RPUSH", format!("{prefix}maintainer:{maintainer}"));
        list.push(name);
        all.push(list);
    }
    all
}
