//! One rehearsal: a fork of the node, promoted alone.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::drill::{Fork, Process, canary, process};
use anyhow::Context;
use ops::units::Size;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use topology::members::{DrillOrder, DrillSeen, DrillState, NodeMember, Role};
use topology::record::{Fork as Left, Phase, UnixMs};
use topology::{FreezeId, Outcome, Record, Service, ServiceView};

use super::{PREFIX, say};
use crate::sidecar::Sidecar;

/// How long the fork may take to open its database and stand by, and then to be a primary: it waits at the
/// most for what its node has promised, and takes a lease.
const STEP_WAIT: Duration = Duration::from_secs(60);

/// How often it is looked whether a fork is still there.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a drill that has ended early waits for the checkpoint that it has asked for.
const FORK_WAIT: Duration = Duration::from_secs(5);

/// A rehearsal under way.
pub(super) struct Rehearsal<'a> {
    sidecar: &'a Sidecar,
    program: &'a Path,
    order: &'a DrillOrder,
    /// Until it is known: a node that was asked makes its checkpoint, whoever waits for it.
    forking: Option<JoinHandle<anyhow::Result<Fork>>>,
    fork: Option<Fork>,
    process: Option<Process>,
    seen: DrillSeen,
}

impl<'a> Rehearsal<'a> {
    pub(super) fn new(sidecar: &'a Sidecar, program: &'a Path, order: &'a DrillOrder) -> Self {
        let (forking, fork, process) = (None, None, None);
        Self { sidecar, program, order, forking, fork, process, seen: DrillSeen::default() }
    }

    /// Says where it is.
    fn at(&self, state: &str) {
        let state = DrillState {
            state: state.to_owned(),
            id: Some(self.order.id.clone()),
            reason: None,
            seen: self.seen,
        };
        say(self.sidecar, state);
    }

    /// All of it; an error says what would not have worked.
    pub(super) async fn play(&mut self) -> anyhow::Result<()> {
        let shard = &self.sidecar.shard;
        let outside = self.sidecar.service.view();
        let record = outside.record().context("the service has no record")?.clone();
        let role = outside.nodes.get(shard).map(|node| node.role);
        anyhow::ensure!(
            role == Some(Role::Standby),
            "its node is {role:?}, and a drill forks standbys"
        );

        self.at("checkpoint");
        let began = Instant::now();
        let client = self.sidecar.node.own_client().await?;
        let name = format!("{PREFIX}{}", self.order.id.get(..12).unwrap_or(&self.order.id));
        let (of, whose) = (shard.clone(), self.sidecar.service.name().to_owned());
        let forking = async move { Fork::of(&of, &client, &name, &whose).await };
        let forking = self.forking.insert(tokio::spawn(forking));
        let forked = forking.await.context("the task that forks its node died");
        self.forking = None;
        let fork = forked??;
        self.seen.checkpoint_us = us(began.elapsed());
        self.seen.data_age_ms = UnixMs::now().0.saturating_sub(fork.stamp_ms);
        let fork = self.fork.insert(fork);
        // Others on this machine reach the loopback too.
        let password = format!("{:032x}", rand::random::<u128>());
        fork.close(&password).context("writing the fork's users")?;

        let registry = format!("file:{}", fork.dir.join("registry").display());
        let service = Service::open(topology::open(&registry)?, self.sidecar.service.name());
        let service = service.await.context("a registry of the fork's own")?;
        let alone = Record { phase: Phase::Steady, ..record };
        service.create_record(&alone).await?;
        let began = Instant::now();
        let memory = Size(self.order.memory_bytes).to_string();
        let args = fork.arguments(&registry, service.name(), &memory);
        let log = fork.log.clone();
        self.process = Some(Process::start(self.program, &args, &log)?);
        self.at("opening");
        let standby = self.fork_is(service.watch(), &log, |_, node| {
            node.role == Role::Standby && !node.applied.is_empty()
        });
        let standby = standby.await.context("its fork does not stand by")?;
        self.seen.open_us = us(began.elapsed());

        self.at("promoting");
        let began = Instant::now();
        let promoted = promotion(&alone, &standby)?;
        let (_, revision) = service.read_record().await?.context("the fork's record is gone")?;
        let swapped = service.swap_record(revision, &promoted).await?;
        anyhow::ensure!(swapped != Outcome::Conflict, "somebody else changed the fork's record");
        let primary = self.fork_is(service.watch(), &log, |view, node| {
            let leased = view.leases.get(&node.shard).is_some_and(|l| l.epoch == promoted.epoch);
            node.role == Role::Primary && leased
        });
        let primary = primary.await.context("its fork does not take over")?;
        self.seen.promote_us = us(began.elapsed());

        self.at("writing");
        let slots = alone.slots_of(shard).context("the record has no such shard")?;
        let flight = canary::fly(&primary.client, slots, Some(&password)).await;
        let flight = flight.context("writing and reading in its fork")?;
        (self.seen.keys, self.seen.canary_us) = (flight.keys, us(flight.took));
        Ok(())
    }

