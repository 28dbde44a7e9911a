//! godwit-node
