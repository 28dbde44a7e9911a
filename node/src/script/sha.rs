//! What a script is known by: the SHA-1 of its text.

use std::fmt;

use sha1::{Digest, Sha1};

/// The SHA-1 of a script's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sha([u8; 20]);

impl Sha {
    /// That of a text.
    pub(crate) fn of(text: &[u8]) -> Self {
        Self(Sha1::digest(text).into())
    }

    /// What 40 hexadecimal digits, in either case, say.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; 20];
        if text.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            *byte = (digit(0)? << 4 | digit(1)?) as u8;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
