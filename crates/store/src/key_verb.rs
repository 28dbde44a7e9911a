//! The verbs that make key files, for every program that writes to a repository.

use std::path::PathBuf;

use clap::Subcommand;
use ops::cli::say;
use ops::exit::Exit;

use crate::StoreError;
use crate::repository::Keys;

/// A verb.
#[derive(Clone, Debug, Subcommand)]
pub enum KeyVerb {
    /// Make new keys; keep the file where neither the repository is nor who writes to it
    New {
        /// The file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Make a file for those who write (pushers, sidecars): with it they cannot read what is there
    Writer {
        /// The whole key file
        #[arg(long, value_name = "FILE")]
        of: PathBuf,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Make new keys that also read what the old ones wrote; then make a new file for who writes of it
    Rotate {
        /// The whole key file
        #[arg(long, value_name = "FILE")]
        of: PathBuf,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

impl KeyVerb {
    /// Writes the key file that was asked for, and says so.
    ///
    /// # Errors
    /// There is a file of that name, which stays; or the keys cannot be read. No key was written.
    pub fn run(&self) -> Result<Exit, StoreError> {
        let (keys, out) = match self {
            Self::New { out } => (Keys::generate()?, out),
            Self::Writer { of, out } => (Keys::read(of)?.to_write(), out),
            Self::Rotate { of, out } => (Keys::read(of)?.rotate()?, out),
        };
        keys.write_new(out)?;
        let out = out.display();
        say(&match self {
            Self::Writer { .. } => {
                format!("wrote {out}: it writes, and reads nothing; it can be made again")
            }
            Self::New { .. } | Self::Rotate { .. } => format!(
                "wrote {out}: without its private keys nothing of the repository can be restored; keep copies in two places"
            ),
        });
        Ok(Exit::Done)
    }
}