    /// The fork as its registry shows it, once it is so.
    async fn fork_is(
        &mut self,
        mut inside: watch::Receiver<Arc<ServiceView>>,
        log: &Path,
        so: impl Fn(&ServiceView, &NodeMember) -> bool,
    ) -> anyhow::Result<NodeMember> {
        let process = self.process.as_mut().context("no fork was started")?;
        let shard = &self.sidecar.shard;
        let looked = async {
            loop {
                let view = inside.borrow_and_update().clone();
                if let Some(node) = view.nodes.get(shard).filter(|node| so(&view, node)) {
                    return Ok(node.clone());
                }
                inside.changed().await.context("its registry is not watched any more")?;
            }
        };
        let dir = log.with_file_name("db");
        let removed = async {
            while dir.exists() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let why = tokio::select! {
            found = looked => return found,
            () = process.ended() => "it has ended".to_owned(),
            () = removed => "its files were removed, as a node does with those of drills that it finds when it starts".to_owned(),
            () = tokio::time::sleep(STEP_WAIT) => format!("nothing came of it within {STEP_WAIT:?}"),
        };
        let said = process::last_line(log);
        anyhow::bail!("{why}; its last words: {}", said.as_deref().unwrap_or("none"))
    }

    /// Takes all of it away; what was seen, and what is left.
    pub(super) async fn end(mut self) -> (DrillSeen, Option<String>) {
        let mut left = Vec::new();
        if let Some(forking) = self.forking.take() {
            match tokio::time::timeout(FORK_WAIT, forking).await {
                Ok(Ok(Ok(fork))) => self.fork = Some(fork),
                // There is none.
                Ok(_) => {}
                Err(_) => left.push("a checkpoint that its node still makes".to_owned()),
            }
        }
        if let Some(process) = self.process
            && let Err(why) = process.stop().await
        {
            left.push(why);
        }
        if let Some(Fork { dir, .. }) = self.fork
            && let Err(why) = std::fs::remove_dir_all(&dir)
        {
            left.push(format!("{} ({why})", dir.display()));
        }
        (self.seen, (!left.is_empty()).then(|| left.join(", ")))
    }
}

/// The record under which the fork is primary: as a failover would write it, with what it has applied.
fn promotion(alone: &Record, fork: &NodeMember) -> anyhow::Result<Record> {
    let freeze = FreezeId(rand::random());
    let left = |source: &topology::ShardName| {
        let at = fork.applied.get(&source.to_string());
        let at = at.with_context(|| format!("its fork has applied nothing of {source}"))?;
        anyhow::Ok(Left {
            epoch: alone.epoch.next(),
            freeze,
            source: source.clone(),
            target: fork.shard.clone(),
            at: at.position,
            end: None,
            rest: Default::default(),
        })
    };
    let forks = alone.sources_of(&fork.shard).iter().map(left).collect::<anyhow::Result<_>>()?;
    Ok(alone.committed(&fork.shard.cluster, forks))
}

fn us(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
