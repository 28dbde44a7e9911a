//! Toxiproxy's API and toxics as a program, for playing with bad networks by hand:
//! `toxiproxy --host 127.0.0.1 --port 8474`, then any Toxiproxy client.

use anyhow::{Context, Result};
use clap::Parser;

/// A small server with Toxiproxy's HTTP API.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The address of the API.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// The port of the API.
    #[arg(long, default_value_t = 8474)]
    port: u16,
}

#[allow(clippy::print_stdout)]
fn main() -> Result<()> {
    let args = Args::parse();
    let listen = format!("{}:{}", args.host, args.port);
    let server = tests::toxi::server::Server::start(&listen)
        .with_context(|| format!("cannot listen on {listen}"))?;
    println!("the API answers on http://{}", server.address);
    server.join();
    Ok(())
}
