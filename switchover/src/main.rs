//! `godwit-switchover`: parses its arguments and calls in.

use clap::Parser;

fn main() -> std::process::ExitCode {
    ops::cli::run("godwit-switchover", godwit_switchover::main(godwit_switchover::Args::parse()))
}
