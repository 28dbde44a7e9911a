//! PUBLISH and those who listen, in both versions of the protocol.

use std::time::{Duration, Instant};

use crate::node::Node;

#[test]
fn a_subscriber_of_the_second_version_hears_and_is_limited() {
    let node = Node::new();
    let (mut listener, mut speaker) = (node.client(), node.client());
    listener.say("SUBSCRIBE one two one");
    assert_eq!(listener.hear(), "[subscribe one 1]");
    assert_eq!(listener.hear(), "[subscribe two 2]");
    assert_eq!(listener.hear(), "[subscribe one 2]");
    assert_eq!(listener.ask("PSUBSCRIBE o* [ab]?"), "[psubscribe o* 3]");
    assert_eq!(listener.hear(), "[psubscribe [ab]? 4]");
    speaker.story(
        "PUBLISH one hello => 2
         PUBLISH two hello => 1
         PUBLISH nobody hello => 0
         PUBLISH b1 hello => 1
         PUBSUB CHANNELS t* => [two]
         PUBSUB NUMSUB one two three => [one 1 two 1 three 0]
         PUBSUB NUMPAT => 2",
    );
    assert_eq!(listener.hear(), "[message one hello]");
    assert_eq!(listener.hear(), "[pmessage o* one hello]");
    assert_eq!(listener.hear(), "[message two hello]");
    assert_eq!(listener.hear(), "[pmessage [ab]? b1 hello]");
    listener.story(
        "GET k => (ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context)
         PING => [pong ]
         PING x => [pong x]
         UNSUBSCRIBE one => [unsubscribe one 3]
         UNSUBSCRIBE => [unsubscribe two 2]
         UNSUBSCRIBE => [unsubscribe nil 2]
         PUNSUBSCRIBE o* => [punsubscribe o* 1]
         PUNSUBSCRIBE nope => [punsubscribe nope 1]
         PUNSUBSCRIBE => [punsubscribe [ab]? 0]
         PING => PONG
         GET k => nil",
    );
    assert_eq!(speaker.ask("PUBSUB CHANNELS"), "[]");
    assert_eq!(listener.ask("SSUBSCRIBE one"), "[ssubscribe one 1]");
    assert_eq!(speaker.ask("PUBLISH one x"), "0");
    assert_eq!(speaker.ask("SPUBLISH one x"), "1");
    assert_eq!(listener.hear(), "[smessage one x]");
    assert_eq!(listener.ask("RESET"), "RESET");
    assert_eq!(speaker.ask("SPUBLISH one x"), "0");
}

#[test]
fn what_is_piped_after_a_subscription_meets_it() {
    let node = Node::new();
    let mut client = node.client();
    client.send(b"SUBSCRIBE a\r\nGET k\r\nUNSUBSCRIBE\r\nGET k\r\n");
    assert_eq!(client.hear(), "[subscribe a 1]");
    assert!(client.hear().starts_with("(ERR Can't execute 'get'"));
    assert_eq!(client.hear(), "[unsubscribe a 0]");
    assert_eq!(client.hear(), "nil");
}

#[test]
fn a_subscriber_of_the_third_version_goes_on_asking() {
    let node = Node::new();
    let mut client = node.client();
    client.ask("HELLO 3");
    client.say("SUBSCRIBE foo");
    assert_eq!(client.hear(), "[subscribe foo 1]");
    assert_eq!(client.ask("SET k v"), "OK");
    assert_eq!(client.ask("PUBLISH foo self"), "1");
    assert_eq!(client.hear(), "[message foo self]");
    client.story(
        "MULTI => OK
         PING abc => QUEUED
         PUBLISH foo bar => QUEUED
         SET k w => QUEUED
         PUBLISH foo vaz => QUEUED
         EXEC => [abc 1 OK 1]",
    );
    assert_eq!(client.hear(), "[message foo bar]");
    assert_eq!(client.hear(), "[message foo vaz]");
    client.send(b"CLIENT REPLY OFF\r\nSUBSCRIBE quiet\r\nPUBLISH quiet x\r\n");
    assert_eq!(client.hear(), "[subscribe quiet 2]");
    assert_eq!(client.hear(), "[message quiet x]");
    assert_eq!(client.ask("CLIENT REPLY ON"), "OK");
    // A transaction that does not run says nothing.
    client
        .story("WATCH k => OK\nSET k x => OK\nMULTI => OK\nPUBLISH foo no => QUEUED\nEXEC => nil");
    assert_eq!(client.ask("PING"), "PONG");
}

#[test]
fn a_message_comes_after_the_write_that_it_tells_of() {
    let node = Node::new();
    let (mut listener, mut speaker, mut reader) = (node.client(), node.client(), node.client());
    listener.ask("SUBSCRIBE news");
    for n in 0..200 {
        let text = match n % 2 {
            0 => format!("SET k {n}\r\nPUBLISH news {n}\r\n"),
            _ => format!("MULTI\r\nSET k {n}\r\nSET other {n}\r\nPUBLISH news {n}\r\nEXEC\r\n"),
        };
        speaker.send(text.as_bytes());
        assert_eq!(listener.hear(), format!("[message news {n}]"));
        assert_eq!(reader.ask("GET k"), n.to_string());
    }
}

#[test]
fn a_subscriber_that_does_not_read_is_closed_and_counted() {
    let node = Node::new();
    let (mut listener, mut speaker) = (node.client(), node.client());
    listener.ask("SUBSCRIBE big");
    let message = "x".repeat(1 << 20);
    let deadline = Instant::now() + Duration::from_secs(20);
    while speaker.ask(&format!("PUBLISH big {message}")) == "1" {
        assert!(Instant::now() < deadline, "it is still there");
    }
    let info = speaker.ask("INFO stats");
    assert!(info.contains("client_output_buffer_limit_disconnections:1"), "{info}");
    assert_eq!(speaker.ask("PUBSUB NUMSUB big"), "[big 0]");
}
