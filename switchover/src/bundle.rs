//! `support-bundle`: what somebody who helps needs to see, as one tar, without secrets.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use admin::Access;
use anyhow::Context;
use ops::exit::{Exit, Stop};
use serde_json::{Value, json};
use topology::record::UnixMs;

use crate::doctor;
use crate::history;
use crate::status;
use crate::tar::Tar;
use crate::time::utc;
use crate::tool::Tool;

/// An address without who it is reached as: `scheme://user:password@host` loses its middle.
fn without_secrets(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let hosts = rest.split(',').map(|host| host.rsplit_once('@').map_or(host, |(_, host)| host));
    format!("{scheme}://{}", hosts.collect::<Vec<_>>().join(","))
}

/// What this tool runs with. Nothing here is a password; the registry's address may hold one.
fn config(tool: &Tool) -> Value {
    let c = &tool.config;
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "registry": without_secrets(&c.registry),
        "service": c.service,
        "journal": c.journal,
        "claim_ms": c.claim.as_millis() as u64,
        "timeout": c.timeout,
        "drain_wait_ms": c.drain_wait.as_millis() as u64,
        "settle_timeout_ms": c.settle_timeout.as_millis() as u64,
        "rejoin_timeout": c.rejoin_timeout,
        "digest_timeout_ms": c.digest_timeout.as_millis() as u64,
        "max_lag": c.guards.max_lag,
        "min_interval": c.guards.min_interval,
        "max_clock_skew": c.guards.max_clock_skew,
        "min_disk_free": c.guards.min_disk_free,
        "max_snapshot_age": c.guards.max_snapshot_age,
        "allow_drift": c.guards.allow_drift,
        "hook_before": c.hooks.before,
        "hook_after": c.hooks.after,
        "hook_timeout_ms": c.hooks.timeout.as_millis() as u64,
    })
}

/// Users' digests are of passwords too: whether they agree is in the plans, and they stay out.
fn without_digests(mut status: Value) -> Value {
    for node in status["nodes"].as_object_mut().into_iter().flat_map(|nodes| nodes.values_mut()) {
        if let Some(node) = node.as_object_mut() {
            node.remove("users");
        }
    }
    status
}

/// `support-bundle`.
pub(crate) async fn bundle(tool: &Tool, out: &Path, access: &Access) -> anyhow::Result<Exit> {
    if tool.dry_run {
        let text = format!("would write {}", out.display());
        return tool
            .result(&text, &json!({"operation": "support-bundle", "message": text, "exit": 0}))
            .map(|()| Exit::Done);
    }
    let (view, record, revision) = tool.view()?;
    let now = UnixMs::now().0;
    let mut tar = Tar::default();
    let mut names = Vec::new();
    let mut add = |name: String, content: &[u8]| {
        tar.add(&name, content, now / 1000);
        names.push(name);
    };
    let pretty = |value: &Value| serde_json::to_vec_pretty(value).unwrap_or_default();
    let seen = serde_json::to_value(status::json(tool.service.name(), &view, &record, revision))?;
    add("status.json".to_owned(), &pretty(&without_digests(seen)));
    add("status.txt".to_owned(), status::text(&view, &record).as_bytes());
    add("config.json".to_owned(), &pretty(&config(tool)));
    add("taken.txt".to_owned(), format!("{} by {}\n", utc(now), tool.by).as_bytes());
    let found = doctor::look(tool, access).await?;
    add("doctor.json".to_owned(), &pretty(&json!(found)));
    for entry in history::entries(tool).await? {
        add(format!("journals/{}.json", entry.id), &pretty(&entry.about));
    }
    let bytes = tar.finish();
    let mut file =
        std::fs::File::options().write(true).create_new(true).mode(0o600).open(out).map_err(
            |why| match why.kind() {
                std::io::ErrorKind::AlreadyExists => {
                    let why = format!("{} exists; name another file with --out", out.display());
                    Stop::new(Exit::Refused, why).into()
                }
                _ => anyhow::Error::new(why).context(format!("cannot write {}", out.display())),
            },
        )?;
    file.write_all(&bytes)
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", out.display()))?;
    let text = format!("wrote {} ({} files)", out.display(), names.len());
    let json = json!({"operation": "support-bundle", "file": out, "files": names, "exit": 0});
    tool.result(&text, &json).map(|()| Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_where_and_not_who() {
        for (address, says) in [
            ("file:/var/lib/godwit/registry", "file:/var/lib/godwit/registry"),
            ("etcd://root:geheim@h1:2379", "etcd://h1:2379"),
            ("etcd:http://u:p@x@h1:1,u:p@h2:2", "etcd:http://h1:1,h2:2"),
        ] {
            assert_eq!(without_secrets(address), says);
        }
        let status = json!({"nodes": {"a/0": {"users": "abc", "dir": "/d"}}});
        assert_eq!(without_digests(status), json!({"nodes": {"a/0": {"dir": "/d"}}}));
    }
}
