//! godwit-ops
