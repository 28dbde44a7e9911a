//! Where the programs are: in `GODWIT_BIN`, or beside the executable that asks, as cargo lays them.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// The path of a program such as `godwit-node`.
pub fn path(program: &str) -> Result<PathBuf> {
    if let Some(dir) = env::var_os("GODWIT_BIN") {
        let path = PathBuf::from(dir).join(program);
        return if path.is_file() {
            Ok(path)
        } else {
            bail!("GODWIT_BIN has no {}", path.display())
        };
    }
    let own = env::current_exe().context("this executable does not know where it is")?;
    // target/debug/deps/story-hash for a test, target/release/clouds for a program.
    let beside = own.ancestors().skip(1).take(2).map(|dir| dir.join(program));
    beside.into_iter().find(|path| path.is_file()).with_context(|| {
        format!(
            "{program} is not built: run `make build` (or `cargo build --workspace --bins`; `make test` does), or set GODWIT_BIN"
        )
    })
}
