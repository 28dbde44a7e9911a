//! CLUSTER: the proxy is the one node of a cluster, with every slot. So clients that want a Redis
//! Cluster find one, and send everything here.

use keyspace::{SLOTS, Slot};
use resp::reply::Writer;

use super::unknown_subcommand;
use crate::command::Request;
use crate::thread::Thread;

/// CLUSTER and its subcommands.
pub(super) fn cluster(out: &mut Writer<'_>, thread: &Thread, request: &Request<'_>) {
    let shared = &thread.shared;
    let address = shared.announce();
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
    let host = host.trim_matches(['[', ']']);
    let port_number: i64 = port.parse().unwrap_or(0);
    let id = shared.node_id.as_bytes();
    let last = i64::from(SLOTS) - 1;
    let sub = request.arg(1).to_ascii_uppercase();
    match (&*sub, request.len()) {
        (b"SLOTS", 2) => {
            out.array(1);
            out.array(3);
            out.integer(0);
            out.integer(last);
            out.array(4);
            out.bulk(host.as_bytes());
            out.integer(port_number);
            out.bulk(id);
            out.array(0);
        }
        (b"SHARDS", 2) => {
            out.array(1);
            out.map(2);
            out.bulk(b"slots");
            out.array(2);
            out.integer(0);
            out.integer(last);
            out.bulk(b"nodes");
            out.array(1);
            out.map(7);
            for (key, value) in [("id", &*shared.node_id), ("ip", host), ("endpoint", host)] {
                out.bulk(key.as_bytes());
                out.bulk(value.as_bytes());
            }
            out.bulk(b"port");
            out.integer(port_number);
            out.bulk(b"role");
            out.bulk(b"master");
            out.bulk(b"replication-offset");
            out.integer(0);
            out.bulk(b"health");
            out.bulk(b"online");
        }
        (b"NODES", 2) => {
            let bus = port_number + 10_000;
            let id = &shared.node_id;
            let line = format!(
                "{id} {host}:{port}@{bus} myself,master - 0 0 1 connected 0-{last}\n"
            );
            out.verbatim(*b"txt", line.as_bytes());
        }
        (b"INFO", 2) => out.verbatim(
            *b"txt",
            b"cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:1\r\ncluster_size:1\r\ncluster_current_epoch:1\r\ncluster_my_epoch:1\r\n",
        ),
        (b"KEYSLOT", 3) => out.integer(i64::from(Slot::of_key(request.arg(2)).number())),
        (b"MYID", 2) => out.bulk(id),
        _ => unknown_subcommand(out, request),
    }
}
