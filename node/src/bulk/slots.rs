//! Having a running node export or delete slots.

use std::path::PathBuf;

use ::store::bucket::{Bucket, BucketAddress};
use ::store::load::{Load, LoadFile, MANIFEST};
use admin::{Client, Code, Error, NodeArgs, SlotsDeleted, SlotsExported};
use anyhow::Context;
use keyspace::SlotSet;
use ops::exit::{Exit, Stop};
use tokio::task::JoinSet;

use super::bucket::{S3Args, Staged};

/// Files that are sent at a time.
const SENDS: usize = 4;

/// Has a running node write what is live in some slots, as of one position, into a load
#[derive(Clone, Debug, clap::Args)]
pub struct ExportArgs {
    /// Which slots: `0-8191`, `0-99,200`, `0-16383` for all
    #[arg(value_name = "SLOTS")]
    pub slots: SlotSet,
    /// Where to write the load: a directory on the node's machine that is not there yet, or
    /// `s3://bucket/prefix`
    #[arg(long, value_name = "LOAD")]
    pub out: BucketAddress,
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Where files for a bucket are written first; removed afterwards [default: the system's
    /// temporary directory]
    #[arg(long, value_name = "DIR")]
    pub staging: Option<PathBuf>,
    #[command(flatten)]
    s3: S3Args,
}

/// Has a running node delete all that is in some slots, at once
#[derive(Clone, Debug, clap::Args)]
pub struct DeleteArgs {
    /// Which slots: `0-8191`, `0-99,200`
    #[arg(value_name = "SLOTS")]
    pub slots: SlotSet,
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Delete slots that the node holds, which clients and followers have, too
    #[arg(long)]
    pub yes: bool,
}

/// Has the node export, and waits.
pub async fn export(args: &ExportArgs) -> anyhow::Result<SlotsExported> {
    let node = args.node.connect().await?;
    let BucketAddress::Directory(path) = &args.out else { return to_bucket(args, &node).await };
    let path = std::path::absolute(path).with_context(|| format!("{}", path.display()))?;
    node.dump_slots(&args.slots, &path).await.map_err(explain)
}

async fn to_bucket(args: &ExportArgs, node: &Client) -> anyhow::Result<SlotsExported> {
    let bucket = Bucket::open(&args.out, &args.s3.options())?;
    if bucket.head(MANIFEST).await?.is_some() {
        let why = format!("there is a load at {} already: choose another prefix", args.out);
        return Err(Stop::new(Exit::Refused, why).into());
    }
    let staged = Staged::make(args.staging.as_deref(), "godwit-export")?;
    let dir = staged.0.join("load");
    let exported = node.dump_slots(&args.slots, &dir).await.map_err(explain)?;
    let load = Load::read(&dir)?;
    let mut wanted: Vec<LoadFile> = load.files.clone();
    let mut running = JoinSet::new();
    let mut done = 0;
    loop {
        while running.len() < SENDS
            && let Some(file) = wanted.pop()
        {
            let (bucket, from) = (bucket.clone(), dir.join(file.name.as_str()));
            running.spawn(async move {
                bucket.put_file(file.name.as_str(), &from).await.map(|()| file.size)
            });
        }
        match running.join_next().await {
            Some(sent) => {
                done += sent??;
                tracing::info!(done, all = exported.bytes, "bytes sent");
            }
            None => break,
        }
    }
    // Without it the prefix is no load.
    bucket.put(MANIFEST, load.to_bytes()).await?;
    Ok(exported)
}

/// Has the node delete, and waits.
pub async fn delete(args: &DeleteArgs) -> anyhow::Result<SlotsDeleted> {
    let node = args.node.connect().await?;
    node.delete_slots(&args.slots, args.yes).await.map_err(explain)
}

fn explain(why: Error) -> anyhow::Error {
    let exit = match &why {
        Error::Refused { code: Code::Role | Code::Busy, .. } => Exit::Refused,
        Error::Refused { code: Code::Io, .. } | Error::Lost { .. } => Exit::Unknown,
        _ => return why.into(),
    };
    let again = match exit {
        Exit::Unknown => "; run it again: it does no harm twice",
        _ => "",
    };
    Stop::new(exit, format!("{why}{again}")).into()
}
