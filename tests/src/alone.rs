//! A node that stands alone on a directory that was restored, to look at what came back.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use crate::client::Client;
use crate::clouds::binaries;
use crate::clouds::process::Process;
use crate::wait;

/// How long it may take to serve.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node without a service. It ends with this.
pub struct Alone {
    /// Who may look at it: connected, and let in without a password.
    pub client: Client,
    /// Where it listens.
    pub address: String,
    /// Where control commands go.
    pub admin: String,
    process: Process,
}

impl Alone {
    /// Starts a node on this directory and waits until it serves.
    pub fn on(dir: &Path) -> Self {
        let start = || -> anyhow::Result<Self> {
            let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
            let dir_arg = dir.display().to_string();
            let args = ["--dir", &dir_arg, "--listen", &address].map(str::to_owned).to_vec();
            let program = binaries::path("godwit-node")?;
            let mut process =
                Process::new("alone".to_owned(), program, args, dir.with_extension("log"));
            process.start()?;
            let connect = || Client::connect_with(&address, Duration::from_secs(2));
            wait::until("the node to serve", PATIENCE, || connect().map(drop))?;
            let admin = format!("unix:{}", dir.join("admin.sock").display());
            Ok(Self { client: connect()?, address, admin, process })
        };
        start().unwrap_or_else(|e| panic!("{e:#}"))
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.process.end();
    }
}
