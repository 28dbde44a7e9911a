//! Exports: a checkpoint of the node, or its log since the last snapshot, sent to a snapshotter.
//!
//! The node makes the checkpoint (hard links: no bytes are copied), the sidecar reads, hashes and sends
//! pieces of its files, and the checkpoint is removed at the end, whatever the end was. Hashes of table
//! files are remembered ([`remember`]), and the log after a snapshot is kept ([`last`]), so that the next
//! one is either new files or the log, whichever is less. One export at a time, read at a bounded rate, so
//! that a snapshot is not felt by the node's clients.
//!
//! What is said on the wire is in [`stream::export`], step by step in [`session`].

mod files;
mod last;
mod log;
mod pace;
mod pack;
mod pieces;
mod remember;
mod session;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stream::export::{Arrived, Export, Open};
use stream::{Connection, Hello, Purpose, Reader, Versions, WireError, Writer};
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::sync::Semaphore;
use topology::ShardName;
use topology::members::Role;

pub use last::{Keeping, is_ours};

use crate::spool::Spool;
use last::Lasts;
use session::Session;

/// How many bytes a second an export reads of its node's disk, if nothing else is said.
pub const RATE_DEFAULT: u64 = 256 << 20;
/// Log files that are kept for the next snapshot, if nothing else is said.
pub const KEEPING_DEFAULT: Keeping =
    Keeping { bytes: 8 << 30, age: std::time::Duration::from_secs(48 * 3600) };
/// Checkpoints with names that begin so are exports': one that no export holds was left behind.
const PREFIX: &str = "export-";

/// What an export needs to know of the sidecar it runs in. Clones share the place.
#[derive(Clone, Debug)]
pub struct Context {
    service: String,
    shard: ShardName,
    node_dir: PathBuf,
    node_admin: String,
    rate: u64,
    spool: Spool,
    lasts: Lasts,
    /// The one export that may run.
    place: Arc<Semaphore>,
    sent: Arc<AtomicU64>,
}

/// Why an export ended early. The node's data is untouched, and so is every sealed snapshot.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The snapshotter is gone, or does not keep to the protocol.
    #[error("the snapshotter: {0}")]
    Wire(#[from] WireError),
    /// The node did not make or drop a checkpoint.
    #[error(transparent)]
    Node(#[from] admin::Error),
    /// A file of the checkpoint could not be read.
    #[error(
        "the checkpoint's {path} cannot be read: {why}; is the sidecar on the node's machine, on the same mount, as the same user?"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// What happened.
        why: String,
    },
    /// What was asked for cannot be had.
    #[error("{0}")]
    Refused(String),
}

/// What an export came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exported {
    /// What each way would take was asked, and no more: nothing was begun.
    Asked,
    /// All of it.
    Sent {
        /// Whether it was the log alone.
        log: bool,
        /// Packed bytes.
        bytes: u64,
    },
}

impl Context {
    /// Exports of this shard, whose node is controlled at `node_admin` and whose log is in `spool`;
    /// `rate` is how many bytes a second may be read, `keeping` what is kept of the log for the next one.
    pub fn new(
        service: &str,
        shard: &ShardName,
        node_admin: &str,
        rate: u64,
        spool: &Spool,
        keeping: Keeping,
    ) -> Self {
        Self {
            service: service.to_owned(),
            shard: shard.clone(),
            node_dir: spool.node_dir().to_owned(),
            node_admin: node_admin.to_owned(),
            rate: rate.max(1),
            spool: spool.clone(),
            lasts: Lasts::open(spool, keeping),
            place: Arc::new(Semaphore::new(1)),
            sent: Arc::default(),
        }
    }

