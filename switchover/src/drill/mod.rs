//! `drill`: rehearses a failover on a fork of the standby, beside it, and throws the fork away.
//!
//! Each standby node makes a checkpoint, whose files are hard links. Nodes of their own open those, in a
//! registry of their own that nobody else knows: there the clusters that are active are gone. The same
//! [`Operation`] as of a real failover takes over; then somebody writes and reads through the forked
//! nodes, and through a proxy that is of that registry too. The service itself is only read.

mod canary;
mod fork;
mod process;
mod scratch;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use admin::Access;
use anyhow::Context;
use ops::exit::{Exit, Stop};
use ops::units::Size;
use serde::Serialize;
use serde_json::json;
use topology::members::Role;
use topology::operator::{DRILL, Note};
use topology::record::{Cause, Phase, UnixMs};
use topology::{Record, Service, ShardName};

use crate::args::{Accept, Scope};
use crate::claim::Patience;
use crate::init::names;
use crate::operation::{Limits, Operation};
use crate::plan::{active, moving, pairs};
use crate::report::{Report, ms};
use crate::switch::timeout;
use crate::time::ago;
use crate::tool::Tool;
use crate::wait::{Waited, all, until};

use fork::Fork;
use process::Process;
use scratch::Scratch;

/// What a drill is asked for.
pub(crate) struct How {
    /// The cluster that is to be rehearsed.
    pub(crate) to: String,
    /// Where the programs are, if not beside this one.
    pub(crate) programs: Option<PathBuf>,
    /// The memory of each forked node.
    pub(crate) memory: Size,
    /// How to ask nodes.
    pub(crate) access: Access,
}

/// A forked shard.
#[derive(Clone, Debug, Serialize)]
struct ShardDrill {
    shard: String,
    /// How long its checkpoint took, in milliseconds.
    checkpoint_ms: f64,
    /// How old the last batch was that the checkpoint has of a source.
    data_age_ms: u64,
    /// Its keys, as the promoted fork counts them.
    keys: u64,
    /// A write, a read and a delete through the node, in milliseconds.
    canary_ms: f64,
    /// The same through a proxy.
    proxy_ms: f64,
}

/// What came of a drill.
#[derive(Clone, Debug, Default, Serialize)]
struct Drilled {
    operation: &'static str,
    id: String,
    to: String,
    good: bool,
    shards: Vec<ShardDrill>,
    /// From the start of the forked nodes until they stood by, in milliseconds.
    open_ms: f64,
    /// The failover among the forks.
    switch: Option<Report>,
    message: String,
    exit: u8,
}

/// `drill`.
pub(crate) async fn drill(tool: &Tool, how: &How) -> anyhow::Result<Exit> {
    let (_, record, _) = tool.view()?;
    let nodes = standbys(tool, &record, &how.to)?;
    if tool.dry_run {
        let text = format!(
            "would fork {} on this machine, fail the forks over to `{}` in a registry of their own, write and read there, and delete them",
            nodes.iter().map(|(shard, _)| shard.to_string()).collect::<Vec<_>>().join(", "),
            how.to
        );
        let json = json!({"operation": "drill", "message": text, "exit": 0});
        return tool.result(&text, &json).map(|()| Exit::Done);
    }
    let work = Box::pin(rehearse(tool, how, record, nodes));
    let drilled = tool.claimed("drill", Patience::None, work).await?;
    let mut text = format!("drill to {}: {}", drilled.to, drilled.message);
    for s in &drilled.shards {
        text.push_str(&format!(
            "\n  {:<8} checkpoint {} ms, data {}, {} keys, canary {} ms, by proxy {} ms",
            s.shard,
            s.checkpoint_ms,
            ago(s.data_age_ms),
            s.keys,
            s.canary_ms,
            s.proxy_ms
        ));
    }
    if let Some(switch) = &drilled.switch {
        text.push_str(&format!("\n  opened in {} ms; ", drilled.open_ms));
        text.push_str(&switch.text());
    }
    tool.result(&text, &drilled)?;
    Ok(if drilled.good { Exit::Done } else { Exit::Failed })
}

