//! godwit-tests
