//! Why bytes are not the protocol. A server answers `-ERR Protocol error: ...` and closes.

/// The bytes are not the Redis protocol; nothing after them can be understood either. The texts
/// are those that redis-server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A multibulk count that is no number, or beyond the limit.
    #[error("Protocol error: invalid multibulk length")]
    MultibulkLength,
    /// A line that should hold a multibulk count and does not end.
    #[error("Protocol error: too big mbulk count string")]
    MultibulkLine,
    /// A bulk length that is no number, negative, or beyond the limit.
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    /// A line that should hold a bulk length and does not end.
    #[error("Protocol error: too big bulk count string")]
    BulkLine,
    /// Something else where an argument should begin.
    #[error("Protocol error: expected '$', got '{}'", printable(*.0))]
    ExpectedBulk(u8),
    /// An inline command beyond the limit.
    #[error("Protocol error: too big inline request")]
    InlineTooBig,
    /// An inline command whose quotes do not close.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// All arguments together are beyond the limit.
    #[error("Protocol error: too big command")]
    CommandTooBig,
    /// A reply that begins with a byte that no type has.
    #[error("Protocol error: unknown reply type '{}'", printable(*.0))]
    ReplyType(u8),
    /// A reply whose value is not what its type says.
    #[error("Protocol error: malformed reply")]
    ReplyValue,
    /// A reply that is nested or sized beyond what is read.
    #[error("Protocol error: reply beyond the limits")]
    ReplyTooBig,
}

/// A byte of a stranger in our own line: never a control character.
fn printable(byte: u8) -> char {
    if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '?' }
}
