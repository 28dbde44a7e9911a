//! godwit-switchover
