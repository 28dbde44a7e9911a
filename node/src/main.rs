//! godwit-node
fn main() {}
