//! godwit-store
