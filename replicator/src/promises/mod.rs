//! Promises on their way between nodes, for the time that the registry is silent (`docs/fencing.md`): nodes
//! have no road to each other but their sidecars.
//!
//! [`keep_asking`] asks our node, while it is a primary, what it wants, and carries that to the sidecars of
//! all that it names, each on a [`Road`](road) of its own beside the stream: a promise waits behind no frame,
//! and for no seed. [`answer`] is the other end. Nothing is decided here: both nodes do that.

mod answer;
mod road;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use admin::PromiseWish;
use futures_util::future::join_all;
use topology::{ServiceView, ShardName};

use crate::sidecar::Sidecar;
pub(crate) use answer::serve;
use road::Road;

/// The node is asked so many times in a lease whether it wants promises.
const LOOKS: u32 = 10;
/// But not more often than this, and not less.
const LOOK_MIN: Duration = Duration::from_millis(20);
const LOOK_MAX: Duration = Duration::from_secs(1);
/// The part of a lease within which promises must have been given: the node asks when half of it is left.
const WITHIN: u32 = 3;

/// Has promises given to our node when it wants any, until shutdown.
pub async fn keep_asking(sidecar: Arc<Sidecar>) {
    let mut roads: BTreeMap<ShardName, Road> = BTreeMap::new();
    let mut node = None;
    let mut said = Said::default();
    loop {
        let view = sidecar.service.view();
        let led = view.record().filter(|record| record.is_primary(&sidecar.shard));
        let lease = led.map_or(LOOK_MAX, |record| Duration::from_millis(record.lease_ms));
        keep_roads(&sidecar, &mut roads, &view);
        if led.is_some() && !roads.is_empty() {
            let round = round(&sidecar, &mut node, &roads, lease);
            match tokio::time::timeout(lease, round).await {
                Ok(Ok(outcome)) => said.is(outcome),
                Ok(Err(why)) => {
                    tracing::debug!("promises: {why}");
                    node = None;
                }
                Err(_) => node = None,
            }
        }
        tokio::select! {
            () = tokio::time::sleep((lease / LOOKS).clamp(LOOK_MIN, LOOK_MAX)) => {}
            () = sidecar.shutdown.cancelled() => return,
        }
    }
}

/// A road to each follower whose node gives promises; one that there is stays while the record may be old.
fn keep_roads(sidecar: &Arc<Sidecar>, roads: &mut BTreeMap<ShardName, Road>, view: &ServiceView) {
    let Some(record) = view.record() else { return };
    let followers = match record.is_primary(&sidecar.shard) {
        true => record.followers_of(&sidecar.shard),
        false => Vec::new(),
    };
    roads.retain(|shard, _| followers.contains(shard));
    for follower in followers {
        let knows = view.nodes.get(&follower).is_some_and(|node| node.promises.is_some());
        let address = view.sidecars.get(&follower).map(|peer| peer.stream.clone());
        match (roads.get(&follower), address) {
            (Some(road), Some(address)) => road.leads_to(address),
            (None, Some(address)) if knows => {
                let road = Road::open(sidecar.clone(), follower.clone(), address);
                roads.insert(follower, road);
            }
            _ => {}
        }
    }
}

/// Asks the node once, and those that it names; who has promised and who has not. `None`: nothing is wanted.
async fn round(
    sidecar: &Sidecar,
    node: &mut Option<admin::Client>,
    roads: &BTreeMap<ShardName, Road>,
    lease: Duration,
) -> Result<Option<BTreeMap<ShardName, String>>, admin::Error> {
    let client = match node.as_ref().filter(|client| !client.is_closed()) {
        Some(client) => client.clone(),
        None => node.insert(sidecar.node.own_client().await?).clone(),
    };
    let Some(wish) = client.promise_wanted().await? else { return Ok(None) };
    let refused = ask_all(&wish, roads, lease / WITHIN).await;
    if refused.is_empty() {
        client.promise_have(wish.id, wish.of).await?;
    }
    Ok(Some(refused))
}

/// Asks all at once; who has not promised, and why.
async fn ask_all(
    wish: &PromiseWish,
    roads: &BTreeMap<ShardName, Road>,
    within: Duration,
) -> BTreeMap<ShardName, String> {
    let asks = wish.of.iter().map(|shard| async move {
        let road = roads.get(shard).ok_or("there is no way to it: its sidecar or its node was not in the registry, or is of a version that gives none");
        let answer = match road {
            Ok(road) => road.ask(wish, within).await,
            Err(why) => Err(why.to_owned()),
        };
        (shard.clone(), answer)
    });
    let answers = join_all(asks).await;
    answers.into_iter().filter_map(|(shard, answer)| Some((shard, answer.err()?))).collect()
}

/// What was last said in the log, so that it is said once.
#[derive(Default)]
struct Said {
    wanted: bool,
    refused: BTreeSet<ShardName>,
}

impl Said {
    fn is(&mut self, outcome: Option<BTreeMap<ShardName, String>>) {
        let wanted = outcome.is_some();
        let refused = outcome.unwrap_or_default();
        for (shard, why) in refused.iter().filter(|(shard, _)| !self.refused.contains(*shard)) {
            tracing::warn!(
                follower = %shard,
                "the registry is silent to our node, and this one does not promise to let it write on: {why}"
            );
        }
        if wanted && refused.is_empty() && !self.refused.is_empty() {
            tracing::info!("all that our node must ask have promised to let it write on");
        }
        if self.wanted && !wanted {
            tracing::debug!("our node wants no promises any more");
        }
        (self.wanted, self.refused) = (wanted, refused.into_keys().collect());
    }
}
