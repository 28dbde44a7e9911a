//! godwit-proxy
fn main() {}
