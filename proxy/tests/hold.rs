//! A switch as a client sees it: writes wait, in order, and nothing is sent twice.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::{Duration, Instant};

use common::node::{Mode, Node};
use common::service::World;
use common::{bulk, eventually, ok};
use resp::reply::Reply;
use topology::Epoch;
use topology::members::Role;

const ALL: &[&str] = &["0-16383"];

/// A pipeline is still unanswered after this.
const A_WHILE: Duration = Duration::from_millis(150);

struct Pair {
    world: World,
    a: Node,
    b: Node,
}

fn pair() -> Pair {
    let pair = Pair { world: World::new(ALL, ALL), a: Node::start(), b: Node::start() };
    pair.world.says("a/0", &pair.a, Role::Primary, 1);
    pair.world.says("b/0", &pair.b, Role::Standby, 1);
    pair
}

#[test]
fn writes_wait_for_the_switch_and_go_to_the_new_primary_in_order() {
    let Pair { world, a, b } = pair();
    let proxy = world.proxy(&[]).ready();
    let mut client = proxy.client();
    assert_eq!(client.ask("SET k 0"), ok());
    a.mode(Mode::Refuse);
    let freeze = world.freeze(Duration::from_secs(60));
    world.registered("the proxy holds", |p| p.holding == Some(freeze));

    for n in 1..=5 {
        client.send(&format!("SET k {n}"));
    }
    client.send("GET k");
    assert!(!client.is_answered_within(A_WHILE));
    // Reads of others go on.
    assert_eq!(proxy.client().ask("GET k"), bulk("0"));

    world.swap(|record| record.committed("b", Vec::new()));
    assert!(!client.is_answered_within(A_WHILE), "b has not been promoted yet");
    world.says("b/0", &b, Role::Primary, 2);
    for _ in 1..=5 {
        assert_eq!(client.reply(), ok());
    }
    assert_eq!(client.reply(), bulk("5"));
    let expected: Vec<_> =
        (1..=5).map(|n| format!("SET k {n}")).chain(["GET k".to_owned()]).collect();
    assert_eq!(b.ran(), expected);
    assert_eq!(a.ran().iter().filter(|c| c.starts_with("SET")).count(), 1);
    let member = world.registered("the new epoch is acknowledged", |p| p.epoch == Epoch(2));
    assert_eq!(member.holding, None);
}

/// Whatever the proxy tells the registry hangs for five seconds, each time.
#[test]
fn a_registry_that_takes_no_key_delays_neither_a_freeze_nor_its_end() {
    /// Well below what a write to this registry takes.
    const SOON: Duration = Duration::from_secs(2);
    let Pair { world, b, .. } = pair();
    let proxy = world.proxy_with(&[], "registry-members-hang").ready();
    let mut client = proxy.client();
    assert_eq!(client.ask("SET k 0"), ok());
    let frozen = Instant::now();
    world.freeze(Duration::from_secs(60));
    // The node would answer: it is the proxy that holds.
    eventually("the proxy holds", || {
        client.send("SET k 1");
        let answered = client.is_answered_within(A_WHILE);
        if answered {
            assert_eq!(client.reply(), ok());
        }
        (!answered).then_some(())
    });
    assert!(frozen.elapsed() < SOON, "{:?}", frozen.elapsed());
    let switched = Instant::now();
    world.swap(|record| record.committed("b", Vec::new()));
    world.says("b/0", &b, Role::Primary, 2);
    assert_eq!(client.reply(), ok());
    assert!(switched.elapsed() < SOON, "{:?}", switched.elapsed());
    assert_eq!(b.ran(), ["SET k 1"]);
    assert!(world.service.view().proxies.is_empty(), "its key has never come");
}

#[test]
fn writes_that_a_node_refused_are_sent_again_in_order_after_a_cancel() {
    let Pair { world, a, b } = pair();
    let proxy = world.proxy(&[]).ready();
    let mut client = proxy.client();
    // The node hears of the freeze before the proxy does.
    a.mode(Mode::Refuse);
    for _ in 0..20 {
        client.send("INCR n");
    }
    client.send("GET n");
    eventually("the node refuses", || (a.state.lock().unwrap().refused > 0).then_some(()));
    world.freeze(Duration::from_secs(60));
    world.registered("the proxy holds", |p| p.holding.is_some());
    assert!(!client.is_answered_within(A_WHILE));
    a.mode(Mode::Answer);
    world.swap(|record| record.cancelled());
    world.says("a/0", &a, Role::Primary, 2);
    for n in 1..=20 {
        assert_eq!(client.reply(), Reply::Integer(n));
    }
    assert_eq!(client.reply(), bulk("20"));
    assert!(a.ran().contains(&"GODWIT.RESUME".to_owned()));
    assert!(b.ran().is_empty());
}

