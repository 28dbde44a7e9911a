//! A drill on the machine of the nodes: forks, a proxy, and a registry of their own, where the real
//! [`Operation`] of a failover takes over.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ::drill::{Fork, Process, canary, process};
use admin::Client;
use anyhow::Context;
use ops::exit::Exit;
use topology::members::Role;
use topology::record::{Cause, Phase, UnixMs};
use topology::{Record, Service};

use super::Standby;
use super::drilled::{Drilled, ShardDrill};
use super::scratch::Scratch;
use crate::args::{Accept, Rehearsal, Scope};
use crate::operation::{Limits, Operation};
use crate::plan::{active, moving};
use crate::report::{Report, ms};
use crate::switch::timeout;
use crate::tool::Tool;
use crate::wait::{Waited, all, until};

/// Rehearses, and takes away what it has made; what could not be taken away.
pub(super) async fn rehearse(
    tool: &Tool,
    how: &Rehearsal,
    record: &Record,
    nodes: Vec<Standby>,
    drilled: &mut Drilled,
) -> anyhow::Result<(anyhow::Result<()>, Vec<String>)> {
    let scratch = Scratch::make(&std::env::temp_dir(), &drilled.id)?;
    let mut stage = Stage { scratch, forks: Vec::new(), processes: Vec::new() };
    let work = Box::pin(stage.play(tool, how, record, nodes, drilled));
    let played = tokio::select! {
        played = work => played,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("it was interrupted")),
    };
    let left = stage.clear().await;
    Ok((played, left))
}

/// Where a program is: in the directory named, beside this one, or in PATH.
fn find(program: &str, named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(dir) = named {
        let path = dir.join(program);
        anyhow::ensure!(
            path.is_file(),
            "{} is no file: name another with --programs",
            path.display()
        );
        return Ok(path);
    }
    let own = std::env::current_exe().ok();
    let beside = own.and_then(|own| Some(own.parent()?.join(program)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let everywhere = std::env::split_paths(&path).map(|dir| dir.join(program));
    beside.into_iter().chain(everywhere).find(|path| path.is_file()).with_context(|| {
        format!(
            "{program} is neither beside this program nor in PATH: say where with --programs DIR"
        )
    })
}

/// What a drill has made and has to take away.
struct Stage {
    scratch: Scratch,
    forks: Vec<Fork>,
    processes: Vec<Process>,
}

const HERE: &str =
    "a drill on this machine (--here) runs where all nodes of the cluster are, as their user";
/// How long a forked node may take to open its database and stand by.
const OPEN_WAIT: Duration = Duration::from_secs(60);

impl Stage {
    async fn play(
        &mut self,
        tool: &Tool,
        how: &Rehearsal,
        record: &Record,
        nodes: Vec<Standby>,
        drilled: &mut Drilled,
    ) -> anyhow::Result<()> {
        let programs = how.programs.as_deref();
        let node_program = find("godwit-node", programs)?;
        let proxy_program = find("godwit-proxy", programs)?;
        for Standby { shard, admin, .. } in nodes {
            let began = Instant::now();
            tool.progress(format!("drill: a checkpoint of {shard}"));
            let client = Client::connect_as(&admin, &how.access).await?;
            let name = format!("drill-{}", &drilled.id[..12]);
            let made = Fork::of(&shard, &client, &name, tool.service.name());
            let fork = made.await.context(HERE)?;
            drilled.shards.push(ShardDrill {
                shard: shard.to_string(),
                checkpoint_ms: ms(began.elapsed()),
                data_age_ms: UnixMs::now().0.saturating_sub(fork.stamp_ms),
                ..ShardDrill::default()
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
        drilled.open_ms = Some(ms(began.elapsed()));
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
            let direct = canary::fly(&node.client, slots, None).await;
            let direct = direct.with_context(|| of("its node"))?;
            (shown.canary_ms, shown.keys) = (ms(direct.took), direct.keys);
            let routed = canary::fly(&proxy.client, slots, None).await;
            shown.proxy_ms = Some(ms(routed.with_context(|| of("a proxy"))?.took));
            inside.progress(format!("drill: {shard} takes writes ({} ms)", shown.canary_ms));
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
