//! godwit-switchover
fn main() {}
