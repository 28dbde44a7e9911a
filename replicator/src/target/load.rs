//! A load of a source, received before the batch that takes it in: the files lie in the node's
//! directory, whole and on disk, before that batch is staged.

use std::path::{Path, PathBuf};

use ::store::load::{Load, MANIFEST};
use admin::{Intent, Part};
use ops::tls::Socket;
use stream::message::{Incoming, LoadBegin};
use stream::{Message, Reader, WireError};
use tokio::fs::{self, File};
use tokio::io::{AsyncWriteExt, ReadHalf};
use tokio::sync::watch;
use topology::ShardName;

use super::seed::{disk, receive_file};
use super::session::{Asides, SessionError};
use crate::sidecar::Sidecar;

/// What is here already of a load's files.
#[derive(Clone, Debug)]
pub(super) struct Having {
    pub(super) id: u128,
    pub(super) have: Vec<u64>,
}

/// Receives the files that `begin` announces. What is here is said through `asides`.
pub(super) async fn receive(
    reader: &mut Reader<ReadHalf<Socket>>,
    begin: LoadBegin,
    source: &ShardName,
    sidecar: &Sidecar,
    asides: &watch::Sender<Asides>,
) -> Result<(), SessionError> {
    let LoadBegin { id, manifest, slots } = begin;
    let load = Load::parse(&manifest).ok().filter(|load| load.id.0 == id);
    let load = load.ok_or_else(|| {
        SessionError::Refused(format!(
            "the manifest of load {id:032x} is damaged, or of another version"
        ))
    })?;
    let dir = sidecar.spool.node_dir().join(Intent::received(source, &load.id.to_string()));
    fs::create_dir_all(&dir).await.map_err(disk(&dir))?;
    let files: Vec<_> = load.files_of(&slots).collect();
    let mut have = Vec::with_capacity(files.len());
    for file in &files {
        let path = dir.join(file.name.as_str());
        let len = fs::metadata(&path).await.map(|m| m.len()).unwrap_or(0);
        if len > file.size {
            fs::remove_file(&path).await.map_err(disk(&path))?;
        }
        have.push(if len > file.size { 0 } else { len });
    }
    tracing::info!(%source, load = %load.id, files = files.len(), "receiving a load");
    asides.send_modify(|asides| asides.having = Some(Having { id, have }));
    for (index, file) in (0u32..).zip(&files) {
        let path = dir.join(file.name.as_str());
        let hash = receive_file(reader, index, &path, file.size, None).await?;
        if hash != file.blake3.0 {
            fs::remove_file(&path).await.map_err(disk(&path))?;
            return Err(SessionError::Refused(format!(
                "{} of load {} is not the file that its manifest names: it is damaged at the source",
                file.name, load.id
            )));
        }
    }
    match reader.message().await? {
        Message::LoadEnd { id: of } if of == id => {}
        got => {
            let got = Incoming::Message(got).name();
            return Err(WireError::Unexpected { got, want: "LoadEnd" }.into());
        }
    }
    let part = serde_json::to_vec(&Part { slots })
        .map_err(|error| SessionError::Refused(error.to_string()))?;
    write(&dir.join(Intent::PART), &part).await?;
    write(&dir.join(MANIFEST), &manifest).await?;
    for dir in
        [Some(&*dir), dir.parent(), dir.parent().and_then(Path::parent)].into_iter().flatten()
    {
        let synced = async { File::open(dir).await?.sync_all().await };
        synced.await.map_err(disk(dir))?;
    }
    Ok(())
}

async fn write(path: &PathBuf, bytes: &[u8]) -> Result<(), SessionError> {
    let written = async {
        let mut file = File::create(path).await?;
        file.write_all(bytes).await?;
        file.sync_all().await
    };
    written.await.map_err(disk(path))
}
