//! Having a running node take in a load.

use std::path::{Path, PathBuf};

use ::store::bucket::{Bucket, BucketAddress};
use ::store::load::{Load, LoadFile, MANIFEST, MANIFEST_BYTES_MAX};
use admin::{Client, Code, Error, Ingested, NodeArgs};
use anyhow::Context;
use keyspace::SlotSet;
use ops::exit::{Exit, Stop};
use tokio::task::JoinSet;

use super::bucket::{S3Args, Staged};

/// Files that are fetched at a time.
const FETCHES: usize = 4;

/// Has a running node take in its part of a load
#[derive(Clone, Debug, clap::Args)]
pub struct IngestArgs {
    /// The load: a directory on the node's machine, or `s3://bucket/prefix`
    #[arg(value_name = "LOAD")]
    pub load: BucketAddress,
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Link the files instead of copying them, where they are on the node's file system: nobody may
    /// change them any more
    #[arg(long)]
    pub link: bool,
    /// Where files of a bucket are fetched to, best on the node's file system; removed afterwards
    /// [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    pub staging: Option<PathBuf>,
    #[command(flatten)]
    s3: S3Args,
}

/// Has the node take it in, and waits.
pub async fn ingest(args: &IngestArgs) -> anyhow::Result<Ingested> {
    let node = args.node.connect().await?;
    let BucketAddress::Directory(path) = &args.load else {
        let staged = stage(args, &node).await?;
        return node.ingest(&staged.0, true).await.map_err(explain);
    };
    let found = path.canonicalize();
    let path = found.with_context(|| format!("there is no load at {}", path.display()))?;
    node.ingest(&path, args.link).await.map_err(explain)
}

/// Fetches what the node's slots need.
async fn stage(args: &IngestArgs, node: &Client) -> anyhow::Result<Staged> {
    let bucket = Bucket::open(&args.load, &args.s3.options())?;
    let manifest = bucket.get(MANIFEST, MANIFEST_BYTES_MAX).await?;
    let manifest = manifest.with_context(|| format!("there is no load at {}", args.load))?;
    let load = Load::parse(&manifest).map_err(|why| anyhow::anyhow!("{}: {why}", args.load))?;
    let slots = node.status().await?.slots;
    let staged = Staged::make(args.staging.as_deref(), &format!("godwit-load-{}", load.id))?;
    fetch(&bucket, &load, &slots, &staged.0).await?;
    std::fs::write(staged.0.join(MANIFEST), manifest).context("writing the manifest")?;
    Ok(staged)
}

async fn fetch(bucket: &Bucket, load: &Load, slots: &SlotSet, dir: &Path) -> anyhow::Result<()> {
    let mut wanted: Vec<LoadFile> = load.files_of(slots).cloned().collect();
    let mut running = JoinSet::new();
    let mut done = 0;
    let all: u64 = wanted.iter().map(|file| file.size).sum();
    loop {
        while running.len() < FETCHES
            && let Some(file) = wanted.pop()
        {
            let (bucket, to) = (bucket.clone(), dir.join(file.name.as_str()));
            running.spawn(async move {
                bucket.fetch(file.name.as_str(), file.size, &to).await.map(|()| file.size)
            });
        }
        match running.join_next().await {
            Some(fetched) => {
                done += fetched??;
                tracing::info!(done, all, "bytes fetched");
            }
            None => return Ok(()),
        }
    }
}

fn explain(why: Error) -> anyhow::Error {
    let exit = match &why {
        Error::Refused { code: Code::Role | Code::Busy, .. } => Exit::Refused,
        Error::Refused { code: Code::Io, .. } | Error::Lost { .. } => Exit::Unknown,
        _ => return why.into(),
    };
    let again = match exit {
        Exit::Unknown => "; run it again: what is there already is not taken in twice",
        _ => "",
    };
    Stop::new(exit, format!("{why}{again}")).into()
}
