//! A load of what a database holds.

use std::path::Path;

use ::store::load::{Family, Load, Origin};
use anyhow::Context;
use keyspace::Hlc;
use tables::{Copied, Copier};

use super::build::write_manifest;
use super::files::{Files, Layout};
use crate::store::StoreOptions;

/// A file is closed, and the next one begun, at about so many bytes of records.
const FILE_BYTES: u64 = 256 << 20;

/// Writes what `copier` copies into the empty directory `dir`, as a load with this stamp that shows
/// `origin`. What there is of it after an error is no load.
pub fn export(
    copier: &Copier<'_>,
    dir: &Path,
    options: &StoreOptions,
    stamp: Hlc,
    origin: Origin,
) -> anyhow::Result<(Load, Copied)> {
    let layout = Layout {
        dir: dir.to_owned(),
        options: Family::ALL.map(|family| options.table(family.cf())),
        file_size: FILE_BYTES,
        split: Vec::new(),
    };
    let mut files = Files::new(&layout, 0);
    let copied = copier.run(&mut files).context("copying the slots")?;
    let load = Load::new(stamp, 0, copied.keys, files.finish()?).exported_from(origin);
    write_manifest(dir, &load)?;
    Ok((load, copied))
}
