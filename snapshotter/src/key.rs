//! `key`: the keys of an encrypted repository.

use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;
use ops::cli::say;
use ops::exit::Exit;
use store::repository::Keys;

/// A verb.
#[derive(Clone, Debug, Subcommand)]
pub enum KeyVerb {
    /// Make new keys; keep the file where neither the repository nor the pusher is
    New {
        /// The file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Make a file for pushers: with it they write, and cannot read what is there
    Writer {
        /// The whole key file
        #[arg(long, value_name = "FILE")]
        of: PathBuf,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Make new keys that also read what the old ones wrote; then make a new file for pushers of it
    Rotate {
        /// The whole key file
        #[arg(long, value_name = "FILE")]
        of: PathBuf,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// Writes the key file that was asked for.
///
/// # Errors
/// There is a file of that name, which stays; or the keys cannot be read.
pub fn run(verb: &KeyVerb) -> anyhow::Result<Exit> {
    let (keys, out) = match verb {
        KeyVerb::New { out } => (Keys::generate()?, out),
        KeyVerb::Writer { of, out } => (Keys::read(of)?.to_write(), out),
        KeyVerb::Rotate { of, out } => (Keys::read(of)?.rotate()?, out),
    };
    let written = keys.write_new(out);
    written.with_context(|| format!("making {}; no key was written", out.display()))?;
    say(&format!(
        "wrote {}: without its private keys nothing of the repository can be restored; keep copies in two places",
        out.display()
    ));
    Ok(Exit::Done)
}
