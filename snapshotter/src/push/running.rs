//! All shards of a push at once: none ends before all have begun, and all end at one cut.

use std::collections::BTreeMap;

use anyhow::Context;
use keyspace::Hlc;
use store::repository::Manifest;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::discover::Target;
use super::shard::{self, Common, Fetched, Fetching, Meeting};

/// A task for each shard. Dropping it ends them, and their sidecars drop their checkpoints.
pub(super) struct Running {
    tasks: JoinSet<anyhow::Result<(usize, Fetched, Fetching)>>,
    count: usize,
    begun: mpsc::Receiver<Option<Hlc>>,
    cut: watch::Sender<Option<Option<Hlc>>>,
    sealed: watch::Sender<bool>,
}

impl Running {
    pub(super) fn start(
        common: Common,
        targets: Vec<Target>,
        mut last: BTreeMap<String, Manifest>,
    ) -> Self {
        let count = targets.len();
        let (begins, begun) = mpsc::channel(count.max(1));
        let ((cut, sees_cut), (sealed, sees_sealed)) =
            (watch::channel(None), watch::channel(false));
        let meeting = Meeting { begun: begins, cut: sees_cut, sealed: sees_sealed };
        let mut tasks = JoinSet::new();
        for (n, target) in targets.into_iter().enumerate() {
            let (common, meeting) = (common.clone(), meeting.clone());
            let last = last.remove(&target.shard.to_string());
            tasks.spawn(async move {
                let fetched = Box::pin(shard::fetch(&common, &target, last.as_ref(), meeting));
                let fetched = fetched.await.with_context(|| {
                    format!("shard {}, whose sidecar is at {}", target.shard, target.address)
                });
                fetched.map(|(fetched, waiting)| (n, fetched, waiting))
            });
        }
        Self { tasks, count, begun, cut, sealed }
    }

    /// What came of all of them, by number; what waits for the seal, and who tells it.
    pub(super) async fn fetched(
        mut self,
    ) -> anyhow::Result<(Vec<Fetched>, Vec<Fetching>, watch::Sender<bool>)> {
        let (mut begun, mut done) = (Vec::new(), Vec::new());
        while done.len() < self.count {
            tokio::select! {
                // The first error drops the set, which ends the others.
                Some(ended) = self.tasks.join_next() => done.push(ended.context("a task died")??),
                Some(stamp) = self.begun.recv() => {
                    begun.push(stamp);
                    if begun.len() == self.count {
                        self.cut.send_replace(Some(cut(&begun)));
                    }
                }
            }
        }
        done.sort_by_key(|(n, ..)| *n);
        let (fetched, waiting) = done.into_iter().map(|(_, f, w)| (f, w)).unzip();
        Ok((fetched, waiting, self.sealed))
    }
}

/// The first stamp at which all can end; none if one of them cannot be cut.
fn cut(begun: &[Option<Hlc>]) -> Option<Hlc> {
    begun.iter().copied().collect::<Option<Vec<_>>>()?.into_iter().max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_end_where_the_last_one_has_begun_or_there_is_no_cut() {
        assert_eq!(cut(&[Some(Hlc(3)), Some(Hlc(7)), Some(Hlc(5))]), Some(Hlc(7)));
        assert_eq!(cut(&[Some(Hlc(3)), None]), None);
    }
}
