//! One shard: its checkpoint, from its sidecar into the store.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use ops::tls::{Mutual, PeerName, Socket};
use store::{FileEntry, FileName, Manifest, ObjectId, SnapshotId, Store};
use stream::export::{self, Arrived, Export, ExportManifest};
use stream::{Connection, Hello, Message, Purpose, Versions, names};
use tokio::net::TcpStream;

pub use super::discover::Target;
use crate::report::{PushedShard, Way};
use ops::progress::Progress;

/// How long to wait for the sidecar to take the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What came of a shard.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) manifest: Manifest,
    pub(crate) report: PushedShard,
}

/// Files of a checkpoint whose names and sizes were checked.
type Files = Vec<(FileName, u64, ObjectId)>;

/// Has the sidecar take a checkpoint, and fetches what the store has not.
pub(crate) async fn fetch(
    target: &Target,
    service: &str,
    id: &SnapshotId,
    store: &Store,
    progress: &Progress,
    tls: Option<&Mutual>,
) -> anyhow::Result<Fetched> {
    let mut conn = open(target, service, id, tls).await?;
    let announced = loop {
        match export::next(&mut conn.reader).await? {
            Arrived::Message(Export::Hashing { done, total }) => {
                tracing::debug!(shard = %target.shard, done, total, "the sidecar is hashing");
            }
            Arrived::Message(Export::Manifest(manifest)) => break *manifest,
            other => bail!("the sidecar sent {} where a manifest was expected", name(&other)),
        }
    };
    let files = check(&announced, target, service)?;
    let total = files.iter().map(|(_, size, _)| size).sum();

    // The first file of each content that the store lacks.
    let lacking = lacking(&mut conn, store, &files).await?;
    let mut wanted = BTreeMap::new();
    for (index, (_, size, hash)) in files.iter().enumerate().rev() {
        if lacking.contains_key(hash) {
            wanted.retain(|_, (_, other)| other != hash);
            wanted.insert(u32::try_from(index).context("too many files")?, (*size, *hash));
        }
    }
    progress.expect(wanted.values().map(|(size, _)| size).sum());
    let reused = files.iter().filter(|(_, _, hash)| !lacking.contains_key(hash)).count();
    export::send(&mut conn.writer, &Export::Want(wanted.keys().copied().collect())).await?;
    let bytes_sent = receive(&mut conn, store, &wanted, progress).await?;
    conn.writer.close().await;

    let entries = files.into_iter().map(|(name, size, blake3)| {
        let stored =
            store.stored_size(&blake3).with_context(|| format!("{name} is not in the store"))?;
        Ok(FileEntry { name, size, blake3, stored })
    });
    let manifest = Manifest {
        format: Manifest::FORMAT,
        service: announced.service,
        shard: announced.shard,
        slots: announced.slots,
        database: announced.database,
        position: announced.position,
        history: announced.history,
        stamp: announced.stamp,
        files: entries.collect::<anyhow::Result<_>>()?,
    };
    let report = PushedShard {
        shard: manifest.shard.clone(),
        way: if reused == 0 { Way::Full } else { Way::ObjectsReused },
        files: manifest.files.len(),
        reused,
        bytes_sent,
        bytes_total: total,
        position: manifest.position.to_string(),
    };
    Ok(Fetched { manifest, report })
}

async fn open(
    target: &Target,
    service: &str,
    id: &SnapshotId,
    tls: Option<&Mutual>,
) -> anyhow::Result<Connection<Socket>> {
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&target.address));
    let socket = connecting
        .await
        .map_err(|_| anyhow::anyhow!("no connection within {CONNECT_TIMEOUT:?}"))
        .and_then(|socket| socket.context("cannot be reached"))?;
    let socket = match tls {
        None => Socket::plain(socket),
        Some(tls) => {
            let shard = &target.shard;
            let name = names::of_shard(service, &shard.cluster, shard.shard);
            tls.connect(socket, &PeerName::new(&name)?, CONNECT_TIMEOUT).await?
        }
    };
    let mut conn = stream::split(socket);
    conn.reader.set_deadline(export::SILENCE_MAX);
    conn.writer.set_deadline(export::SILENCE_MAX);
    let hello = Hello {
        purpose: Purpose::Export,
        versions: Versions::OURS,
        service: service.to_owned(),
        from: format!("snapshotter {id}"),
        to: target.shard.to_string(),
        slots: target.slots.clone(),
        history: wal::History::default(),
        epoch: 0,
        families: stream::message::families(),
        encoding: stream::message::ENCODING,
    };
    conn.writer.message(&Message::Hello(Box::new(hello))).await?;
    export::send(&mut conn.writer, &Export::Open { snapshot: id.to_string() }).await?;
    Ok(conn)
}

