//! godwit-proxy
