//! Streams and consumer groups, with Redis 7.2's replies.

use crate::node::Node;

#[test]
fn entries_and_ranges() {
    Node::new().client().story(
        "XADD s 1-1 a 1 b 2 => 1-1
         XADD s 1-* c 3 => 1-2
         XADD s 5 d 4 => 5-0
         XADD s 5-0 d 4 => (ERR The ID specified in XADD is equal or smaller than the target stream top item)
         XADD s 0-0 d 4 => (ERR The ID specified in XADD must be greater than 0-0)
         XADD s x d 4 => (ERR Invalid stream ID specified as stream command argument)
         XADD s * d => (ERR wrong number of arguments for 'xadd' command)
         XADD none NOMKSTREAM * d 4 => nil
         EXISTS none => 0
         XLEN s => 3
         XRANGE s - + => [[1-1 [a 1 b 2]] [1-2 [c 3]] [5-0 [d 4]]]
         XRANGE s (1-1 5 COUNT 1 => [[1-2 [c 3]]]
         XREVRANGE s (5-0 - => [[1-2 [c 3]] [1-1 [a 1 b 2]]]
         XRANGE s 2 4 => []
         XDEL s 1-1 1-1 9-9 => 1
         XRANGE s - + => [[1-2 [c 3]] [5-0 [d 4]]]
         XSETID s 4-0 => (ERR The ID specified in XSETID is smaller than the target stream top item)
         XSETID s 9-9 ENTRIESADDED 20 MAXDELETEDID 3-0 => OK
         XADD s 9-9 e 5 => (ERR The ID specified in XADD is equal or smaller than the target stream top item)
         XADD s 10 e 5 => 10-0
         TYPE s => stream
         OBJECT ENCODING s => stream
         SCAN 0 TYPE stream => [0 [s]]
         XDEL s 1-2 5-0 10-0 => 3
         XLEN s => 0
         EXISTS s => 1
         GET s => (WRONGTYPE Operation against a key holding the wrong kind of value)
         SET t v => OK
         XADD t * a 1 => (WRONGTYPE Operation against a key holding the wrong kind of value)
         XLEN t => (WRONGTYPE Operation against a key holding the wrong kind of value)
         DEL s => 1
         XRANGE s - + => []
         XADD s 1 a 1 => 1-0
         XRANGE s - + => [[1-0 [a 1]]]",
    );
}

#[test]
fn trimming_takes_from_the_head() {
    let node = Node::new();
    let mut client = node.client();
    for id in 1..=250 {
        assert_eq!(client.ask(&format!("XADD s {id} n {id}")), format!("{id}-0"));
    }
    client.story(
        "XTRIM s MAXLEN ~ 170 => 0
         XTRIM s MAXLEN ~ 150 => 100
         XTRIM s MAXLEN = 149 => 1
         XRANGE s - + COUNT 1 => [[102-0 [n 102]]]
         XTRIM s MINID 105 => 3
         XTRIM s MINID ~ 190 => 0
         XTRIM s MINID ~ 201 => 96
         XLEN s => 50
         XADD s MAXLEN 2 300 n 300 => 300-0
         XRANGE s - + => [[250-0 [n 250]] [300-0 [n 300]]]
         XADD s MAXLEN 0 301 n 301 => 301-0
         XLEN s => 0
         XADD s MINID 400 302 n 302 => 302-0
         XLEN s => 0
         XTRIM s MAXLEN 5 LIMIT 5 => (ERR syntax error, LIMIT cannot be used without the special ~ option)
         XTRIM s LIMIT 5 MAXLEN ~ 5 MINID 3 => (ERR syntax error, MAXLEN and MINID options at the same time are not compatible)
         CONFIG SET stream-node-max-entries 2 => OK",
    );
    for id in 401..=405 {
        assert_eq!(client.ask(&format!("XADD s {id} n {id}")), format!("{id}-0"));
    }
    client.story(
        "XTRIM s MAXLEN ~ 0 LIMIT 3 => 2
         XTRIM s MAXLEN ~ 0 LIMIT 2 => 2
         XTRIM s MAXLEN ~ 1 => 0
         XADD s MAXLEN ~ 1 406 n 406 => 406-0
         XRANGE s - + => [[405-0 [n 405]] [406-0 [n 406]]]
         CONFIG SET stream-node-max-entries 100 => OK",
    );
}

#[test]
fn a_group_delivers_each_entry_once() {
    let node = Node::new();
    let mut client = node.client();
    client.story(
        "XGROUP CREATE s g $ => (ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.)
         XGROUP CREATE s g $ MKSTREAM => OK
         XGROUP CREATE s g $ => (BUSYGROUP Consumer Group name already exists)
         XADD s 1 a 1 => 1-0
         XADD s 2 b 2 => 2-0
         XADD s 3 c 3 => 3-0
         XREADGROUP GROUP g alice COUNT 1 STREAMS s > => [[s [[1-0 [a 1]]]]]
         XREADGROUP GROUP g bob STREAMS s > => [[s [[2-0 [b 2]] [3-0 [c 3]]]]]
         XREADGROUP GROUP g bob STREAMS s > => nil
         XREADGROUP GROUP g bob COUNT 1 STREAMS s 2 => [[s [[3-0 [c 3]]]]]
         XREADGROUP GROUP none bob STREAMS s > => (NOGROUP No such key 's' or consumer group 'none' in XREADGROUP with GROUP option)
         XPENDING s g => [3 1-0 3-0 [[alice 1] [bob 2]]]
         XACK s g 2 2 9 => 1
         XPENDING s g => [2 1-0 3-0 [[alice 1] [bob 1]]]
         XDEL s 1 => 1
         XREADGROUP GROUP g alice STREAMS s 0 => [[s [[1-0 nil]]]]
         XCLAIM s g bob 0 1 3 JUSTID => [3-0]
         XPENDING s g => [1 3-0 3-0 [[bob 1]]]
         XAUTOCLAIM s g carol 0 - JUSTID => [0-0 [3-0] []]
         XCLAIM s g dave 0 2 FORCE => [[2-0 [b 2]]]
         XPENDING s g => [2 2-0 3-0 [[carol 1] [dave 1]]]
         XPENDING s g - + 10 nobody => []
         XPENDING s g IDLE 100000 - + 10 => []
         XGROUP DELCONSUMER s g carol => 1
         XGROUP CREATECONSUMER s g carol => 1
         XGROUP CREATECONSUMER s g carol => 0
         XPENDING s g => [1 2-0 2-0 [[dave 1]]]
         XGROUP SETID s g 0 => OK
         XREADGROUP GROUP g eve NOACK STREAMS s > => [[s [[2-0 [b 2]] [3-0 [c 3]]]]]
         XPENDING s g => [1 2-0 2-0 [[dave 1]]]
         XGROUP SETID s g 0 => OK
         XREADGROUP GROUP g eve STREAMS s > => [[s [[2-0 [b 2]] [3-0 [c 3]]]]]
         XPENDING s g => [2 2-0 3-0 [[eve 2]]]
         XADD s 4 d 4 => 4-0
         XREADGROUP GROUP g eve STREAMS s s > > => [[s [[4-0 [d 4]]]]]
         XPENDING s g => [3 2-0 4-0 [[eve 3]]]
         XINFO GROUPS s => [[name g consumers 5 pending 3 last-delivered-id 4-0 entries-read 4 lag 0]]
         XGROUP DESTROY s g => 1
         XGROUP DESTROY s g => 0
         XGROUP CREATE s streams 3 => OK
         XREADGROUP GROUP streams count STREAMS s > => [[s [[4-0 [d 4]]]]]
         XGROUP DESTROY s streams => 1
         XINFO GROUPS s => []
         XGROUP CREATE s g 0 => OK
         XPENDING s g => [0 nil nil nil]",
    );
}

#[test]
fn what_is_told_of_a_stream() {
    let node = Node::new();
    let mut client = node.client();
    client.story(
        "XADD s 1 a 1 => 1-0
         XADD s 2 b 2 => 2-0
         XGROUP CREATE s g 0 ENTRIESREAD 1 => OK
         XGROUP CREATE s h 2 => OK
         XINFO STREAM s => [length 2 radix-tree-keys 1 radix-tree-nodes 2 last-generated-id 2-0 max-deleted-entry-id 0-0 entries-added 2 recorded-first-entry-id 1-0 groups 2 first-entry [1-0 [a 1]] last-entry [2-0 [b 2]]]
         XINFO GROUPS s => [[name g consumers 0 pending 0 last-delivered-id 0-0 entries-read 1 lag 1] [name h consumers 0 pending 0 last-delivered-id 2-0 entries-read nil lag 0]]
         XINFO CONSUMERS s none => (NOGROUP No such consumer group 'none' for key name 's')
         XINFO STREAM none => (ERR no such key)
         XINFO NOPE s => (ERR unknown subcommand 'NOPE'. Try XINFO HELP.)
         XINFO GROUPS => (ERR wrong number of arguments for 'xinfo|groups' command)
         XINFO STREAM s COUNT => (ERR unknown subcommand or wrong number of arguments for 'STREAM'. Try XINFO HELP.)
         XREADGROUP GROUP g alice STREAMS s > => [[s [[1-0 [a 1]] [2-0 [b 2]]]]]
         XACK s g 1 => 1",
    );
    let full = client.ask("XINFO STREAM s FULL");
    assert!(full.contains("entries [[1-0 [a 1]] [2-0 [b 2]]] groups [[name g"), "{full}");
    assert!(full.contains("pel-count 1 pending [[2-0 alice"), "{full}");
    let consumers = client.ask("XINFO CONSUMERS s g");
    assert!(consumers.starts_with("[[name alice pending 1 idle "), "{consumers}");
    assert!(client.ask("HELLO 3").starts_with('{'));
    assert_eq!(client.ask("XREAD STREAMS s 1"), "{s [[2-0 [b 2]]]}");
    assert_eq!(client.ask("XREAD STREAMS s 2"), "nil");
    assert!(client.ask("XINFO STREAM s").starts_with("{length 2 "));
}

#[test]
fn copies_renames_and_dumps_have_all_of_a_stream() {
    let node = Node::new();
    let (mut client, mut redis) = (node.client(), node.redis());
    client.story(
        "XADD {k}s 1 a 1 => 1-0
         XADD {k}s 2 a 2 => 2-0
         XADD {k}s 3 b 3 c 4 => 3-0
         XDEL {k}s 2 => 1
         XGROUP CREATE {k}s g 0 => OK
         XGROUP CREATE {k}s idle $ => OK
         XREADGROUP GROUP g alice COUNT 1 STREAMS {k}s > => [[{k}s [[1-0 [a 1]]]]]
         XREADGROUP GROUP g bob NOACK STREAMS {k}s > => [[{k}s [[3-0 [b 3 c 4]]]]]
         COPY {k}s {k}copy => 1
         RENAME {k}s {k}t => OK",
    );
    let payload: Vec<u8> = redis::cmd("DUMP").arg("{k}t").query(&mut redis).unwrap();
    let mut restore = redis::cmd("RESTORE");
    restore.arg("{k}restored").arg(0).arg(&payload).exec(&mut redis).unwrap();
    let told = |client: &mut crate::node::Client, key: &str| {
        client.ask(&format!("XINFO STREAM {key} FULL"))
    };
    let original = told(&mut client, "{k}t");
    assert!(original.contains("max-deleted-entry-id 2-0 entries-added 3"), "{original}");
    assert_eq!(told(&mut client, "{k}copy"), original);
    assert_eq!(told(&mut client, "{k}restored"), original);
    let again: Vec<u8> = redis::cmd("DUMP").arg("{k}restored").query(&mut redis).unwrap();
    assert_eq!(again, payload);
    client.story(
        "EXISTS {k}s => 0
         XADD {k}restored 4 d 5 => 4-0
         XLEN {k}t => 2
         XREADGROUP GROUP g carol STREAMS {k}restored > => [[{k}restored [[4-0 [d 5]]]]]",
    );
    assert!(client.ask("MEMORY USAGE {k}restored").parse::<u64>().unwrap() > 300);
}

/// What Redis 7.0 dumped of a stream with a group and a pending entry.
#[test]
fn a_stream_of_an_earlier_version_is_restored() {
    let node = Node::new();
    let (mut client, mut redis) = (node.client(), node.redis());
    let redis_7: &[u8] = b"\x13\x01\x10\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x1D\x1D\x00\x00\x00\x0A\x00\x01\x01\x00\x01\x01\x01\x81\x66\x02\x00\x01\x02\x01\x00\x01\x00\x01\x81\x76\x02\x04\x01\xFF\x01\x01\x01\x01\x01\x00\x00\x01\x01\x01\x67\x01\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\xF5\x5A\x71\xC7\x84\x01\x00\x00\x01\x01\x05\x41\x6C\x69\x63\x65\xF5\x5A\x71\xC7\x84\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x0B\x00\xA7\xA9\x14\xA5\x27\xFF\x9B\x9B";
    redis::cmd("RESTORE").arg("x").arg(0).arg(redis_7).exec(&mut redis).unwrap();
    assert_eq!(
        client.ask("XINFO STREAM x FULL"),
        "[length 1 radix-tree-keys 1 radix-tree-nodes 2 last-generated-id 1-1 max-deleted-entry-id 0-0 \
         entries-added 1 recorded-first-entry-id 1-1 entries [[1-1 [f v]]] groups [[name g \
         last-delivered-id 1-1 entries-read 1 lag 0 pel-count 1 pending [[1-1 Alice 1669793405685 1]] \
         consumers [[name Alice seen-time 1669793405685 active-time 1669793405685 pel-count 1 pending \
         [[1-1 1669793405685 1]]]]]]]"
    );
}

#[test]
fn readers_wait_for_entries() {
    let node = Node::new();
    let (mut writer, mut one, mut two) = (node.client(), node.client(), node.client());
    assert_eq!(writer.ask("XADD s 1 a 1"), "1-0");
    one.say("XREAD BLOCK 0 STREAMS none s $ $");
    two.say("XREAD BLOCK 0 COUNT 1 STREAMS s 1");
    writer.see_waiting(2);
    // Nothing for those who wait: it is gone again when they look.
    writer.story("XADD none MAXLEN 0 1 x y => 1-0\nLPUSH list x => 1");
    writer.see_waiting(2);
    assert_eq!(writer.ask("XADD s 2 b 2"), "2-0");
    assert_eq!(one.hear(), "[[s [[2-0 [b 2]]]]]");
    assert_eq!(two.hear(), "[[s [[2-0 [b 2]]]]]");
    assert_eq!(one.ask("XREAD BLOCK 1 STREAMS s $"), "nil");
    assert_eq!(one.ask("XREAD BLOCK -1 STREAMS s $"), "(ERR timeout is negative)");
    writer.see_waiting(0);
}

#[test]
fn consumers_wait_for_entries_and_for_the_end_of_their_group() {
    let node = Node::new();
    let (mut writer, mut alice, mut bob) = (node.client(), node.client(), node.client());
    assert_eq!(writer.ask("XGROUP CREATE s g $ MKSTREAM"), "OK");
    alice.say("XREADGROUP GROUP g alice BLOCK 0 STREAMS s >");
    writer.see_waiting(1);
    bob.say("XREADGROUP GROUP g bob BLOCK 0 STREAMS s >");
    writer.see_waiting(2);
    // They are there while they wait.
    let groups = writer.ask("XINFO GROUPS s");
    assert!(groups.starts_with("[[name g consumers 2 pending 0"), "{groups}");
    assert_eq!(writer.ask("XADD s 1 a 1"), "1-0");
    assert_eq!(alice.hear(), "[[s [[1-0 [a 1]]]]]");
    writer.see_waiting(1);
    assert_eq!(writer.ask("XPENDING s g"), "[1 1-0 1-0 [[alice 1]]]");
    assert_eq!(writer.ask("XGROUP DESTROY s g"), "1");
    let no_group =
        "(NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option)";
    assert_eq!(bob.hear(), no_group);
    assert_eq!(writer.ask("XGROUP CREATE s g $"), "OK");
    alice.say("XREADGROUP GROUP g alice BLOCK 0 STREAMS s >");
    writer.see_waiting(1);
    assert_eq!(writer.ask("DEL s"), "1");
    assert_eq!(alice.hear(), no_group);
    assert_eq!(writer.ask("XGROUP CREATE s g $ MKSTREAM"), "OK");
    alice.say("XREADGROUP GROUP g alice BLOCK 0 STREAMS s >");
    writer.see_waiting(1);
    assert_eq!(writer.ask("FLUSHALL"), "OK");
    assert_eq!(alice.hear(), no_group);
    assert_eq!(alice.ask("XREADGROUP GROUP g alice BLOCK 0 STREAMS s 0"), no_group);
}

#[test]
fn a_transaction_sees_its_own_stream() {
    Node::new().client().story(
        "MULTI => OK
         XADD s 1 a 1 => QUEUED
         XGROUP CREATE s g 0 => QUEUED
         XREADGROUP GROUP g c BLOCK 0 STREAMS s > => QUEUED
         XREAD BLOCK 0 STREAMS s $ => QUEUED
         XADD s MAXLEN 1 2 b 2 => QUEUED
         XRANGE s - + => QUEUED
         XAUTOCLAIM s g d 0 - => QUEUED
         XPENDING s g => QUEUED
         EXEC => [1-0 OK [[s [[1-0 [a 1]]]]] nil 2-0 [[2-0 [b 2]]] [0-0 [] [1-0]] [0 nil nil nil]]
         XINFO GROUPS s => [[name g consumers 2 pending 0 last-delivered-id 1-0 entries-read 1 lag 1]]",
    );
}

#[test]
fn changes_of_streams_are_told() {
    let node = Node::new();
    let (mut client, mut listener) = (node.client(), node.client());
    assert_eq!(client.ask("CONFIG SET notify-keyspace-events Kt"), "OK");
    assert_eq!(listener.ask("SUBSCRIBE __keyspace@0__:s"), "[subscribe __keyspace@0__:s 1]");
    client.story(
        "XADD s 1 a 1 => 1-0
         XADD s MAXLEN 1 2 b 2 => 2-0
         XGROUP CREATE s g 0 => OK
         XREADGROUP GROUP g alice STREAMS s > => [[s [[2-0 [b 2]]]]]
         XGROUP CREATECONSUMER s g bob => 1
         XGROUP DELCONSUMER s g bob => 0
         XGROUP SETID s g 0 => OK
         XGROUP DESTROY s g => 1
         XDEL s 2 3 => 1
         XSETID s 9 => OK
         XTRIM s MAXLEN 0 => 0",
    );
    for event in [
        "xadd",
        "xadd",
        "xtrim",
        "xgroup-create",
        "xgroup-createconsumer",
        "xgroup-createconsumer",
        "xgroup-delconsumer",
        "xgroup-setid",
        "xgroup-destroy",
        "xdel",
        "xsetid",
    ] {
        assert_eq!(listener.hear(), format!("[message __keyspace@0__:s {event}]"));
    }
}
