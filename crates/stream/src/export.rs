//! Checkpoints to a snapshotter.
