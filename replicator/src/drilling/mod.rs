//! Drills: while the registry's key `drill` asks for one of this cluster, the node is forked beside itself,
//! the fork is promoted alone, somebody writes and reads there, and all of it is taken away.
//!
//! Whoever asks renews that key; when it is gone, so is the drill. What this sidecar could not take away
//! because it was killed, its next start does. The node is asked for a checkpoint and for nothing else.

mod rehearsal;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use topology::ServiceView;
use topology::members::{DrillOrder, DrillState};

use crate::sidecar::Sidecar;
use rehearsal::Rehearsal;

/// What the names of checkpoints begin with that are for a sidecar's drill: the node knows them by `drill-`,
/// and one of the tool's own on this machine has another.
const PREFIX: &str = "drill-sidecar-";
/// How long what a dead drill left may take to go: a process that was killed needs a moment.
const CLEAR_WITHIN: Duration = Duration::from_secs(20);
const CLEAR_AGAIN: Duration = Duration::from_millis(100);

/// Clears away what was left, and rehearses whenever that is asked for, until shutdown.
pub(crate) async fn keep_drilling(sidecar: Arc<Sidecar>) {
    clear(&sidecar).await;
    let Some(program) = sidecar.config.drill_node.clone() else { return };
    let mut view = sidecar.service.watch();
    let mut last: Option<String> = None;
    say(&sidecar, able(&program));
    loop {
        let order = asked(&view.borrow_and_update(), &sidecar);
        match order {
            Some(order) if last.as_ref() != Some(&order.id) => {
                last = Some(order.id.clone());
                rehearse(&sidecar, &program, &order, view.clone()).await;
                continue;
            }
            Some(_) => {}
            None => {
                last = None;
                say(&sidecar, able(&program));
            }
        }
        tokio::select! {
            changed = view.changed() => if changed.is_err() { return },
            () = sidecar.shutdown.cancelled() => return,
        }
    }
}

/// What is asked for of this sidecar.
fn asked(view: &ServiceView, sidecar: &Sidecar) -> Option<DrillOrder> {
    view.drill.clone().filter(|order| order.to == sidecar.shard.cluster)
}

fn say(sidecar: &Sidecar, state: DrillState) {
    sidecar.board.note(|notes| notes.drill = Some(state));
}

/// Whether it could do one.
fn able(program: &Path) -> DrillState {
    let there = program.is_file();
    let reason =
        || format!("--drill-node names {}, which is no file on its machine", program.display());
    DrillState {
        state: if there { "able" } else { "unable" }.to_owned(),
        reason: (!there).then(reason),
        ..DrillState::default()
    }
}

async fn rehearse(
    sidecar: &Sidecar,
    program: &Path,
    order: &DrillOrder,
    mut view: watch::Receiver<Arc<ServiceView>>,
) {
    tracing::info!(id = order.id, by = %order.by, "a drill begins");
    let withdrawn = async {
        let same = |view: &Arc<ServiceView>| {
            asked(view, sidecar).is_some_and(|asked| asked.id == order.id)
        };
        while same(&view.borrow_and_update()) {
            if view.changed().await.is_err() {
                return;
            }
        }
    };
    let mut rehearsal = Rehearsal::new(sidecar, program, order);
    let played = tokio::select! {
        played = Box::pin(rehearsal.play()) => played,
        () = withdrawn => Err(anyhow::anyhow!("who asked for it asks no more")),
        () = sidecar.shutdown.cancelled() => Err(anyhow::anyhow!("the sidecar ends")),
    };
    let (seen, left) = rehearsal.end().await;
    let failed = played.err().map(|why| format!("{why:#}")).into_iter();
    let left = left.map(|left| format!("this is left, and goes when the sidecar starts: {left}"));
    let reason = failed.chain(left).collect::<Vec<_>>().join("; ");
    match reason.is_empty() {
        true => tracing::info!(id = order.id, ?seen, "the drill is through"),
        false => tracing::warn!(id = order.id, "the drill failed: {reason}"),
    }
    say(
        sidecar,
        DrillState {
            state: if reason.is_empty() { "done" } else { "failed" }.to_owned(),
            id: Some(order.id.clone()),
            reason: (!reason.is_empty()).then_some(reason),
            seen,
        },
    );
}

/// Removes what drills of this sidecar have left that was killed.
async fn clear(sidecar: &Sidecar) {
    let checkpoints = sidecar.config.node_dir.join("checkpoints");
    let deadline = tokio::time::Instant::now() + CLEAR_WITHIN;
    loop {
        let left = ::drill::leftovers::clear(&checkpoints, PREFIX);
        if left.is_empty() {
            return;
        }
        if tokio::time::Instant::now() >= deadline {
            for left in left {
                tracing::error!(
                    "a dead drill has left this, and it cannot be removed: {left}; remove it"
                );
            }
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(CLEAR_AGAIN) => {}
            () = sidecar.shutdown.cancelled() => return,
        }
    }
}
