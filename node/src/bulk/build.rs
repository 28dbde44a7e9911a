//! Building a load.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ::store::load::{Family, Load, LoadId, MANIFEST};
use anyhow::{Context, bail};
use keyspace::Hlc;
use rocksdb::{DBCompressionType, Options};
use serde::Serialize;

use super::args::{BuildArgs, Compression};
use super::encode::Encoder;
use super::files::Layout;
use super::parts::{self, Totals};
use super::rows::Rows;
use crate::store::StoreOptions;

/// Bad rows that the report names.
const NAMED_MAX: usize = 20;
/// How often progress is logged.
const PROGRESS: Duration = Duration::from_secs(2);
/// Rows between two looks at the clock.
const LOOK: u64 = 4096;

/// What was built.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// The load's name.
    pub id: LoadId,
    /// The stamp of its records.
    pub stamp: String,
    /// Where it is.
    pub directory: PathBuf,
    /// Rows that were used.
    pub rows: u64,
    /// Keys that came of them.
    pub keys: u64,
    /// Keys, fields and members that a later row replaced.
    pub replaced: u64,
    /// Rows that were skipped.
    pub bad_rows: u64,
    /// The first of them, and why.
    pub bad: Vec<String>,
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Runs that were sorted on disk.
    pub runs: u64,
    /// How long reading and sorting took.
    pub read_seconds: f64,
    /// How long merging and writing took.
    pub write_seconds: f64,
}

/// Builds a load as told. On an error nothing of it is left.
pub fn build(args: &BuildArgs) -> anyhow::Result<Report> {
    let out = &args.out;
    fs::create_dir_all(out).with_context(|| format!("creating {}", out.display()))?;
    let mut present = fs::read_dir(out).with_context(|| format!("listing {}", out.display()))?;
    if present.next().is_some() {
        bail!("{} is not empty: a load has a directory of its own", out.display());
    }
    build_in(args, out).inspect_err(|_| clear(out))
}

/// Empties the directory, which was empty before the build.
fn clear(out: &Path) {
    let left = fs::read_dir(out).into_iter().flatten().flatten();
    for path in left.map(|entry| entry.path()) {
        if let Err(why) = fs::remove_file(&path) {
            tracing::warn!("removing {} failed: {why}; it may be removed by hand", path.display());
        }
    }
}

fn build_in(args: &BuildArgs, out: &Path) -> anyhow::Result<Report> {
    let began = Instant::now();
    // A counter that no node's clock reaches within a millisecond: no collection of a node, and
    // with luck no other load, has this version.
    let counter = 0x8000 | rand::random::<u16>();
    let stamp = args.stamp.unwrap_or_else(|| Hlc::new(ops::clock::unix_ms(), counter));
    let temp = Temporary::make(args.temp.as_deref().unwrap_or(out))?;
    let mut rows = Rows::open(args)?;
    let columns = rows.columns().to_owned();
    let null = rows.null().to_owned();
    let mut encoder = Encoder::new(args, &columns, &null, stamp, &temp.0)?;
    let (mut used, mut skipped, mut bad) = (0, 0, Vec::new());
    let mut said = Instant::now();
    while let Some(row) = rows.next()? {
        let wrong = match row.wrong {
            Some(wrong) => Some(wrong),
            None => encoder.take(row.cells)?.err(),
        };
        match wrong {
            None => used += 1,
            Some(why) => {
                let named = format!("{} line {}: {why}", row.file, row.line);
                if skipped == args.bad_rows.skip_max {
                    bail!(
                        "{named}; {skipped} bad rows were skipped before, --bad-rows says how many may be; nothing was built"
                    );
                }
                skipped += 1;
                if bad.len() < NAMED_MAX {
                    tracing::warn!("skipped: {named}");
                    bad.push(named);
                }
            }
        }
        if (used + skipped) % LOOK == 0 && said.elapsed() >= PROGRESS {
            said = Instant::now();
            tracing::info!(rows = used, seconds = began.elapsed().as_secs(), "reading");
        }
    }
    let read = began.elapsed();
    tracing::info!(
        rows = used,
        bad = skipped,
        seconds = read.as_secs_f64(),
        "read and sorted; writing"
    );
    let layout = Layout {
        dir: out.to_owned(),
        options: Family::ALL.map(|family| table(family, args.compression)),
        file_size: args.file_size.bytes().max(1 << 20),
        split: args.split.clone(),
    };
    let (Totals { keys, replaced, runs }, files) = parts::write(encoder.finish(), &layout)?;
    drop(temp);
    let load = Load::new(stamp, used, keys, files);
    write_manifest(out, &load)?;
    Ok(Report {
        id: load.id,
        stamp: stamp.to_string(),
        directory: out.to_owned(),
        rows: used,
        keys,
        replaced,
        bad_rows: skipped,
        bad,
        files: load.files.len(),
        bytes: load.files.iter().map(|file| file.size).sum(),
        runs,
        read_seconds: read.as_secs_f64(),
        write_seconds: (began.elapsed() - read).as_secs_f64(),
    })
}

/// Tables as a node writes them.
fn table(family: Family, compression: Compression) -> Options {
    let mut options = StoreOptions::default().table(family.cf());
    options.set_compression_type(match compression {
        Compression::None => DBCompressionType::None,
        Compression::Lz4 => DBCompressionType::Lz4,
        Compression::Zstd => DBCompressionType::Zstd,
    });
    options
}

/// Written last: without it the directory is no load.
pub(super) fn write_manifest(out: &Path, load: &Load) -> anyhow::Result<()> {
    let (path, new) = (out.join(MANIFEST), out.join("load.new"));
    let written = fs::write(&new, load.to_bytes())
        .and_then(|()| fs::File::open(&new)?.sync_all())
        .and_then(|()| fs::rename(&new, &path))
        .and_then(|()| fs::File::open(out)?.sync_all());
    written.with_context(|| format!("writing {}", path.display()))
}

/// A directory that goes when the build ends, however it ends.
struct Temporary(PathBuf);

impl Temporary {
    fn make(parent: &Path) -> anyhow::Result<Self> {
        let path =
            parent.join(format!("building-{}-{:08x}", std::process::id(), rand::random::<u32>()));
        fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(why) = fs::remove_dir_all(&self.0) {
            tracing::warn!(
                "removing {} failed: {why}; it may be removed by hand",
                self.0.display()
            );
        }
    }
}
