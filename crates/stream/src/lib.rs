//! godwit-stream
