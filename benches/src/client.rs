//! A client that sends commands by the hundred and counts the answers.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Result, bail};
use resp::reply::scan;

use crate::server::connect;

/// Commands that are on their way at once.
pub(crate) const PIPELINE: usize = 100;

pub(crate) struct Client {
    stream: TcpStream,
    out: Vec<u8>,
    sent: usize,
    input: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Result<Self> {
        Ok(Self { stream: connect(port)?, out: Vec::new(), sent: 0, input: Vec::new() })
    }

    /// Sends one command and waits for its answer, as text.
    pub(crate) fn call(&mut self, args: &[&[u8]]) -> Result<String> {
        self.flush()?;
        resp::command::write(&mut self.out, args);
        self.stream.write_all(&self.out)?;
        self.out.clear();
        loop {
            let mut buffer = [0; 16 << 10];
            let count = self.stream.read(&mut buffer)?;
            if count == 0 {
                bail!("the server closed the connection");
            }
            self.input.extend_from_slice(&buffer[..count]);
            if let Some(length) = scan(&self.input)? {
                let text = String::from_utf8_lossy(&self.input[..length]).into_owned();
                self.input.drain(..length);
                return Ok(text);
            }
        }
    }

    /// Sends a command with [`PIPELINE`] others.
    pub(crate) fn pipe(&mut self, args: &[&[u8]]) -> Result<()> {
        resp::command::write(&mut self.out, args);
        self.sent += 1;
        if self.sent == PIPELINE { self.flush() } else { Ok(()) }
    }

    /// Waits until all that was piped is answered; an error answer ends the benchmark.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        let mut at = 0;
        while self.sent > 0 {
            while self.sent > 0
                && let Some(length) = scan(&self.input[at..])?
            {
                if self.input[at] == b'-' {
                    bail!("{}", String::from_utf8_lossy(&self.input[at..at + length]).trim());
                }
                at += length;
                self.sent -= 1;
            }
            if self.sent > 0 {
                self.input.drain(..at);
                at = 0;
                let mut buffer = [0; 64 << 10];
                let count = self.stream.read(&mut buffer)?;
                if count == 0 {
                    bail!("the server closed the connection");
                }
                self.input.extend_from_slice(&buffer[..count]);
            }
        }
        self.input.drain(..at);
        Ok(())
    }

    /// A number of INFO; 0 where the server has no such line.
    pub(crate) fn info(&mut self, field: &str) -> Result<u64> {
        let text = self.call(&[b"INFO", b"everything"])?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        Ok(line.and_then(|value| value.trim().parse().ok()).unwrap_or(0))
    }
}