    /// Compressed bytes that all exports have sent.
    pub fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// Serves one connection whose first message, `hello`, asked for an export.
///
/// # Errors
/// The export ended early; the snapshotter was told why if it still listens.
pub async fn serve<S>(
    conn: Connection<S>,
    hello: &Hello,
    ctx: &Context,
) -> Result<Exported, ExportError>
where
    S: AsyncRead + AsyncWrite + Send,
{
    let Connection { mut reader, mut writer } = conn;
    reader.set_deadline(stream::export::SILENCE_MAX);
    writer.set_deadline(stream::export::SILENCE_MAX);
    let result = admitted(&mut reader, &mut writer, hello, ctx).await;
    if let Err(error) = &result
        && !matches!(error, ExportError::Wire(_))
    {
        let refusal = Export::Refusal { sentence: error.to_string() };
        // It may be gone; the error that is returned says what happened.
        let _ = stream::export::send(&mut writer, &refusal).await;
    }
    writer.close().await;
    result
}

async fn admitted<S>(
    reader: &mut Reader<ReadHalf<S>>,
    writer: &mut Writer<WriteHalf<S>>,
    hello: &Hello,
    ctx: &Context,
) -> Result<Exported, ExportError>
where
    S: AsyncRead + AsyncWrite + Send,
{
    check_hello(hello, ctx)?;
    let open = match stream::export::next(reader).await? {
        Arrived::Message(Export::Open(open)) => *open,
        other => return Err(other.unexpected("Open").into()),
    };
    let Ok(_place) = ctx.place.try_acquire() else {
        return Err(ExportError::Refused(format!(
            "a snapshot of {} is being taken already: try again when it is done",
            ctx.shard
        )));
    };
    let name = checkpoint_name(&open)?;
    let node = admin::Client::connect(&ctx.node_admin).await?;
    drop_left_behind(&node, &ctx.node_dir).await?;
    let mut session = Session::new(reader, writer, ctx, &node, &open, &name);
    let result = session.run().await;
    if session.holds_checkpoint() {
        let dropped = drop_checkpoint(&node, ctx, &name).await;
        let exported = result?;
        dropped?;
        return Ok(exported);
    }
    result
}

fn checkpoint_name(open: &Open) -> Result<String, ExportError> {
    let name = format!("{PREFIX}{}", open.snapshot);
    let repository =
        open.repository.len() == 32 && open.repository.bytes().all(|byte| byte.is_ascii_hexdigit());
    if topology::record::is_name(&name) && repository {
        return Ok(name);
    }
    Err(ExportError::Refused(format!(
        "`{}` is no id of a snapshot, or its repository's is none: letters, digits, `-` and `_`, at most {} of them",
        open.snapshot.chars().take(80).collect::<String>().escape_debug(),
        63 - PREFIX.len(),
    )))
}

fn check_hello(hello: &Hello, ctx: &Context) -> Result<(), ExportError> {
    let refuse = |why: String| Err(ExportError::Refused(why));
    if hello.purpose != Purpose::Export {
        return refuse("this is no export".to_owned());
    }
    if let Err(why) = Versions::OURS.agree(hello.versions) {
        return refuse(why);
    }
    if hello.service != ctx.service {
        return refuse(format!(
            "this sidecar belongs to service `{}`, not to `{}`",
            ctx.service, hello.service
        ));
    }
    if hello.to != ctx.shard.to_string() {
        return refuse(format!(
            "this is the sidecar of {}, not of {}: its address in the registry is old",
            ctx.shard, hello.to
        ));
    }
    Ok(())
}

/// A snapshot of a node that is being filled, or that never was, would look well and restore to
/// nothing that ever stood on a primary.
fn refuse_half_filled(status: &admin::Status, shard: &ShardName) -> Result<(), ExportError> {
    let why = match status.role {
        Role::Seeding => "is being seeded",
        Role::Rewinding => "is rewinding",
        Role::Standby if status.applied.is_empty() && status.own_end.is_none() => {
            "has not been seeded yet"
        }
        _ => return Ok(()),
    };
    Err(ExportError::Refused(format!(
        "the node of {shard} {why}, so there is no whole past of the primary to store: try again when `godwit-switchover status` shows it streaming, or push the active cluster"
    )))
}

/// Removes the checkpoint over a new connection if the old one is gone: a node that was restarted
/// meanwhile still has it.
async fn drop_checkpoint(
    node: &admin::Client,
    ctx: &Context,
    name: &str,
) -> Result<(), admin::Error> {
    if node.is_closed() {
        return admin::Client::connect(&ctx.node_admin).await?.drop_checkpoint(name).await;
    }
    node.drop_checkpoint(name).await
}

/// Removes checkpoints of exports whose sidecar died. The caller holds the place, so none is in use.
async fn drop_left_behind(node: &admin::Client, node_dir: &Path) -> Result<(), ExportError> {
    // No such directory: no checkpoint was made yet.
    let Ok(entries) = std::fs::read_dir(node_dir.join("checkpoints")) else { return Ok(()) };
    for entry in entries.flatten() {
        if let Some(name) = entry.file_name().to_str().filter(|name| name.starts_with(PREFIX)) {
            tracing::info!(checkpoint = name, "removing what an interrupted snapshot left behind");
            node.drop_checkpoint(name).await?;
        }
    }
    Ok(())
}
