//! godwit-resp
