//! godwit-snapshotter: see the library's front page.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = godwit_snapshotter::cli::Args::parse();
    ops::cli::run("godwit-snapshotter", godwit_snapshotter::cli::run(args))
}
