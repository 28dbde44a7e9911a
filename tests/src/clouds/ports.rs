//! Ports for processes that start again on the same address.
//!
//! A port that the kernel chose is free only for a moment: any outgoing connection may take it
//! while its process is down. So each set of clouds reserves a block below the range that outgoing
//! connections use, with a lock file that ends with the reserving process.

use std::fs::{self, File};
use std::net::TcpListener;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

/// The first port of the first block.
const FIRST: u16 = 20_000;
/// Ports in a block.
const BLOCK: u16 = 64;
/// Blocks: the last one ends below 32768, where Linux begins to choose.
const BLOCKS: u16 = 190;

/// A reserved block of ports.
pub struct Ports {
    next: u16,
    end: u16,
    _lock: File,
}

impl Ports {
    /// Reserves a block that nobody else on this machine has.
    pub fn reserve() -> Result<Self> {
        let dir = std::env::temp_dir().join("godwit-ports");
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let start = rand::random_range(0..BLOCKS);
        for n in 0..BLOCKS {
            let block = (start + n) % BLOCKS;
            let file = dir.join(format!("{block}.lock"));
            let lock = File::options().create(true).truncate(false).write(true).open(&file);
            let lock = lock.with_context(|| format!("cannot open {}", file.display()))?;
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let next = FIRST + block * BLOCK;
                return Ok(Self { next, end: next + BLOCK, _lock: lock });
            }
        }
        bail!("all {BLOCKS} blocks of ports are in use; are many tests running?")
    }

    /// The next free address of the block.
    pub fn next_address(&mut self) -> Result<String> {
        while self.next < self.end {
            let address = format!("127.0.0.1:{}", self.next);
            self.next += 1;
            if TcpListener::bind(&address).is_ok() {
                return Ok(address);
            }
        }
        bail!("the block of {BLOCK} ports is used up")
    }
}
