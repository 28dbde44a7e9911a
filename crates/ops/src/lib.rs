//! What every daemon of Godwit does alike: settings, logs, metrics, health, TLS, shutdown, exit
//! codes.
//!
//! It knows nothing of Redis, RocksDB or the registry. A program's `main.rs` parses its arguments
//! (with [`cli::Common`] flattened in) and hands a future to [`cli::run`]:
//!
//! ```no_run
//! use clap::Parser;
//!
//! #[derive(clap::Args, serde::Serialize, serde::Deserialize, Default)]
//! #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
//! struct Settings {
//!     /// Where clients connect.
//!     #[arg(long, env = "GODWIT_LISTEN", value_name = "HOST:PORT")]
//!     listen: Option<String>,
//! }
//!
//! #[derive(Parser)]
//! #[command(version, about = "An example")]
//! struct Args {
//!     #[command(flatten)]
//!     common: ops::cli::Common,
//!     #[command(flatten)]
//!     settings: Settings,
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     ops::cli::run("example", async {
//!         let Args { mut common, settings } = Args::parse();
//!         if let Some(exit) = common.completions::<Args>() {
//!             return Ok(exit);
//!         }
//!         let settings = common.load(settings)?; // flag > GODWIT_* > file
//!         // ... turn settings into a validated config here ...
//!         if let Some(exit) = common.checked() {
//!             return Ok(exit);
//!         }
//!         common.start_logging()?;
//!         let shutdown = ops::shutdown::Shutdown::on_signals()?;
//!         # drop((settings, shutdown));
//!         Ok(ops::exit::Exit::Done)
//!     })
//! }
//! ```
//!
//! Start with [`cli`], then [`config`] and [`units`]; [`metrics`], [`health`] and [`http`] go
//! together; [`tls`], [`clock`], [`background`], [`shutdown`] and [`failpoint`] stand alone.

#![forbid(unsafe_code)]

pub mod background;
pub mod cli;
pub mod clock;
pub mod config;
pub mod disk;
pub mod exit;
pub mod failpoint;
pub mod health;
pub mod http;
pub mod limit;
pub mod log;
pub mod metrics;
pub mod progress;
pub mod shutdown;
pub mod tls;
pub mod units;
