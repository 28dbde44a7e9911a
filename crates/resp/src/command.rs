//! Commands: what clients send, as a multibulk array or as an inline line.

mod inline;
mod parser;

pub use parser::{Parser, parse};

/// What a server takes from a client. Beyond it the connection is in error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest argument in bytes (`proto-max-bulk-len` of Redis).
    pub bulk_bytes: usize,
    /// The most arguments of a command.
    pub args: usize,
    /// The longest inline command, and the longest line that holds a length, in bytes.
    pub inline_bytes: usize,
    /// The most bytes of one command with its framing (`client-query-buffer-limit` of Redis).
    pub command_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bulk_bytes: 512 << 20,
            args: 1 << 20,
            inline_bytes: 64 << 10,
            command_bytes: 1 << 30,
        }
    }
}

/// Appends one command, as a client sends it.
pub fn write(out: &mut Vec<u8>, args: &[&[u8]]) {
    header(out, b'*', args.len());
    for arg in args {
        write_arg(out, arg);
    }
}

/// Appends the start of a command of `count` arguments; exactly that many [`write_arg`] follow.
pub fn write_header(out: &mut Vec<u8>, count: usize) {
    header(out, b'*', count);
}

/// Appends one argument.
pub fn write_arg(out: &mut Vec<u8>, arg: &[u8]) {
    header(out, b'$', arg.len());
    out.extend_from_slice(arg);
    out.extend_from_slice(b"\r\n");
}

fn header(out: &mut Vec<u8>, kind: u8, count: usize) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
    out.extend_from_slice(b"\r\n");
}