/// Believes nothing that is not as it was asked for.
fn check(announced: &ExportManifest, target: &Target, service: &str) -> anyhow::Result<Files> {
    if announced.service != service || announced.shard != target.shard.to_string() {
        bail!("it has a checkpoint of {} of service `{}`", announced.shard, announced.service);
    }
    if announced.slots != target.slots {
        bail!(
            "its node holds the slots {}, and the record says {}: finish the change of slots first",
            announced.slots,
            target.slots
        );
    }
    if announced.files.len() > export::FILES_MAX {
        bail!("its checkpoint has {} files", announced.files.len());
    }
    let mut total = 0_u64;
    let mut files = Vec::with_capacity(announced.files.len());
    for file in &announced.files {
        total = total.checked_add(file.size).context("its sizes do not add up")?;
        files.push((file.name.parse()?, file.size, ObjectId(file.hash)));
    }
    Ok(files)
}

/// The objects that the store has not, or not whole: what it has is read back, since a snapshot
/// that names a damaged object could not be restored. Damaged ones are set aside and sent again.
async fn lacking(
    conn: &mut Connection<Socket>,
    store: &Store,
    files: &Files,
) -> anyhow::Result<BTreeMap<ObjectId, u64>> {
    let objects: BTreeMap<_, _> = files.iter().map(|(_, size, hash)| (*hash, *size)).collect();
    let store = store.clone();
    let mut probing = tokio::task::spawn_blocking(move || {
        let mut lacking = BTreeMap::new();
        for (hash, size) in objects {
            if store.stored_size(&hash).is_none() {
                lacking.insert(hash, size);
                continue;
            }
            match store.read_object(&hash, size, &mut |_| Ok(())) {
                Ok(()) => {}
                Err(error) if error.is_damage() => {
                    let aside = store.set_aside(&hash)?;
                    tracing::warn!(%error, aside = %aside.display(), "set aside a damaged object; it is sent again");
                    lacking.insert(hash, size);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(lacking)
    });
    let mut tick = tokio::time::interval(stream::conn::PING_EVERY);
    loop {
        tokio::select! {
            lacking = &mut probing => return Ok(lacking.context("the thread that reads the store died")??),
            _ = tick.tick() => export::send(&mut conn.writer, &Export::Ping).await?,
        }
    }
}

/// Receives the wanted files in their order; returns the compressed bytes.
async fn receive(
    conn: &mut Connection<Socket>,
    store: &Store,
    wanted: &BTreeMap<u32, (u64, ObjectId)>,
    progress: &Progress,
) -> anyhow::Result<u64> {
    let mut sent = 0;
    for (&index, &(size, hash)) in wanted {
        // Disk work of a few milliseconds a chunk; the other shards' tasks go on meanwhile.
        let mut writer = tokio::task::block_in_place(|| store.object_writer(hash, size))?;
        loop {
            match export::next(&mut conn.reader).await? {
                Arrived::Chunk { file, bytes } if file == index => {
                    let before = writer.received();
                    tokio::task::block_in_place(|| writer.frame(&bytes))?;
                    sent += bytes.len() as u64;
                    progress.moved(writer.received() - before, bytes.len() as u64);
                }
                Arrived::Message(Export::FileDone { file }) if file == index => break,
                other => bail!("the sidecar sent {} where file {index} was expected", name(&other)),
            }
        }
        tokio::task::block_in_place(|| writer.finish())?;
    }
    match export::next(&mut conn.reader).await? {
        Arrived::Message(Export::Done) => Ok(sent),
        other => bail!("the sidecar sent {} where the end was expected", name(&other)),
    }
}

fn name(arrived: &Arrived) -> String {
    match arrived {
        Arrived::Chunk { file, .. } => format!("a chunk of file {file}"),
        Arrived::Message(message) => {
            format!("{message:?}").split(['(', '{', ' ']).next().unwrap_or_default().to_owned()
        }
    }
}
