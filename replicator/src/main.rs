//! godwit-replicator
fn main() {}
