//! `registry show | check | repair`: what is in the registry for this service, whether it can be right,
//! and mending what is safe to mend.
//!
//! These read the registry as it is, key by key, and believe nothing: a record that no other verb
//! takes is shown here.

pub(crate) mod check;
mod repair;
mod show;

use clap::Subcommand;
use ops::exit::Exit;

use crate::tool::Tool;

/// What to do with the registry.
#[derive(Subcommand, Clone, Debug)]
pub enum RegistryVerb {
    /// Show every key of the service, with its revision and what is in it
    Show {
        /// Every key of the registry, of all services
        #[arg(long)]
        all: bool,
    },
    /// Look for what cannot be right, and say what to do; exit 1 if there is something
    Check,
    /// Mend what is safe to mend: a freeze that nobody ended, keys of the dead, journals of tools that
    /// died, a record that was set back
    Repair {
        /// Do it; without, print what would be done and exit 3
        #[arg(long)]
        yes: bool,
    },
}

/// `registry`.
pub(crate) async fn run(tool: &Tool, verb: &RegistryVerb) -> anyhow::Result<Exit> {
    match verb {
        RegistryVerb::Show { all } => show::show(tool, *all).await,
        RegistryVerb::Check => check::check(tool).await,
        RegistryVerb::Repair { yes } => repair::repair(tool, *yes).await,
    }
}
