//! CLUSTER: what can be said without the registry.

use keyspace::{SLOTS, Slot};
use resp::reply::Writer;

use super::hello::unknown_subcommand;
use super::session::{Session, Shared};
use crate::command::{Args, Fail};
use crate::control::Mode;

pub(super) fn cluster(
    session: &mut Session,
    args: &Args<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Fail> {
    let shared = session.shared.clone();
    let mut out = Writer::new(out, session.version);
    let sub = args.at(1).to_ascii_lowercase();
    if let (b"keyslot", 3) = (&sub[..], args.len()) {
        out.integer(Slot::of_key(args.at(2)).number().into());
        return Ok(());
    }
    if shared.authority.mode() == Mode::Standalone {
        return Err(Fail::text("ERR This instance has cluster support disabled"));
    }
    match (&sub[..], args.len()) {
        (b"myid", 2) => out.bulk(shared.run_id.as_bytes()),
        (b"info", 2) => {
            let owned = owned(&shared).iter().map(|(first, last)| last - first + 1).sum::<u16>();
            let text = format!(
                "cluster_enabled:1\r\ncluster_state:ok\r\ncluster_slots_assigned:{owned}\r\n\
                 cluster_slots_ok:{owned}\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:0\r\n"
            );
            out.verbatim(*b"txt", text.as_bytes());
        }
        // This node's own ranges; the proxy answers for the whole service.
        (b"slots", 2) => {
            let ranges = owned(&shared);
            out.array(ranges.len());
            for (first, last) in ranges {
                out.array(3);
                out.integer(first.into());
                out.integer(last.into());
                out.array(3);
                out.bulk(shared.address.ip().to_string().as_bytes());
                out.integer(shared.address.port().into());
                out.bulk(shared.run_id.as_bytes());
            }
        }
        _ => return Err(unknown_subcommand(args)),
    }
    Ok(())
}

/// The ranges of slots that this node holds, ends included.
fn owned(shared: &Shared) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for slot in (0..SLOTS).filter_map(Slot::new).filter(|&slot| shared.authority.owns(slot)) {
        let number = slot.number();
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    ranges
}
