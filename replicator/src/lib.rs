//! godwit-replicator
