//! Commands that wait for others, and what ends their waiting.

use std::time::{Duration, Instant};

use crate::node::Node;

#[test]
fn who_came_first_is_served_first() {
    let node = Node::new();
    let (mut writer, mut first, mut second) = (node.client(), node.client(), node.client());
    first.say("BLPOP k 0");
    writer.see_waiting(1);
    second.say("BRPOP k 0");
    writer.see_waiting(2);
    assert_eq!(writer.ask("RPUSH k a b c"), "3");
    assert_eq!(first.hear(), "[k a]");
    assert_eq!(second.hear(), "[k c]");
    writer.story(
        "LRANGE k 0 -1 => [b]
         BLPOP none k 1 => [k b]
         EXISTS k => 0",
    );
    writer.see_waiting(0);
}

#[test]
fn keys_of_several_workers_are_waited_for_in_their_order() {
    let node = Node::new();
    let (mut writer, mut waiter, mut other) = (node.client(), node.client(), node.client());
    // Slots 9084, 11786, 13861: three workers.
    for round in 0..20 {
        waiter.say("BLPOP one a2 three 0");
        writer.see_waiting(1);
        let key = ["one", "a2", "three"][round % 3];
        assert_eq!(writer.ask(&format!("RPUSH {key} {round}")), "1");
        assert_eq!(waiter.hear(), format!("[{key} {round}]"));
    }
    waiter.say("BLPOP one a2 three 0");
    writer.see_waiting(1);
    other.say("BLPOP a2 0");
    writer.see_waiting(2);
    writer.story(
        "MULTI => OK
         RPUSH three in-3 => QUEUED
         RPUSH a2 in-2 left => QUEUED
         EXEC => [1 2]",
    );
    assert_eq!(waiter.hear(), "[a2 in-2]", "keys in the order of the arguments");
    assert_eq!(other.hear(), "[a2 left]", "who waits behind it gets what it leaves");
    writer.story("LRANGE three 0 -1 => [in-3]\nEXISTS a2 => 0");
}

#[test]
fn a_transaction_is_over_before_anybody_is_served() {
    let node = Node::new();
    let (mut writer, mut waiter) = (node.client(), node.client());
    waiter.say("BLPOP k 0");
    writer.see_waiting(1);
    writer.story(
        "MULTI => OK
         LPUSH k a => QUEUED
         DEL k => QUEUED
         BLPOP k 0 => QUEUED
         BLMOVE k k LEFT LEFT 0 => QUEUED
         SET k text => QUEUED
         EXEC => [1 1 nil nil OK]
         DEL k => 1
         ZADD k 1 m => 1
         DEL k => 1",
    );
    writer.see_waiting(1);
    assert_eq!(writer.ask("LPUSH k b"), "1");
    assert_eq!(waiter.hear(), "[k b]");
}

#[test]
fn moves_go_from_one_who_waits_to_the_next() {
    let node = Node::new();
    let mut writer = node.client();
    let (mut first, mut second, mut third) = (node.client(), node.client(), node.client());
    first.say("BLMOVE one a2 LEFT RIGHT 0");
    writer.see_waiting(1);
    second.say("BRPOPLPUSH a2 three 0");
    writer.see_waiting(2);
    third.say("BLMPOP 0 2 d three LEFT COUNT 10");
    writer.see_waiting(3);
    assert_eq!(writer.ask("RPUSH one x"), "1");
    assert_eq!(first.hear(), "x");
    assert_eq!(second.hear(), "x");
    assert_eq!(third.hear(), "[three [x]]");
    first.say("BLMOVE one a2 LEFT RIGHT 0");
    writer.see_waiting(1);
    writer.story("SET a2 text => OK\nRPUSH one y => 1");
    assert!(first.hear().starts_with("(WRONGTYPE"));
    writer.story("LRANGE one 0 -1 => [y]");
}

#[test]
fn sorted_sets_are_popped_too() {
    let node = Node::new();
    let (mut writer, mut waiter) = (node.client(), node.client());
    waiter.ask("HELLO 3");
    for (command, answer) in [
        ("BZPOPMIN z y 0", "[z a ,1]"),
        ("BZPOPMAX y z 0", "[z c ,3]"),
        ("BZMPOP 0 2 y z MAX COUNT 2", "[z [[c ,3] [b ,2]]]"),
    ] {
        waiter.say(command);
        writer.see_waiting(1);
        assert_eq!(writer.ask("ZADD z 2 b 1 a 3 c"), "3");
        assert_eq!(waiter.hear(), answer);
        writer.ask("DEL z");
    }
}

#[test]
fn waiting_ends_by_time_by_order_and_with_its_client() {
    let node = Node::new();
    let (mut writer, mut waiter) = (node.client(), node.client());
    let id = waiter.ask("CLIENT ID");
    let began = Instant::now();
    assert_eq!(waiter.ask("BLPOP k 0.1"), "nil");
    assert!(began.elapsed() >= Duration::from_millis(100), "it had 100 ms");
    assert_eq!(writer.ask(&format!("CLIENT UNBLOCK {id}")), "0");
    waiter.say("BLPOP one a2 three 0");
    writer.see_waiting(1);
    assert!(writer.ask(&format!("CLIENT LIST ID {id}")).contains(" flags=b "));
    assert_eq!(writer.ask(&format!("CLIENT UNBLOCK {id} TIMEOUT")), "1");
    assert_eq!(waiter.hear(), "nil");
    waiter.say("BZPOPMIN one a2 three 0");
    writer.see_waiting(1);
    assert_eq!(writer.ask(&format!("CLIENT UNBLOCK {id} ERROR")), "1");
    assert_eq!(waiter.hear(), "(UNBLOCKED client unblocked via CLIENT UNBLOCK)");
    assert_eq!(waiter.ask("PING"), "PONG");
    waiter.story(
        "BLPOP k -1 => (ERR timeout is negative)
         BLPOP k x => (ERR timeout is not a float or out of range)
         BLMPOP 1 0 k LEFT => (ERR numkeys should be greater than 0)
         CLIENT UNBLOCK x => (ERR value is not an integer or out of range)
         CLIENT UNBLOCK 1 SOON => (ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR)",
    );
    waiter.say("BLPOP k a 0");
    writer.see_waiting(1);
    drop(waiter);
    writer.see_waiting(0);
    writer.story("RPUSH k kept => 1\nLRANGE k 0 -1 => [kept]");
}

#[test]
fn what_is_piped_around_a_call_that_waits_keeps_its_order() {
    let node = Node::new();
    let (mut writer, mut waiter) = (node.client(), node.client());
    waiter.send(b"SET a 1\r\nGET a\r\nBLPOP k 0\r\nGET a\r\nBLPOP k 0\r\nGET a\r\n");
    assert_eq!(waiter.hear(), "OK", "what came before is answered while it waits");
    assert_eq!(waiter.hear(), "1");
    writer.see_waiting(1);
    // Read while it waits, and run behind it.
    waiter.send(b"SET a 3\r\nGET a\r\n");
    writer.story("SET a 2 => OK\nRPUSH k x => 1");
    assert_eq!(waiter.hear(), "[k x]");
    assert_eq!(waiter.hear(), "2");
    writer.see_waiting(1);
    writer.story("RPUSH k y => 1");
    for expected in ["[k y]", "2", "OK", "3"] {
        assert_eq!(waiter.hear(), expected);
    }
}
