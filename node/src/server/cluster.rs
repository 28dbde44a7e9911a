//! CLUSTER: what can be said without the registry. Nodes here do not gossip: who is primary of what
//! comes from the service's record, and a shard has one node that clients may write to.

use std::fmt::Write as _;

use keyspace::meta::{self, Meta};
use keyspace::{SLOTS, Slot};
use resp::reply::Writer;
use sha1::{Digest, Sha1};

use super::session::{Session, Shared};
use crate::command::{Args, Fail};
use crate::control::Mode;
use crate::worker::View;

/// Slots from one to another, ends included.
type Range = (u16, u16);

/// A node that clients may be sent to.
struct Node {
    /// Forty hexadecimal digits that stay the same as long as the shard has its name.
    id: String,
    /// Where its clients connect; `None`: not known yet.
    address: Option<(String, u16)>,
    ranges: Vec<Range>,
    is_own: bool,
}

pub(super) fn cluster(
    session: &mut Session,
    args: &Args<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Fail> {
    let shared = session.shared.clone();
    let mut out = Writer::new(out, session.version);
    let sub = args.at(1).to_ascii_lowercase();
    if sub == b"keyslot" {
        out.integer(Slot::of_key(args.at(2)).number().into());
        return Ok(());
    }
    if shared.authority.mode() == Mode::Standalone {
        return Err(Fail::text("ERR This instance has cluster support disabled"));
    }
    let nodes = nodes(&shared);
    match &sub[..] {
        b"myid" | b"myshardid" => out.bulk(own_id(&shared).as_bytes()),
        b"info" => {
            let of =
                |node: &Node| node.ranges.iter().map(|(a, b)| u32::from(b - a) + 1).sum::<u32>();
            let assigned: u32 = nodes.iter().map(of).sum();
            let known = nodes.len();
            let state = if assigned == u32::from(SLOTS) { "ok" } else { "fail" };
            let text = format!(
                "cluster_enabled:1\r\ncluster_state:{state}\r\ncluster_slots_assigned:{assigned}\r\n\
                 cluster_slots_ok:{assigned}\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:0\r\n\
                 cluster_known_nodes:{known}\r\ncluster_size:{known}\r\n"
            );
            out.verbatim(*b"txt", text.as_bytes());
        }
        b"slots" => slots(&nodes, &mut out),
        b"shards" => shards(&nodes, &mut out),
        b"nodes" => out.verbatim(*b"txt", lines(&nodes).as_bytes()),
        b"links" => out.array(0),
        _ => return Err(super::unknown_subcommand_syntax(args)),
    }
    Ok(())
}

fn slots(nodes: &[Node], out: &mut Writer<'_>) {
    let all = || nodes.iter().flat_map(|node| node.ranges.iter().map(move |range| (node, *range)));
    out.array(all().count());
    for (node, (first, last)) in all() {
        out.array(3);
        out.integer(first.into());
        out.integer(last.into());
        out.array(4);
        match &node.address {
            Some((host, port)) => {
                out.bulk(host.as_bytes());
                out.integer((*port).into());
            }
            None => {
                out.null();
                out.integer(0);
            }
        }
        out.bulk(node.id.as_bytes());
        out.array(0);
    }
}

fn shards(nodes: &[Node], out: &mut Writer<'_>) {
    out.array(nodes.len());
    for node in nodes {
        out.map(2);
        out.bulk(b"slots");
        out.array(node.ranges.len() * 2);
        for (first, last) in &node.ranges {
            out.integer((*first).into());
            out.integer((*last).into());
        }
        out.bulk(b"nodes");
        out.array(1);
        let (host, port) = node.address.clone().unwrap_or_default();
        out.map(7);
        for (name, value) in [("id", &node.id), ("ip", &host), ("endpoint", &host)] {
            out.bulk(name.as_bytes());
            out.bulk(value.as_bytes());
        }
        out.bulk(b"port");
        out.integer(port.into());
        out.bulk(b"role");
        out.bulk(b"master");
        out.bulk(b"replication-offset");
        out.integer(0);
        out.bulk(b"health");
        out.bulk(if node.address.is_some() { b"online" } else { b"fail" });
    }
}

fn lines(nodes: &[Node]) -> String {
    let mut text = String::new();
    for node in nodes {
        let (host, port) = node.address.clone().unwrap_or_default();
        let flags = if node.is_own { "myself,master" } else { "master" };
        let link = if node.address.is_some() { "connected" } else { "disconnected" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{} {host}:{port}@0 {flags} - 0 0 0 {link}", node.id);
        for (first, last) in &node.ranges {
            let _ = match first == last {
                true => write!(text, " {first}"),
                false => write!(text, " {first}-{last}"),
            };
        }
        text.push('\n');
    }
    text
}

fn id_of(shard: &str) -> String {
    Sha1::digest(shard).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn own_id(shared: &Shared) -> String {
    match &shared.authority.routes().own {
        Some(own) => id_of(&own.to_string()),
        None => shared.run_id.clone(),
    }
}

/// The primaries of all slots, as far as they are known; only this one before the record is.
fn nodes(shared: &Shared) -> Vec<Node> {
    let routes = shared.authority.routes();
    let mut nodes: Vec<Node> = routes
        .primaries
        .iter()
        .map(|(shard, (slots, address))| Node {
            id: id_of(&shard.to_string()),
            address: address.as_deref().and_then(split),
            ranges: ranges(|slot| slots.contains(slot)),
            is_own: routes.own.as_ref() == Some(shard),
        })
        .collect();
    let own = ranges(|slot| shared.authority.owns(slot));
    let is_primary = matches!(shared.authority.mode(), Mode::Primary | Mode::Frozen);
    if is_primary && !nodes.iter().any(|node| node.is_own) {
        let address = Some((shared.address.ip().to_string(), shared.address.port()));
        nodes.push(Node { id: own_id(shared), address, ranges: own, is_own: true });
    }
    nodes
}

fn split(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    Some((host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?))
}

fn ranges(has: impl Fn(Slot) -> bool) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for slot in (0..SLOTS).filter_map(Slot::new).filter(|&slot| has(slot)) {
        let number = slot.number();
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    ranges
}

fn slot(args: &Args<'_>) -> Result<u16, Fail> {
    let number = args.integer(2).ok().and_then(|n| u16::try_from(n).ok());
    number.filter(|n| *n < SLOTS).ok_or(Fail::text("ERR Invalid slot"))
}

/// CLUSTER COUNTKEYSINSLOT.
pub(crate) fn count_keys(
    view: &mut View<'_>,
    args: &Args<'_>,
    out: &mut Writer<'_>,
) -> Result<(), Fail> {
    let mut count = 0;
    each(view, slot(args)?, |_| {
        count += 1;
        true
    })?;
    out.integer(count);
    Ok(())
}

/// CLUSTER GETKEYSINSLOT.
pub(crate) fn get_keys(
    view: &mut View<'_>,
    args: &Args<'_>,
    out: &mut Writer<'_>,
) -> Result<(), Fail> {
    let slot = slot(args)?;
    let wanted = args.integer(3).ok().and_then(|n| usize::try_from(n).ok());
    let wanted = wanted.ok_or(Fail::text("ERR Invalid number of keys"))?;
    let mut found: Vec<Vec<u8>> = Vec::new();
    if wanted > 0 {
        each(view, slot, |name| {
            found.push(name.to_vec());
            found.len() < wanted
        })?;
    }
    out.array(found.len());
    found.iter().for_each(|name| out.bulk(name));
    Ok(())
}

/// Looks at the live keys of a slot, until it has seen enough.
fn each(view: &mut View<'_>, slot: u16, mut look: impl FnMut(&[u8]) -> bool) -> Result<(), Fail> {
    let now_ms = view.now_ms;
    let mut keys = view.keys(slot.to_be_bytes().to_vec(), (slot + 1).to_be_bytes().to_vec())?;
    while let Some((key, value)) = keys.step()? {
        if Meta::decode(value)?.is_live(now_ms) && !look(meta::decode_key(key)?.1) {
            break;
        }
    }
    Ok(())
}
