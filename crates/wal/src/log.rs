//! log

/// The greatest record that is believed.
pub const MAX_RECORD: usize = 1 << 30;
