//! `archive key`: the keys of an encrypted archive.

use std::path::PathBuf;

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
    let written = keys.write_new(out);
    written.with_context(|| format!("making {}; no key was written", out.display()))?;
    say(&format!(
        "wrote {}: without its private keys nothing of the archive can be restored; keep copies in two places",
        out.display()
    ));
    Ok(Exit::Done)
}
