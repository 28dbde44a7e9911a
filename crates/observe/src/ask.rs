//! One probe: a read of a key that the node holds, and GODWIT.PROBE behind it, in one packet.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use keyspace::{Slot, SlotSet};
use resp::reply::Reply;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The answers of a probe are not longer.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// So many names are tried for one that is in the node's slots; of a single slot, one in 16384 is.
const TRIES_MAX: u32 = 1 << 18;

/// What a node says of itself (docs/formats.md, "Probes").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) mode: String,
    pub(crate) writable: bool,
    /// For how long its log has not been seen to move.
    pub(crate) still: Option<Duration>,
    /// How far it is behind its sources.
    pub(crate) lag: Option<Duration>,
}

/// A connection to a node.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    input: BytesMut,
}

impl Link {
    pub(crate) async fn connect(address: &str) -> Result<Self, String> {
        let text = |why: std::io::Error| format!("{address} cannot be reached: {why}");
        let stream = TcpStream::connect(address).await.map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        Ok(Self { stream, input: BytesMut::new() })
    }

    /// Asks once. After an error the connection is of no use.
    pub(crate) async fn ask(&mut self, slots: &SlotSet, standby: bool) -> Result<Probed, String> {
        let mut out = Vec::new();
        if standby {
            resp::command::write(&mut out, &[b"READONLY"]);
        }
        resp::command::write(&mut out, &[b"EXISTS", key_in(slots).as_bytes()]);
        resp::command::write(&mut out, &[b"GODWIT.PROBE"]);
        self.stream.write_all(&out).await.map_err(|why| format!("it cannot be asked: {why}"))?;
        if standby {
            self.reply().await?;
        }
        let read = self.reply().await?;
        let said = self.reply().await?;
        Ok(Probed { read, said })
    }

    async fn reply(&mut self) -> Result<Reply, String> {
        loop {
            let parsed = Reply::parse(&self.input);
            if let Some((reply, length)) =
                parsed.map_err(|why| format!("its answer cannot be read: {why}"))?
            {
                self.input.advance(length);
                return Ok(reply);
            }
            if self.input.len() > ANSWER_BYTES_MAX {
                return Err("its answer to a probe is too long".to_owned());
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return Err("it closed the connection".to_owned()),
                Ok(_) => {}
                Err(why) => return Err(format!("the connection broke: {why}")),
            }
        }
    }
}

/// The answers to one probe.
#[derive(Debug)]
pub(crate) struct Probed {
    read: Reply,
    said: Reply,
}

/// Whether an error says that this client may not ask, and not that the node does not serve.
fn only_refuses(error: &str) -> bool {
    ["NOAUTH", "NOPERM"].iter().any(|code| error.starts_with(code))
}

impl Probed {
    /// What the node says, if its data path answered: an error in words where it did not. A node from
    /// before probes says nothing of itself: `None`.
    pub(crate) fn answer(self) -> Result<Option<Answer>, String> {
        if let Some(error) = self.read.as_error().filter(|error| !only_refuses(error)) {
            return Err(format!("it answers a read with: {error}"));
        }
        if let Some(error) = self.said.as_error() {
            let unknown = error.starts_with("ERR unknown command") || only_refuses(error);
            return if unknown { Ok(None) } else { Err(format!("it answers: {error}")) };
        }
        let Reply::Array(items) = self.said else {
            return Err("its answer to GODWIT.PROBE is none".to_owned());
        };
        let mut answer = Answer::default();
        for pair in items.chunks_exact(2) {
            let [name, value] = pair else { continue };
            let number = match value {
                Reply::Integer(number) => u64::try_from(*number).ok(),
                _ => None,
            };
            let span = number.map(Duration::from_millis);
            match name.as_text() {
                Some("mode") => answer.mode = value.as_text().unwrap_or_default().to_owned(),
                Some("writable") => answer.writable = number == Some(1),
                Some("still-ms") => answer.still = span,
                Some("lag-ms") => answer.lag = span,
                // What a later version says beside.
                _ => {}
            }
        }
        Ok(Some(answer))
    }
}

impl Answer {
    /// Whether this is what a primary says that serves; else what is wrong.
    pub(crate) fn serves(&self, still_max: Duration) -> Result<(), String> {
        match self.mode.as_str() {
            "frozen" | "standalone" => {}
            "primary" if self.writable => {}
            "primary" => return Err("it takes no writes: its lease has ended".to_owned()),
            "latched" => return Err("it takes no writes: its log failed".to_owned()),
            mode => return Err(format!("it says that it is no primary but {mode}")),
        }
        match self.still {
            Some(still) if still >= still_max => {
                Err(format!("its log has not moved for {} ms: look at its disk", still.as_millis()))
            }
            _ => Ok(()),
        }
    }
}

/// A name in one of these slots; another each time, so that in the end every worker has been asked.
fn key_in(slots: &SlotSet) -> String {
    let mut name = String::new();
    for _ in 0..TRIES_MAX {
        name = format!("godwit:probe:{:x}", rand::random::<u32>());
        if slots.contains(Slot::of_key(name.as_bytes())) {
            break;
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probed(read: Reply, said: Reply) -> Result<Option<Answer>, String> {
        Probed { read, said }.answer()
    }

    fn said(mode: &str, still_ms: i64) -> Reply {
        let text = |text: &str| Reply::Bulk(text.as_bytes().to_vec());
        Reply::Array(vec![
            text("mode"),
            text(mode),
            text("of a later version"),
            Reply::Null,
            text("writable"),
            Reply::Integer(1),
            text("still-ms"),
            Reply::Integer(still_ms),
            text("lag-ms"),
            Reply::Integer(-1),
        ])
    }

    #[test]
    fn what_a_node_says_is_judged() {
        let max = Duration::from_secs(3);
        let serves = |mode, still| {
            probed(Reply::Integer(0), said(mode, still)).unwrap().unwrap().serves(max)
        };
        assert_eq!(serves("primary", 200), Ok(()));
        assert_eq!(serves("frozen", 200), Ok(()));
        assert!(serves("primary", 3_000).unwrap_err().contains("look at its disk"));
        assert!(serves("standby", 0).unwrap_err().contains("no primary but standby"));
        let error = |text: &str| Reply::Error(text.to_owned());
        assert_eq!(probed(error("NOAUTH Authentication required."), error("NOAUTH")), Ok(None));
        assert_eq!(probed(Reply::Integer(0), error("ERR unknown command 'x'")), Ok(None));
        let loading = probed(error("LOADING it is being filled"), said("loading", 0));
        assert!(loading.unwrap_err().contains("LOADING"));
        assert!(probed(Reply::Integer(0), Reply::Integer(1)).is_err());
    }

    #[test]
    fn a_key_is_in_the_slots_that_are_asked_about() {
        for slots in ["0-16383", "100-199", "7"] {
            let slots: SlotSet = slots.parse().unwrap();
            assert!(slots.contains(Slot::of_key(key_in(&slots).as_bytes())), "{slots}");
        }
    }
}
