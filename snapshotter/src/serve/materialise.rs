//! Beside the pushers: what was sealed is materialised, so that a standby's node has it within seconds.

use std::time::Duration;

use ops::metrics::{Counter, Gauge, Metrics};
use ops::progress::Progress;
use ops::shutdown::Shutdown;
use store::Repository;
use store::bucket::Bucket;
use store::repository::{Keys, Snapshots};
use tokio::sync::watch;
use topology::ShardName;

use crate::materialise::{Done, Pass, Place};

/// How often it is looked whether there is something new, also if nobody has pushed through this daemon.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What is to be materialised.
#[derive(Clone, Debug)]
pub struct MaterialiseConfig {
    /// How many of the newest snapshots of each cluster.
    pub keep: usize,
    /// Of these shards; of all if there is none.
    pub shards: Vec<ShardName>,
    /// Where they are.
    pub place: Place,
    /// Bytes that stay free there.
    pub free: u64,
}

/// What materialises.
pub(super) struct Materialiser {
    config: MaterialiseConfig,
    service: String,
    bucket: Bucket,
    there: Gauge,
    failed: Counter,
}

impl Materialiser {
    pub(super) fn new(
        config: MaterialiseConfig,
        service: &str,
        bucket: Bucket,
        metrics: &Metrics,
    ) -> Self {
        let there = "Shards of snapshots that a standby's node can have within seconds";
        let failed = "Passes over the repository that did not materialise what they should";
        Self {
            config,
            service: service.to_owned(),
            bucket,
            there: metrics.gauge("materialised_shards", there),
            failed: metrics.counter("materialise_failures", failed),
        }
    }

    /// Materialises what there is and what comes, until shutdown.
    pub(super) async fn run(self, mut seals: watch::Receiver<u64>, shutdown: Shutdown) {
        let mut said = String::new();
        loop {
            seals.borrow_and_update();
            // A directory that is half done is removed by the next pass.
            let pass = tokio::select! {
                pass = Box::pin(self.pass()) => pass,
                () = shutdown.cancelled() => return,
            };
            match pass {
                Ok(Some(done)) => {
                    said.clear();
                    self.there.set(i64::try_from(done.made.len()).unwrap_or(i64::MAX));
                    for made in done.made.iter().filter(|made| !made.already) {
                        tracing::info!("{}", made.text());
                    }
                }
                Ok(None) => said.clear(),
                Err(why) => {
                    self.failed.inc();
                    let why = format!("{why:#}");
                    if why != said {
                        tracing::error!(
                            "not materialised: {why}; pushes are taken in all the same, and what was materialised before is there still"
                        );
                        said = why;
                    }
                }
            }
            tokio::select! {
                changed = seals.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// `None`: nobody has pushed yet, so there is no repository.
    async fn pass(&self) -> anyhow::Result<Option<Done>> {
        if self.bucket.head(store::repository::header::NAME).await?.is_none() {
            return Ok(None);
        }
        let repository = match Repository::open(self.bucket.clone(), Keys::none()).await {
            Ok(repository) => repository,
            Err(why) => anyhow::bail!(
                "{why}; this daemon has no keys: if it is encrypted, run `godwit-snapshotter materialise --key-file FILE` where the keys are, and leave `materialise` out here"
            ),
        };
        let snapshots = Snapshots::open(&repository).await?;
        let progress = Progress::new("materialising");
        let pass = Pass {
            snapshots: &snapshots,
            place: &self.config.place,
            service: Some(&self.service),
            only: None,
            keep: self.config.keep,
            shards: &self.config.shards,
            free: self.config.free,
            progress: &progress,
        };
        pass.run().await.map(Some)
    }
}
