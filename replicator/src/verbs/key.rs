//! `archive key`: the keys of an encrypted archive.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ::store::repository::Keys;
use anyhow::Context;
use clap::Subcommand;
use ops::cli::say;
use ops::exit::Exit;

/// A verb.
#[derive(Clone, Debug, Subcommand)]
pub enum KeyVerb {
    /// Make new keys; keep the file where the archive is not, and the sidecars are not
    New {
        /// The file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Make a file for sidecars: with it they write, and cannot read what is there
    Writer {
        /// The whole key file
        #[arg(long, value_name = "FILE")]
        of: PathBuf,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Make new keys that also read what the old ones wrote; then make a new file for the sidecars of it
    Rotate {
        /// The whole key file
        #[arg(long, value_name = "FILE")]
        of: PathBuf,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

pub(super) fn run(verb: &KeyVerb) -> anyhow::Result<Exit> {
    let (keys, out) = match verb {
        KeyVerb::New { out } => (Keys::generate()?, out),
        KeyVerb::Writer { of, out } => (Keys::read(of)?.to_write(), out),
        KeyVerb::Rotate { of, out } => (Keys::read(of)?.rotate()?, out),
    };
    write(&keys, out)?;
    say(&format!(
        "wrote {}: without its private keys nothing of the archive can be restored; keep copies in two places",
        out.display()
    ));
    Ok(Exit::Done)
}

/// A new file that only its owner reads; one that is there stays.
fn write(keys: &Keys, out: &Path) -> anyhow::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(out)
        .with_context(|| format!("making {}; no key was written", out.display()))?;
    let written = file.write_all(keys.to_text().as_bytes()).and_then(|()| file.sync_all());
    written.with_context(|| format!("writing {}", out.display()))
}
