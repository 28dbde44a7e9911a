//! Notifications of changed keys.

use crate::node::{Client, Node};

/// Asks commands, and says in one line what was told of them: `event key`.
fn told(writer: &mut Client, listener: &mut Client, commands: &str) -> String {
    for command in commands.lines() {
        writer.ask(command.trim());
    }
    writer.ask("PUBLISH __keyevent@0__:end .");
    let mut events = Vec::new();
    loop {
        let message = listener.hear();
        let message = message.trim_matches(['[', ']']);
        let (event, key) = message.rsplit_once("__:").unwrap().1.rsplit_once(' ').unwrap();
        if event == "end" {
            return events.join(", ");
        }
        events.push(format!("{event} {key}"));
    }
}

#[test]
fn each_command_tells_what_it_did() {
    let node = Node::new();
    let (mut writer, mut listener) = (node.client(), node.client());
    assert_eq!(writer.ask("CONFIG SET notify-keyspace-events EA"), "OK");
    assert_eq!(listener.ask("PSUBSCRIBE __keyevent@0__:*"), "[psubscribe __keyevent@0__:* 1]");
    for (commands, events) in [
        (
            "SET a 1\nSET a 1 NX\nSET a 1 EX 9\nAPPEND a x\nGETSET a 2\nINCR a\nDECR a",
            "set a, set a, expire a, append a, set a, incrby a, incrby a",
        ),
        (
            "SETRANGE a 1 xx\nSETBIT b 1 1\nMSET c 1 d 2\nGETEX c EX 9\nGETEX c PERSIST\nGETDEL d",
            "setrange a, setbit b, set c, set d, expire c, persist c, del d",
        ),
        (
            "DEL a b nope\nEXPIRE c 9\nPERSIST c\nEXPIRE c -1",
            "del a, del b, expire c, persist c, del c",
        ),
        (
            "RPUSH l a b c\nLPUSH l x\nLPOP l\nLSET l 0 z\nLINSERT l AFTER z y\nLTRIM l 0 1\nLREM l 0 y",
            "rpush l, lpush l, lpop l, lset l, linsert l, ltrim l, lrem l",
        ),
        ("LMOVE l m LEFT RIGHT\nBLPOP m 0\nBLPOP m 0.001", "rpush m, lpop l, del l, lpop m, del m"),
        (
            "SADD s a b\nSADD s a\nSREM s x\nSMOVE s t a\nSUNIONSTORE u s t\nSINTERSTORE u s t\nSPOP s",
            "sadd s, srem s, sadd t, sunionstore u, del u, spop s, del s",
        ),
        (
            "ZADD z 1 a 2 b\nZADD z 1 a\nZINCRBY z 1 a\nZPOPMIN z\nZRANGESTORE y z 0 -1\nZREMRANGEBYRANK y 0 -1\nZREM z a b",
            "zadd z, zincr z, zpopmin z, zrangestore y, zremrangebyrank y, del y, zrem z, del z",
        ),
        (
            "HSET h f 1\nHINCRBY h f 1\nHINCRBYFLOAT h f 1\nHSETNX h f 1\nHDEL h x\nHDEL h f",
            "hset h, hincrby h, hincrbyfloat h, hdel h, del h",
        ),
        (
            "SET a 1\nCOPY a b\nRENAME b c\nDEL a c",
            "set a, copy_to b, rename_from b, rename_to c, del a, del c",
        ),
        ("MULTI\nSET a 1\nDEL a\nEXEC\nMULTI\nSET a 1\nDISCARD", "set a, del a"),
        ("SET a 1 PX 1\nDEBUG NOPE\nGET nope", "set a, expire a"),
    ] {
        // What expires is told by itself, some time.
        let found = told(&mut writer, &mut listener, commands).replace(", expired a", "");
        assert_eq!(found, events, "{commands}");
    }
}

#[test]
fn only_wanted_classes_are_told_and_where_they_are_wanted() {
    let node = Node::new();
    let (mut writer, mut listener) = (node.client(), node.client());
    writer.story(
        "CONFIG GET notify-keyspace-events => [notify-keyspace-events ]
         CONFIG SET notify-keyspace-events q => (ERR CONFIG SET failed (possibly related to argument 'notify-keyspace-events') - Invalid event class character. Use 'Ag$lshzxeKEtmdn'.)
         CONFIG SET notify-keyspace-events KElnm => OK
         CONFIG GET notify-keyspace-events => [notify-keyspace-events lnKEm]",
    );
    listener.ask("PSUBSCRIBE *");
    writer.story("SET a 1 => OK\nGET nope => nil\nLPUSH l x => 1\nLPUSH l y => 2\nDEL nope => 0");
    for (channel, message) in [
        ("__keyspace@0__:a", "new"),
        ("__keyevent@0__:new", "a"),
        ("__keyspace@0__:nope", "keymiss"),
        ("__keyevent@0__:keymiss", "nope"),
        ("__keyspace@0__:l", "new"),
        ("__keyevent@0__:new", "l"),
        ("__keyspace@0__:l", "lpush"),
        ("__keyevent@0__:lpush", "l"),
        ("__keyspace@0__:l", "lpush"),
        ("__keyevent@0__:lpush", "l"),
    ] {
        assert_eq!(listener.hear(), format!("[pmessage * {channel} {message}]"));
    }
    writer.story("CONFIG SET notify-keyspace-events Ex => OK\nSET gone 1 PX 1 => OK");
    assert_eq!(listener.hear(), "[pmessage * __keyevent@0__:expired gone]");
    assert!(writer.ask("INFO stats").contains("expired_keys:1\r\n"));
}

#[test]
fn fields_that_are_deleted_when_their_time_has_come_are_told_of() {
    let node = Node::new();
    let (mut writer, mut listener) = (node.client(), node.client());
    assert_eq!(writer.ask("CONFIG SET notify-keyspace-events Ehg"), "OK");
    assert_eq!(listener.ask("PSUBSCRIBE __keyevent@0__:*"), "[psubscribe __keyevent@0__:* 1]");
    writer.story("HSET h a 1 b 2 => 2\nHPEXPIRE h 20 FIELDS 2 a b => [1 1]");
    let mut events: Vec<String> = Vec::new();
    while events.last().is_none_or(|event| event != "del h") {
        let message = listener.hear();
        let (_, event) = message.trim_matches(['[', ']']).rsplit_once("__:").unwrap();
        events.push(event.to_owned());
    }
    assert_eq!(events, ["hset h", "hexpire h", "hexpired h", "del h"]);
}
