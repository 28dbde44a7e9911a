//! godwit-admin