/// The nodes that would be forked, with their admin addresses; refused if they cannot be.
fn standbys(tool: &Tool, record: &Record, to: &str) -> Result<Vec<(ShardName, String)>, Stop> {
    let refuse = |why: String| Err(Stop::new(Exit::Refused, format!("{why}; nothing was changed")));
    if !record.clusters.contains_key(to) {
        let why = format!("there is no cluster `{to}`; there are: {}", names(&record.clusters));
        return Err(Stop::new(Exit::Usage, why));
    }
    if let Some(freeze) = record.freeze() {
        return refuse(format!("a freeze to `{}` is under way", freeze.to));
    }
    let view = tool.service.view();
    let mut nodes = Vec::new();
    for (shard, _) in record.shards().filter(|(shard, _)| shard.cluster == to) {
        let Some(node) = view.nodes.get(&shard) else {
            return refuse(format!("{shard} is not there"));
        };
        if node.role != Role::Standby {
            return refuse(format!("{shard} is {:?}, and a drill forks standbys", node.role));
        }
        if !Path::new(&node.dir).is_dir() {
            return refuse(format!(
                "the directory {} of {shard} is not on this machine, or may not be read: run the drill where all nodes of `{to}` are, as their user",
                node.dir
            ));
        }
        if node.disk_free.is_some_and(|free| free < tool.config.guards.min_disk_free.bytes()) {
            return refuse(format!(
                "{shard} has less than {} free (min-disk-free)",
                tool.config.guards.min_disk_free
            ));
        }
        nodes.push((shard, node.admin.clone()));
    }
    let unknown = pairs(record, &record.primaries, to).into_iter().find(|(source, target)| {
        let node = view.nodes.get(target);
        node.is_none_or(|n| !n.applied.contains_key(&source.to_string()))
    });
    match unknown {
        Some((source, target)) => refuse(format!("{target} has applied nothing of {source}")),
        None => Ok(nodes),
    }
}

/// Rehearses, cleans up, and notes what came of it.
async fn rehearse(
    tool: &Tool,
    how: &How,
    record: Record,
    nodes: Vec<(ShardName, String)>,
) -> anyhow::Result<Drilled> {
    let began = UnixMs::now();
    let id = format!("{:032x}", rand::random::<u128>());
    let mut drilled =
        Drilled { operation: "drill", id: id.clone(), to: how.to.clone(), ..Drilled::default() };
    let scratch = Scratch::make(&std::env::temp_dir(), &id)?;
    let mut stage = Stage { scratch, forks: Vec::new(), processes: Vec::new() };
    let work = Box::pin(stage.play(tool, how, &record, nodes, &mut drilled));
    let played = tokio::select! {
        played = work => played,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("it was interrupted")),
    };
    let left = stage.clear().await;
    drilled.message = match (&played, left.is_empty()) {
        (Ok(()), true) => "it would work; nothing of the service was touched".to_owned(),
        (Ok(()), false) => format!("it would work; remove what is left: {}", left.join(", ")),
        (Err(why), _) => {
            let left = if left.is_empty() {
                String::new()
            } else {
                format!("; remove what is left: {}", left.join(", "))
            };
            format!("FAILED: {}; nothing of the service was touched{left}", ops::cli::sentence(why))
        }
    };
    drilled.good = played.is_ok();
    drilled.exit = if drilled.good { Exit::Done } else { Exit::Failed }.code();
    let note = Note {
        at: began,
        says: drilled.message.clone(),
        good: drilled.good,
        detail: json!({"id": id, "to": how.to}),
    };
    tool.service.put_note(DRILL, &note).await?;
    let journal = tool.signed(json!({
        "operation": "drill", "from": active(&record), "to": how.to, "began_ms": began,
        "state": if drilled.good { "done" } else { "failed" }, "steps": [], "drill": drilled,
    }));
    tool.service.put_journal(&id, &journal).await?;
    Ok(drilled)
}

/// What a drill has made and has to take away.
struct Stage {
    scratch: Scratch,
    forks: Vec<Fork>,
    processes: Vec<Process>,
}

/// How long a forked node may take to open its database and stand by.
const OPEN_WAIT: Duration = Duration::from_secs(60);

