//! Which repository a verb is about, and which of its snapshots.

use std::path::PathBuf;

use anyhow::Context;
use ops::exit::{Exit, Stop};
use ops::units::Size;
use store::SnapshotId;
use store::bucket::{Bucket, BucketAddress, S3Options};
use store::repository::{Keys, Repository, Snapshot, Snapshots};

use crate::cli::Output;

/// Where snapshots are, and how to get there.
#[derive(clap::Args, Clone, Debug)]
pub struct FromArgs {
    /// The repository: a directory, or s3://bucket/prefix; AWS_* name keys, region and endpoint
    #[arg(long, value_name = "URL")]
    pub from: BucketAddress,
    /// The URL of an S3 store that is not Amazon's
    #[arg(long, env = "GODWIT_ENDPOINT", value_name = "URL")]
    endpoint: Option<String>,
    /// The region of the bucket
    #[arg(long, env = "GODWIT_REGION", value_name = "NAME")]
    region: Option<String>,
    /// The keys of an encrypted repository
    #[arg(long, env = "GODWIT_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Bytes a second that are read from it [default: no bound]
    #[arg(long, env = "GODWIT_BANDWIDTH", value_name = "SIZE")]
    bandwidth: Option<Size>,
    /// What the answer looks like
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

impl FromArgs {
    /// Opens the repository.
    ///
    /// # Errors
    /// There is none, or it cannot be read with these keys.
    pub async fn repository(&self) -> anyhow::Result<Repository> {
        let mut options = S3Options::from_env();
        if let Some(endpoint) = &self.endpoint {
            options.endpoint = Some(endpoint.clone());
            options.path_style = true;
        }
        options.region = self.region.clone().or(options.region);
        let keys = self.key_file.as_deref().map_or_else(|| Ok(Keys::none()), Keys::read)?;
        let bucket = Bucket::open(&self.from, &options)?;
        let bucket = bucket.reading_at(self.bandwidth.map(|size| size.0));
        let opened = Repository::open(bucket, keys).await;
        opened.with_context(|| {
            format!("opening the repository {} (the first `push` makes one)", self.from)
        })
    }

    /// Opens its list of snapshots.
    ///
    /// # Errors
    /// As [`FromArgs::repository`]; or the list is damaged.
    pub async fn snapshots(&self) -> anyhow::Result<Snapshots> {
        let repository = self.repository().await?;
        let opened = Snapshots::open(&repository).await;
        opened.with_context(|| format!("reading which snapshots {} holds", self.from))
    }

    /// Opens its list of snapshots, whose blobs are to be read.
    ///
    /// # Errors
    /// As [`FromArgs::snapshots`]; or refused: these keys only write.
    pub async fn readable(&self) -> anyhow::Result<Snapshots> {
        let snapshots = self.snapshots().await?;
        let repository = snapshots.repository();
        if repository.header().encrypted && !repository.keys().can_read() {
            let why = "the repository is encrypted, and the key file holds no private key: it only writes. Name the whole key file (--key-file); nothing was changed";
            return Err(Stop::new(Exit::Refused, why).into());
        }
        Ok(snapshots)
    }

    /// The snapshot of that id, or the newest one.
    ///
    /// # Errors
    /// There is none: refused.
    pub fn choose(
        &self,
        snapshots: &Snapshots,
        id: Option<&SnapshotId>,
    ) -> anyhow::Result<Snapshot> {
        let none = |why: String| Stop::new(Exit::Refused, format!("{why}; nothing was changed"));
        let Some(id) = id else {
            let newest = snapshots.list().next_back().map(|(newest, _)| newest.clone());
            let why =
                || none(format!("there is no sealed snapshot in {}: `push` makes one", self.from));
            return Ok(newest.ok_or_else(why)?);
        };
        match snapshots.get(id) {
            Ok((snapshot, _)) => Ok(snapshot.clone()),
            Err(_) => Err(none(format!(
                "there is no sealed snapshot `{id}` in {}: `godwit-snapshotter list` shows those that are",
                self.from
            ))
            .into()),
        }
    }
}