#[test]
fn a_node_that_refuses_for_a_moment_is_asked_again_without_news() {
    let Pair { world, a, .. } = pair();
    let proxy = world.proxy(&[]).ready();
    let mut clients: Vec<_> = (0..4).map(|_| proxy.client()).collect();
    a.mode(Mode::Refuse);
    for (number, client) in clients.iter_mut().enumerate() {
        for n in 0..10 {
            client.send(&format!("SET k{number} {n}"));
        }
        client.send(&format!("GET k{number}"));
    }
    eventually("the node refuses", || (a.state.lock().unwrap().refused > 3).then_some(()));
    a.mode(Mode::Answer);
    for client in &mut clients {
        for _ in 0..10 {
            assert_eq!(client.reply(), ok());
        }
        assert_eq!(client.reply(), bulk("9"));
    }
    for number in 0..4 {
        let of_key = format!("SET k{number} ");
        let ran: Vec<_> = a.ran().into_iter().filter(|c| c.starts_with(&of_key)).collect();
        let expected: Vec<_> = (0..10).map(|n| format!("{of_key}{n}")).collect();
        assert_eq!(ran, expected);
    }
}

#[test]
fn a_write_without_an_answer_is_unknown_and_is_not_sent_again() {
    let Pair { world, a, .. } = pair();
    let proxy = world.proxy(&[]).ready();
    let mut client = proxy.client();
    a.mode(Mode::BreakAtWrite);
    let reply = client.ask("INCR n");
    assert!(reply.as_error().unwrap().starts_with("UNKNOWN "), "{reply:?}");
    a.mode(Mode::Answer);
    assert_eq!(client.ask("GET n"), bulk("1"));
    assert!(
        proxy.page("/metrics").contains("unknown_outcomes_total{service=\"shop\",cluster=\"a\"} 1")
    );
}

#[test]
fn a_read_is_asked_again_when_the_connection_breaks() {
    let Pair { world, a, .. } = pair();
    let proxy = world.proxy(&[]).ready();
    let mut client = proxy.client();
    assert_eq!(client.ask("SET k 1"), ok());
    a.mode(Mode::BreakAtRead);
    assert_eq!(client.ask("GET k"), bulk("1"));
}

