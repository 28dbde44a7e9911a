//! The nodes of a cloud, read directly and by nobody's leave but their own.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use keyspace::{Slot, SlotSet};
use resp::reply::Reply;

use crate::client::Client;
use crate::clouds::Cloud;

/// Reads sent before their answers are read.
const PIPELINE: usize = 500;

/// Connections to every node of a cloud.
pub struct Survivors(Vec<(SlotSet, Client)>);

impl Survivors {
    /// Connects to each node, past every proxy; standby nodes answer too.
    pub fn of(cloud: &Cloud) -> Result<Self> {
        let mut nodes = Vec::new();
        for shard in &cloud.shards {
            let slots = shard.slots.parse::<SlotSet>()?;
            let mut client = Client::connect(&shard.node.client)?;
            client.call(&["READONLY"])?;
            nodes.push((slots, client));
        }
        Ok(Self(nodes))
    }

    /// Asks each key's node; the answers in the order of the commands, whose second word is the key.
    /// An error is an answer too: the rules call it damage.
    pub fn ask(&mut self, commands: &[Vec<String>]) -> Result<Vec<Reply>> {
        let mut by_node: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, command) in commands.iter().enumerate() {
            let key = command.get(1).context("a command without a key")?;
            let slot = Slot::of_key(key.as_bytes());
            let node = self.0.iter().position(|(slots, _)| slots.contains(slot));
            by_node.entry(node.context("a slot that no node holds")?).or_default().push(at);
        }
        let mut answers = vec![Reply::Null; commands.len()];
        for (node, all) in by_node {
            let (_, client) = self.0.get_mut(node).context("a node of the cloud")?;
            for part in all.chunks(PIPELINE) {
                part.iter().filter_map(|at| commands.get(*at)).for_each(|c| client.push(c));
                client.flush()?;
                for at in part {
                    let reply = client.answer()?;
                    if let Some(slot) = answers.get_mut(*at) {
                        *slot = reply;
                    }
                }
            }
        }
        Ok(answers)
    }
}
