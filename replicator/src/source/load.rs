//! A load that our node took in, on its way to a follower: its files go ahead of the batch that takes
//! it in, so that whoever has staged the batch has the files.

use std::path::PathBuf;

use ::store::load::Load;
use admin::Intent;
use keyspace::SlotSet;
use ops::tls::Socket;
use stream::message::{Incoming, LoadBegin};
use stream::{Message, Reader, WireError, Writer};
use tokio::io::{ReadHalf, WriteHalf};

use super::files::Files;
use super::session::SessionError;
use crate::sidecar::Sidecar;

/// How long the target may take to see what it has of the files.
const HAVE_WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

/// Sends what the follower's slots need of the load and what it has not got yet. What it says beside
/// that goes to `hear`.
pub(super) async fn send(
    sidecar: &Sidecar,
    reader: &mut Reader<ReadHalf<Socket>>,
    writer: &mut Writer<WriteHalf<Socket>>,
    intent: &Intent,
    keep: &SlotSet,
    hear: &mut impl FnMut(Message) -> Result<(), WireError>,
) -> Result<(), SessionError> {
    let dir: PathBuf =
        [sidecar.spool.node_dir(), Intent::DIR.as_ref(), intent.dir.as_ref()].iter().collect();
    let load = Load::read(&dir).ok().filter(|load| load.id.0 == intent.marker());
    let load = load.ok_or_else(|| {
        SessionError::LoadGone(format!(
            "the log goes on with load {}, and its files are not in {} any more: the follower must be seeded",
            intent.id,
            dir.display()
        ))
    })?;
    let slots = intent.slots.intersection(keep);
    let files: Vec<_> = load.files_of(&slots).collect();
    let begin = LoadBegin { id: load.id.0, manifest: load.to_bytes(), slots: slots.clone() };
    tracing::info!(load = intent.id, files = files.len(), "sending a load");
    writer.message(&Message::LoadBegin(begin)).await?;
    reader.set_deadline(HAVE_WITHIN);
    let have = loop {
        match reader.incoming().await? {
            Incoming::Message(Message::LoadHave { id, have })
                if id == load.id.0 && have.len() == files.len() =>
            {
                break have;
            }
            Incoming::Message(message) => hear(message)?,
            got => {
                let want = "LoadHave, a number for each file";
                return Err(WireError::Unexpected { got: got.name(), want }.into());
            }
        }
    };
    reader.set_deadline(sidecar.config.link.peer_timeout);
    let sent = |bytes| {
        sidecar.metrics.seed_bytes.inc_by(bytes);
    };
    let mut sending = Files { writer, credit: None, sent: &sent };
    for (index, (file, have)) in (0u32..).zip(files.iter().zip(have)) {
        let path = dir.join(file.name.as_str());
        sending.send(index, &path, have.min(file.size), file.size).await?;
    }
    writer.message(&Message::LoadEnd { id: load.id.0 }).await?;
    Ok(())
}
