//! godwit-snapshotter
