//! godwit-snapshotter
fn main() {}