impl Stage {
    async fn play(
        &mut self,
        tool: &Tool,
        how: &How,
        record: &Record,
        nodes: Vec<(ShardName, String)>,
        drilled: &mut Drilled,
    ) -> anyhow::Result<()> {
        let programs = how.programs.as_deref();
        let node_program = process::find("godwit-node", programs)?;
        let proxy_program = process::find("godwit-proxy", programs)?;
        for (shard, address) in nodes {
            let began = Instant::now();
            tool.progress(format!("drill: a checkpoint of {shard}"));
            let made = Fork::of(&shard, &address, &how.access, &drilled.id, tool.service.name());
            let fork = made.await?;
            drilled.shards.push(ShardDrill {
                shard: shard.to_string(),
                checkpoint_ms: ms(began.elapsed()),
                data_age_ms: UnixMs::now().0.saturating_sub(fork.stamp_ms),
                keys: 0,
                canary_ms: 0.0,
                proxy_ms: 0.0,
            });
            self.forks.push(fork);
        }
        let registry = format!("file:{}", self.scratch.dir.join("registry").display());
        let service = Service::open(topology::open(&registry)?, tool.service.name()).await?;
        let alone = Record { phase: Phase::Steady, ..record.clone() };
        service.create_record(&alone).await?;
        let inside = tool.aside(service, self.scratch.dir.join("journal"));
        let began = Instant::now();
        for fork in &self.forks {
            let memory = how.memory.to_string();
            let args = fork.arguments(&registry, tool.service.name(), &memory);
            self.processes.push(Process::start(&node_program, &args, &fork.log)?);
        }
        let proxy_log = self.scratch.dir.join("proxy.log");
        let proxy_args = [
            "--listen",
            "127.0.0.1:0",
            "--registry",
            &registry,
            "--service",
            tool.service.name(),
            "--cluster",
            &how.to,
            "--id",
            "drill",
        ];
        self.processes.push(Process::start(
            &proxy_program,
            &proxy_args.map(str::to_owned),
            &proxy_log,
        )?);
        self.stand_by(&inside, began).await?;
        drilled.open_ms = ms(began.elapsed());
        let report = Report {
            operation: "failover".to_owned(),
            from: active(record),
            to: how.to.clone(),
            ..Report::default()
        };
        let limits = Limits { drain_wait: tool.config.drain_wait, accept: Accept::Any };
        let freeze = timeout(tool, Cause::Failover, record.lease_ms);
        let moves = moving(record, &how.to, &Scope::default())?;
        let operation =
            Operation::begin(&inside, report, (Cause::Failover, moves), freeze, limits).await?;
        let report = operation.drive(true).await;
        let (exit, outcome) = (report.exit, report.message.clone());
        drilled.switch = Some(report);
        anyhow::ensure!(
            exit == Exit::Done.code(),
            "the forks did not take over: {}",
            outcome.unwrap_or_default()
        );
        self.check(&inside, record, drilled).await
    }

    /// Waits until the forks stand by and the proxy routes.
    async fn stand_by(&self, inside: &Tool, began: Instant) -> anyhow::Result<()> {
        let mut view = inside.service.watch();
        let ready = until(inside, &mut view, began + OPEN_WAIT, |view| {
            let late = |fork: &&Fork| {
                let node = view.nodes.get(&fork.shard);
                node.is_none_or(|n| n.role != Role::Standby || n.applied.is_empty())
            };
            let mut missing: Vec<_> = self
                .forks
                .iter()
                .filter(late)
                .map(|f| format!("the fork of {} does not stand by", f.shard))
                .collect();
            if view.proxies.is_empty() {
                missing.push("the proxy is not registered".to_owned());
            }
            all((), missing)
        });
        match ready.await {
            Waited::Done(()) => Ok(()),
            Waited::TimedOut(missing) => {
                let said: Vec<_> =
                    self.forks.iter().filter_map(|f| process::last_line(&f.log)).collect();
                anyhow::bail!("{missing}; the nodes' last words: {}", said.join(" | "))
            }
            Waited::Over => unreachable!("this look never says so"),
        }
    }

    /// Writes and reads in each forked shard.
    async fn check(
        &self,
        inside: &Tool,
        record: &Record,
        drilled: &mut Drilled,
    ) -> anyhow::Result<()> {
        let view = inside.service.view();
        let proxy = view.proxies.values().next().context("the proxy is gone")?;
        for (fork, shown) in self.forks.iter().zip(&mut drilled.shards) {
            let shard = &fork.shard;
            let node =
                view.nodes.get(shard).with_context(|| format!("the fork of {shard} is gone"))?;
            let slots = record.slots_of(shard).context("the shard has no slots")?;
            let of =
                |who: &str| format!("writing and reading in the fork of {shard} through {who}");
            let direct = canary::fly(&node.client, slots).await.with_context(|| of("its node"))?;
            (shown.canary_ms, shown.keys) = (direct.ms, direct.keys);
            let routed = canary::fly(&proxy.client, slots).await.with_context(|| of("a proxy"))?;
            shown.proxy_ms = routed.ms;
            inside.progress(format!("drill: {shard} takes writes ({} ms)", direct.ms));
        }
        Ok(())
    }

    /// Ends the processes and removes the directories; what could not be removed.
    async fn clear(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        for process in self.processes.drain(..) {
            if let Err(why) = process.stop().await {
                left.push(why);
            }
        }
        for dir in self.forks.iter().map(|f| &f.dir).chain([&self.scratch.dir]) {
            if let Err(why) = std::fs::remove_dir_all(dir) {
                left.push(format!("{} ({why})", dir.display()));
            }
        }
        left
    }
}
