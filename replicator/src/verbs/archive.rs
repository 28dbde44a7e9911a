//! `archive list | verify | prune | key`.

use std::collections::BTreeMap;

use ::store::KeyVerb;
use ::store::repository::archive::Mark;
use ::store::repository::plan::{Hole, holes, spans, time};
use ::store::repository::{Archive, Base, Damage, Frames, Keep, Piece, Plan, Target};
use anyhow::Context;
use clap::Subcommand;
use ops::exit::Exit;
use ops::progress::{Progress, size};
use ops::units::Span;
use serde_json::{Value, json};

use super::store::StoreArgs;

/// A verb.
#[derive(Clone, Debug, Subcommand)]
pub enum ArchiveVerb {
    /// Say which moments can be restored, and from which checkpoints
    List {
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Read everything back and compare it; what is good is marked verified
    Verify {
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Let go of what no moment that is kept needs, and delete what was let go of a day ago
    Prune {
        #[command(flatten)]
        store: StoreArgs,
        /// Keep every moment of this span, such as 14d; the last proven checkpoint is kept in any case
        #[arg(long, value_name = "SPAN")]
        keep: Span,
        /// Say what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Make and change keys of encrypted archives
    Key {
        /// What to do.
        #[command(subcommand)]
        verb: KeyVerb,
    },
}

pub(super) async fn run(verb: ArchiveVerb) -> anyhow::Result<Exit> {
    match verb {
        ArchiveVerb::List { store } => list(&store).await,
        ArchiveVerb::Verify { store } => Box::pin(verify(&store)).await,
        ArchiveVerb::Prune { store, keep, dry_run } => prune(&store, keep, dry_run).await,
        ArchiveVerb::Key { verb } => Ok(verb.run().context("no key was written")?),
    }
}

async fn list(store: &StoreArgs) -> anyhow::Result<Exit> {
    let repository = store.repository().await?;
    let (mut lines, mut all) = (Vec::new(), Vec::new());
    for name in store.names(&repository).await? {
        let archive = Archive::open_whole(&repository, &name).await?;
        let (segments, bytes) = archive.segments().fold((0, 0), |(n, b), s| (n + 1, b + s.bytes));
        lines.push(format!("{name}: {segments} segments, {}", size(bytes)));
        let spans = spans(&archive);
        for span in &spans {
            let broken = span.broken.as_ref().map(|why| format!("; before that: {why}"));
            lines.push(format!(
                "  any moment from {} to {} ({} to {}, {} segments){}",
                time(span.from_stamp),
                time(span.to_stamp),
                span.from,
                span.to,
                span.segments,
                broken.unwrap_or_default()
            ));
        }
        let holes = holes(&archive);
        lines.extend(holes.iter().map(|hole| format!("  {}", hole_text(hole))));
        let holes: Vec<_> = holes.iter().map(hole_json).collect();
        if spans.is_empty() {
            lines.push("  no moment yet: no checkpoint is stored whole".to_owned());
        }
        let bases: Vec<_> = archive.bases().map(|base| describe(&archive, base)).collect();
        lines.extend(bases.iter().map(|(line, _)| format!("  checkpoint {line}")));
        let spans: Vec<_> = spans
            .iter()
            .map(|span| {
                json!({
                    "from": span.from, "from-ms": span.from_stamp.ms(),
                    "to": span.to, "to-ms": span.to_stamp.ms(), "segments": span.segments,
                })
            })
            .collect();
        let bases: Vec<_> = bases.into_iter().map(|(_, json)| json).collect();
        all.push(json!({
            "service": name.service(), "shard": name.shard(), "segments": segments,
            "segment-bytes": bytes, "spans": spans, "holes": holes, "checkpoints": bases,
        }));
    }
    store.form.result(&lines.join("\n"), &json!({ "archives": all }))?;
    Ok(Exit::Done)
}

fn hole_text(hole: &Hole) -> String {
    format!(
        "HOLE from {} (after {}) to {} (the checkpoint at {}): no moment between can be restored",
        time(hole.after_stamp),
        hole.after,
        time(hole.until_stamp),
        hole.until
    )
}

fn hole_json(hole: &Hole) -> Value {
    json!({
        "after": hole.after, "after-ms": hole.after_stamp.ms(),
        "until": hole.until, "until-ms": hole.until_stamp.ms(),
    })
}

fn describe(archive: &Archive, base: &Base) -> (String, Value) {
    let (verified, proven) = archive.known_of(&base.id);
    let at = |ms| time(keyspace::Hlc::new(ms, 0));
    let state = match (verified, proven) {
        (_, Some(ms)) => format!("proven {}", at(ms)),
        (Some(ms), None) => format!("verified {}", at(ms)),
        (None, None) => "not verified".to_owned(),
    };
    let line = format!(
        "{} of {}, at {}, {}, {state}",
        base.id,
        time(base.stamp),
        base.position,
        size(base.bytes)
    );
    let json = json!({
        "id": base.id, "position": base.position, "stamp-ms": base.stamp.ms(),
        "bytes": base.bytes, "verified-at": verified, "proven-at": proven,
    });
    (line, json)
}

/// What reading archives back has found.
#[derive(Default)]
struct Found {
    damage: Damage,
    pieces: u64,
    segments: u64,
}

async fn verify(store: &StoreArgs) -> anyhow::Result<Exit> {
    let repository = store.repository().await?;
    let (mut found, mut good) = (Found::default(), Vec::new());
    let (mut lines, mut all_holes) = (Vec::new(), Vec::new());
    for name in store.names(&repository).await? {
        let mut archive = Archive::open_whole(&repository, &name).await?;
        let progress = Progress::new("verifying");
        let segments_bad = segments(&archive, &mut found, &progress).await?;
        let mut whole = BTreeMap::new();
        let bases: Vec<_> = archive.bases().cloned().collect();
        for base in bases {
            let intact = self::base(&archive, &base, &mut whole, &mut found, &progress).await?;
            if intact && !segments_bad {
                let mark = Mark::Verified { base: base.id.clone(), at: ops::clock::unix_ms() };
                if let Err(why) = archive.mark(mark).await {
                    // Whoever may only read has verified it all the same.
                    tracing::warn!("the store was not told that {} is verified: {why}", base.id);
                }
                good.push(base.id);
            }
        }
        for hole in holes(&archive) {
            lines.push(format!("{name}: {}", hole_text(&hole)));
            all_holes.push(json!({ "shard": name.shard(), "hole": hole_json(&hole) }));
        }
        if let Err(why) = Plan::of(&archive, Target::Latest) {
            found.damage.name(format!("{name}: all there is cannot be restored: {why}"));
        }
    }
    lines.push(match found.damage.is_empty() {
        true => format!("{} segments and {} pieces are good", found.segments, found.pieces),
        false => {
            format!("{}\nDAMAGED: {} in all", found.damage.lines().join("\n"), found.damage.count())
        }
    });
    let mut json = json!(found.damage);
    json["segments"] = json!(found.segments);
    json["pieces"] = json!(found.pieces);
    json["verified"] = json!(good);
    json["holes"] = json!(all_holes);
    store.form.result(&lines.join("\n"), &json)?;
    Ok(if found.damage.is_empty() { Exit::Done } else { Exit::Failed })
}

/// Reads every segment; whether one was damaged.
async fn segments(
    archive: &Archive,
    found: &mut Found,
    progress: &Progress,
) -> anyhow::Result<bool> {
    let before = found.damage.count();
    progress.expect(archive.segments().map(|segment| segment.bytes).sum());
    for segment in archive.segments() {
        match archive.segment(segment).await {
            Ok(bytes) => {
                if let Err(why) = Frames::check_all(archive.name(), segment, &bytes) {
                    found.damage.name(why);
                }
            }
            Err(error) => found.damage.note(error)?,
        }
        found.segments += 1;
        progress.moved(segment.bytes, segment.bytes);
    }
    Ok(found.damage.count() > before)
}

/// Reads every piece of a base that was not read before; whether all are good.
async fn base(
    archive: &Archive,
    base: &Base,
    whole: &mut BTreeMap<Piece, bool>,
    found: &mut Found,
    progress: &Progress,
) -> anyhow::Result<bool> {
    let manifest = match archive.manifest(base).await {
        Ok(manifest) => manifest,
        Err(error) => {
            found.damage.note(error)?;
            return Ok(false);
        }
    };
    let mut intact = true;
    for piece in manifest.pieces() {
        if let Some(known) = whole.get(piece) {
            intact &= known;
            continue;
        }
        progress.expect(u64::from(piece.size));
        let read = archive.repository().piece(piece).await;
        let good = read.is_ok();
        if let Err(error) = read {
            found.damage.note(error)?;
        }
        whole.insert(*piece, good);
        intact &= good;
        found.pieces += 1;
        progress.moved(u64::from(piece.size), u64::from(piece.size));
    }
    Ok(intact)
}

async fn prune(store: &StoreArgs, keep: Span, dry: bool) -> anyhow::Result<Exit> {
    let repository = store.repository().await?;
    let since =
        ops::clock::unix_ms().saturating_sub(u64::try_from(keep.0.as_millis()).unwrap_or(u64::MAX));
    let (mut lines, mut all) = (Vec::new(), Vec::new());
    for name in store.names(&repository).await? {
        let mut archive = Archive::open(&repository, &name).await?;
        let going = Keep::since(&archive, since);
        let (bases, segments) = going.as_ref().map_or((0, 0), |k| (k.bases_gone, k.segments_gone));
        if let Some(keep) = going.filter(|_| !dry) {
            archive.forget(keep.segments_below, keep.bases).await?;
        }
        lines.push(format!(
            "{name}: {bases} checkpoints and {segments} segments are needed no more"
        ));
        all.push(json!({
            "service": name.service(), "shard": name.shard(),
            "checkpoints": bases, "segments": segments,
        }));
    }
    let swept = repository.sweep("archive prune", dry).await?;
    let grace = humantime::format_duration(repository.header().grace());
    lines.push(format!(
        "{}deleted {} objects ({}) that nothing led to; {} more are deleted by a run that comes {grace} after they \
         were marked",
        if dry { "dry run, nothing was changed: " } else { "" },
        swept.deleted,
        size(swept.deleted_bytes),
        swept.marked + swept.waiting
    ));
    store
        .form
        .result(&lines.join("\n"), &json!({ "archives": all, "swept": swept, "dry-run": dry }))?;
    Ok(Exit::Done)
}
