//! The tail of a log that is being written: its last piece may be looked at half, which is no damage
//! unless it stays so.

use std::time::{Duration, Instant};

use super::{Cursor, CursorError};

/// How long a log that does not read on is looked at again, before that is damage.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Cursor {
    /// [`Cursor::advance`] on a log that is being written: what does not read on is looked at again for a
    /// second before it is an error.
    ///
    /// # Errors
    /// As [`Cursor::advance`]. May be dropped at any moment.
    pub async fn advance_live(&mut self) -> Result<bool, CursorError> {
        let mut since = None;
        loop {
            let damage = match self.advance() {
                Err(error @ CursorError::Damaged { .. }) => error,
                other => return other,
            };
            if since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                return Err(damage);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            self.look_again()?;
        }
    }
}
