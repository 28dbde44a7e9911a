//! Having a running node take in a load.

use std::path::PathBuf;

use admin::{Code, Error, Ingested};
use anyhow::Context;
use ops::exit::{Exit, Stop};

/// Has a running node take in its part of a load
#[derive(Clone, Debug, clap::Args)]
pub struct IngestArgs {
    /// The directory of the load, on the node's machine
    #[arg(value_name = "LOAD")]
    pub load: PathBuf,
    /// The node's admin listener: `unix:/path` or a loopback HOST:PORT
    #[arg(long, env = "GODWIT_ADMIN", value_name = "ADDRESS")]
    pub admin: String,
    /// Link the files instead of copying them, where they are on the node's file system: nobody may
    /// change them any more
    #[arg(long)]
    pub link: bool,
}

/// Has the node take it in, and waits.
pub async fn ingest(args: &IngestArgs) -> anyhow::Result<Ingested> {
    let path = args.load.canonicalize();
    let path = path.with_context(|| format!("there is no load at {}", args.load.display()))?;
    let node = admin::Client::connect(&args.admin).await?;
    node.ingest(&path, args.link).await.map_err(explain)
}

fn explain(why: Error) -> anyhow::Error {
    let exit = match &why {
        Error::Refused { code: Code::Role | Code::Busy, .. } => Exit::Refused,
        Error::Refused { code: Code::Io, .. } | Error::Lost { .. } => Exit::Unknown,
        _ => return why.into(),
    };
    let again = if exit == Exit::Unknown {
        "; run it again: what is there already is not taken in twice"
    } else {
        ""
    };
    Stop::new(exit, format!("{why}{again}")).into()
}
