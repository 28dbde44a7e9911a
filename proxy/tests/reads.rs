//! Reads of a zone at a standby: within a bound, and never at the cost of an answer.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::node::{Mode, Node};
use common::service::World;
use common::{Client, Proxy, bulk, eventually, ok};
use topology::Record;
use topology::members::Role;
use topology::record::Reads;

const ALL: &[&str] = &["0-16383"];
const HALVES: &[&str] = &["0-8191", "8192-16383"];

/// A service whose primary says `new` and whose two standbys say `old`, and a proxy of zone west.
struct Near {
    world: World,
    primary: Node,
    standbys: [Node; 2],
    proxy: Proxy,
}

fn near() -> Near {
    let world = World::new(ALL, HALVES);
    let (primary, standbys) = (Node::start(), [Node::start(), Node::start()]);
    world.says("a/0", &primary, Role::Primary, 1);
    for (number, node) in standbys.iter().enumerate() {
        node.state.lock().unwrap().lag_ms = Some(100);
        world.says(&format!("b/{number}"), node, Role::Standby, 1);
    }
    for (node, value) in [(&primary, "new"), (&standbys[0], "old"), (&standbys[1], "old")] {
        // One key of each half (CRC16: 15495 and 3300).
        let data = &mut node.state.lock().unwrap().data;
        data.extend(["a", "b"].map(|key| (key.to_owned(), value.to_owned())));
    }
    let proxy = world.proxy(&["--zone", "west"]).ready();
    Near { world, primary, standbys, proxy }
}

impl Near {
    fn route(&self, zone: &str) {
        let reads = Reads::to("b", 4_000);
        self.world.swap(|record| Record { reads: [(zone.to_owned(), reads)].into(), ..record });
    }

    /// Waits until the proxy says that reads are at b, or at home.
    fn out(&self, out: bool) {
        self.world.registered("the reads to move", |proxy| {
            proxy.reads.as_ref().is_some_and(|reads| reads.home.is_none() == out)
        });
    }
}

fn soon(client: &mut Client, line: &str, value: &str) {
    eventually(&format!("{line} to answer {value}"), || {
        (client.ask(line) == bulk(value)).then_some(())
    });
}

#[test]
fn reads_go_where_the_record_says_and_writes_never() {
    let near = near();
    let mut client = near.proxy.client();
    assert_eq!(client.ask("GET a"), bulk("new"));
    near.route("east");
    assert_eq!(client.ask("GET a"), bulk("new"), "another zone's routing is none of ours");
    near.route("west");
    near.out(true);
    soon(&mut client, "GET a", "old");
    assert_eq!(client.ask("GET b"), bulk("old"));
    // Over several shards, and some that go to the primaries all the same.
    let both = client.ask("MGET a b a");
    assert_eq!(both, resp::reply::Reply::Array(vec![bulk("old"), bulk("old"), bulk("old")]));
    assert_eq!(client.ask("DBSIZE"), resp::reply::Reply::Integer(2));
    assert_eq!(client.ask("SET a newer"), ok());
    assert_eq!(client.ask("GET a"), bulk("old"), "a client may not see its own write");
    for node in &near.standbys {
        assert!(node.ran().iter().all(|c| c.starts_with("GET") || c.starts_with("MGET")));
    }
    near.world.swap(|record| Record { reads: Default::default(), ..record });
    soon(&mut client, "GET a", "newer");
}

#[test]
fn a_standby_that_is_behind_or_refuses_sends_reads_home() {
    let near = near();
    near.route(Record::EVERYWHERE);
    near.out(true);
    let mut client = near.proxy.client();
    soon(&mut client, "GET a", "old");

    // It breaks off: the same read is answered by the primary.
    near.standbys.iter().for_each(|node| node.mode(Mode::BreakAtRead));
    assert_eq!([client.ask("GET a"), client.ask("GET b")], [bulk("new"), bulk("new")]);
    soon(&mut client, "GET a", "old");
    // It refuses, and is left alone for a while.
    near.standbys.iter().for_each(|node| node.mode(Mode::Loading));
    for _ in 0..50 {
        assert_eq!([client.ask("GET a"), client.ask("GET b")], [bulk("new"), bulk("new")]);
    }
    let refused: usize = near.standbys.iter().map(|n| n.state.lock().unwrap().refused).sum();
    assert!(refused <= 10, "{refused} reads were asked in vain");
    near.standbys.iter().for_each(|node| node.mode(Mode::Answer));
    soon(&mut client, "GET a", "old");

    // One shard is too far behind: all reads go home, and come back once it is well below the bound.
    near.standbys[1].state.lock().unwrap().lag_ms = Some(5_000);
    near.out(false);
    soon(&mut client, "GET a", "new");
    assert_eq!(client.ask("GET b"), bulk("new"));
    near.standbys[1].state.lock().unwrap().lag_ms = Some(3_000);
    near.out(false);
    assert_eq!(client.ask("GET a"), bulk("new"), "within the bound, and not well below");
    near.standbys[1].state.lock().unwrap().lag_ms = Some(10);
    near.out(true);
    soon(&mut client, "GET a", "old");
    assert!(near.primary.ran().iter().all(|c| c.starts_with("GET")));
    let page = near.proxy.page("/metrics");
    assert!(page.contains("godwit_proxy_reads_out{"), "{page}");
}