#[test]
fn a_silent_node_is_given_up() {
    let Pair { world, a, .. } = pair();
    let proxy = world.proxy(&["--request-timeout", "200ms"]).ready();
    let mut client = proxy.client();
    a.mode(Mode::Silent);
    let start = Instant::now();
    let reply = client.ask("SET k 1");
    assert!(reply.as_error().unwrap().starts_with("UNKNOWN "), "{reply:?}");
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_command_waits_only_so_long_and_so_much() {
    let Pair { world, a, .. } = pair();
    let proxy = world.proxy(&["--hold-time", "300ms", "--hold-bytes", "1KiB"]).ready();
    a.mode(Mode::Refuse);
    world.freeze(Duration::from_secs(60));
    world.registered("the proxy holds", |p| p.holding.is_some());
    let mut client = proxy.client();
    let reply = client.ask("SET k 1");
    let error = reply.as_error().unwrap();
    assert!(error.starts_with("TRYAGAIN ") && error.contains("was not run"), "{error}");
    let start = Instant::now();
    let reply = client.ask(&format!("SET k {}", "x".repeat(2000)));
    assert!(reply.as_error().unwrap().contains("hold-bytes"), "{reply:?}");
    assert!(start.elapsed() < Duration::from_millis(250));
    assert_eq!(a.ran().len(), 0);
}

/// No freeze, and no news: a proxy that is cut off from the registry sees this of an old primary.
#[test]
fn a_node_that_refuses_again_and_again_is_not_waited_for_longer_than_the_hold_time() {
    let Pair { world, a, .. } = pair();
    let proxy = world.proxy(&["--hold-time", "1s"]).ready();
    a.mode(Mode::Refuse);
    let mut client = proxy.client();
    let start = Instant::now();
    for n in 0..3 {
        client.send(&format!("SET k {n}"));
    }
    for _ in 0..3 {
        let reply = client.reply();
        let error = reply.as_error().unwrap();
        assert!(error.starts_with("TRYAGAIN ") && error.contains("was not run"), "{error}");
    }
    let waited = start.elapsed();
    assert!(waited >= Duration::from_secs(1) && waited < Duration::from_secs(3), "{waited:?}");
    assert!(a.state.lock().unwrap().refused > 3, "it was asked again meanwhile");
    assert_eq!(a.ran().iter().filter(|c| c.starts_with("SET")).count(), 0);
}

#[test]
fn a_freeze_whose_tool_died_is_cancelled_after_its_deadline() {
    let Pair { world, a, .. } = pair();
    let proxy = world.proxy(&[]).ready();
    world.freeze(Duration::from_millis(50));
    eventually("the freeze is cancelled", || world.record().freeze().is_none().then_some(()));
    assert_eq!(world.record().epoch, Epoch(2));
    world.says("a/0", &a, Role::Primary, 2);
    assert_eq!(proxy.client().ask("SET k 1"), ok());
}

#[test]
fn a_switch_to_other_shards_splits_what_was_held_anew() {
    let world = World::new(ALL, &["0-8191", "8192-16383"]);
    let (a, b0, b1) = (Node::start(), Node::start(), Node::start());
    world.says("a/0", &a, Role::Primary, 1);
    let proxy = world.proxy(&[]).ready();
    let mut client = proxy.client();
    a.mode(Mode::Refuse);
    // foo is in slot 12182, bar in 5061.
    client.send("MSET foo 1 bar 2");
    client.send("MGET bar foo none");
    client.send("DEL foo bar none");
    client.send("DBSIZE");
    eventually("the node refuses", || (a.state.lock().unwrap().refused > 0).then_some(()));
    world.freeze(Duration::from_secs(60));
    world.swap(|record| record.committed("b", Vec::new()));
    world.says("b/0", &b0, Role::Primary, 2);
    world.says("b/1", &b1, Role::Primary, 2);
    assert_eq!(client.reply(), ok());
    assert_eq!(client.reply(), Reply::Array(vec![bulk("2"), bulk("1"), Reply::Null]));
    assert_eq!(client.reply(), Reply::Integer(2));
    assert_eq!(client.reply(), Reply::Integer(0));
    assert_eq!(b0.ran()[0], "MSET bar 2");
    assert_eq!(b1.ran()[0], "MSET foo 1");
}

#[test]
fn two_shards_answer_as_one() {
    let world = World::new(&["0-8191", "8192-16383"], ALL);
    let (a0, a1) = (Node::start(), Node::start());
    world.says("a/0", &a0, Role::Primary, 1);
    world.says("a/1", &a1, Role::Primary, 1);
    let proxy = world.proxy(&[]).ready();
    let mut client = proxy.client();
    let mut set = "MSET".to_owned();
    let mut get = "MGET".to_owned();
    for n in 0..50 {
        set.push_str(&format!(" k{n} v{n}"));
        get.push_str(&format!(" k{n}"));
    }
    assert_eq!(client.ask(&set), ok());
    let values: Vec<_> = (0..50).map(|n| bulk(&format!("v{n}"))).collect();
    assert_eq!(client.ask(&get), Reply::Array(values));
    assert_eq!(client.ask("DBSIZE"), Reply::Integer(50));
    let mut keys = Vec::new();
    let mut cursor = "0".to_owned();
    loop {
        let reply = client.ask(&format!("SCAN {cursor}"));
        let parts = reply.as_array().unwrap().to_vec();
        keys.extend(parts[1].as_array().unwrap().iter().map(|k| k.as_text().unwrap().to_owned()));
        cursor = parts[0].as_text().unwrap().to_owned();
        if cursor == "0" {
            break;
        }
    }
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 50);
    let reply = client.ask("MSETNX foo 1 bar 2");
    assert!(reply.as_error().unwrap().starts_with("CROSSSLOT "));
    // Replies of a pipeline over both shards leave in its order.
    for n in 0..500 {
        client.send(&format!("GET k{}", n % 50));
    }
    for n in 0..500 {
        assert_eq!(client.reply(), bulk(&format!("v{}", n % 50)));
    }
    assert_eq!(client.ask("FLUSHALL"), ok());
    assert_eq!(client.ask("DBSIZE"), Reply::Integer(0));
}
