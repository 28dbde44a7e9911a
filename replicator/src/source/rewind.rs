//! The source's part of a rewind: it hands out the present records of the keys that are asked for.

use ops::tls::Socket;
use stream::message::Point;
use stream::{Connection, Message};
use wal::Position;

use super::session::{Session, SessionError, unexpected};

/// How long the target may take between two requests: it reads its own log first.
const ASK_WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

impl Session {
    /// `false`: the target cannot rewind and must be seeded.
    pub(super) async fn rewind(
        &mut self,
        conn: &mut Connection<Socket>,
        fork: Position,
        resume: Point,
    ) -> Result<bool, SessionError> {
        let node = self.sidecar.node.own_client().await?;
        conn.writer.message(&Message::RewindBegin { fork, resume }).await?;
        conn.reader.set_deadline(ASK_WITHIN);
        loop {
            match conn.reader.message().await? {
                Message::Keys(keys) => {
                    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                    let got = match node.export(&keys).await {
                        Err(error) if error.code() == Some(admin::Code::Err) => {
                            // More than can be sent at once: the target takes a seed for an answer.
                            tracing::warn!(follower = %self.follower, "no rewind: {error}");
                            conn.reader.set_deadline(self.sidecar.config.link.peer_timeout);
                            return Ok(false);
                        }
                        got => got?,
                    };
                    conn.writer.exported(got.position, &got.batch).await?;
                    self.exported(got.batch.len());
                }
                Message::Records(keys) => {
                    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                    // An older node does not know the question, and answers with the same code.
                    let got = match node.records(&keys).await {
                        Err(error) if error.code() == Some(admin::Code::Err) => {
                            tracing::warn!(follower = %self.follower, "no rewind: {error}");
                            conn.reader.set_deadline(self.sidecar.config.link.peer_timeout);
                            return Ok(false);
                        }
                        got => got?,
                    };
                    conn.writer.exported(got.position, &got.batch).await?;
                    self.exported(got.batch.len());
                }
                Message::MeasureSlots(slots) => {
                    let measured = node.measure(&slots).await?;
                    let (bytes, all_bytes) = (measured.bytes, measured.all_bytes);
                    conn.writer.message(&Message::SlotsMeasured { bytes, all_bytes }).await?;
                }
                Message::ExportSlots { slots, after } => {
                    let got = match node.export_slots(&slots, &after).await {
                        Err(error) if error.code() == Some(admin::Code::Err) => {
                            tracing::warn!(follower = %self.follower, "no rewind: {error}");
                            conn.reader.set_deadline(self.sidecar.config.link.peer_timeout);
                            return Ok(false);
                        }
                        got => got?,
                    };
                    conn.writer.message(&Message::SlotsExported { next: got.next }).await?;
                    conn.writer.exported(got.position, &got.batch).await?;
                    self.exported(got.batch.len());
                }
                Message::RewindDone => {
                    conn.reader.set_deadline(self.sidecar.config.link.peer_timeout);
                    return Ok(true);
                }
                Message::CannotRewind { reason } => {
                    tracing::warn!(follower = %self.follower, "it cannot rewind: {reason}");
                    conn.reader.set_deadline(self.sidecar.config.link.peer_timeout);
                    return Ok(false);
                }
                got => return Err(unexpected(got, "Keys, RewindDone or CannotRewind").into()),
            }
        }
    }

    fn exported(&self, bytes: usize) {
        let bytes = bytes as u64;
        self.sidecar.metrics.seed_bytes.inc_by(bytes);
        self.sidecar.board.stream(&self.follower, |status| {
            status.sent_bytes += bytes;
            status.seed_bytes += bytes;
        });
    }
}
