//! Digests are equal, or say that they are not.

use crate::cloud::{Node, command, eventually};
use crate::ship::{compare, pair, ship};

async fn write(a: &Node) {
    for i in 0..20 {
        a.run(&format!("SET plain:{i} value")).unwrap();
        a.run(&format!("SET expiring:{i} value PX 600000")).unwrap();
        a.run(&format!("HSET hash:{i} one 1 two 2")).unwrap();
        a.run(&format!("ZADD zset:{i} 1.5 one 2 two")).unwrap();
        a.run(&format!("RPUSH list:{i} one two three")).unwrap();
        a.run(&format!("SADD set:{i} one two")).unwrap();
        a.run(&format!("XADD stream:{i} 1 field one")).unwrap();
        a.run(&format!("XADD stream:{i} 2 field two")).unwrap();
        a.run(&format!("XGROUP CREATE stream:{i} group 0")).unwrap();
        a.run(&format!("XREADGROUP GROUP group alice STREAMS stream:{i} >")).unwrap();
        a.run(&format!("XACK stream:{i} group 1")).unwrap();
        a.run(&format!("XADD stream:{i} MAXLEN 2 3 field three")).unwrap();
    }
    a.run("SET gone value PX 1").unwrap();
    a.run("DEL hash:0").unwrap();
    a.run("LPOP list:0").unwrap();
    eventually("a key expires", || async { a.get("gone").is_none().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn digests_of_both_sides_are_equal_at_one_position() {
    let (_cloud, a, b) = pair("").await;
    write(&a).await;
    let (left, right) = compare(&a, &b).await;
    assert_eq!(left, right);
    assert_eq!(left.total.keys, 1 + 20 * 7 - 1);
    assert!(left.total.bytes > 1_000);
    a.run("SET plain:0 other").unwrap();
    let (later, _) = compare(&a, &b).await;
    assert_ne!(later.total.digest, left.total.digest);
    let left: Vec<_> = left.slots.values().collect();
    let changed = later.slots.values().zip(left).filter(|(now, then)| now != then).count();
    assert_eq!(changed, 1, "one slot");
}

/// Asks as a standby's client does.
fn ask<T: redis::FromRedisValue>(node: &Node, line: &str) -> T {
    let mut connection = node.connection();
    let _: redis::Value = redis::cmd("READONLY").query(&mut connection).unwrap();
    command(line).query(&mut connection).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_fields_are_hidden_at_once_and_deleted_through_the_log() {
    let (_cloud, a, b) = pair("").await;
    a.run("HSET h short 1 long 2").unwrap();
    a.run("HSET whole short 1").unwrap();
    for key in ["h", "whole"] {
        a.run(&format!("HPEXPIRE {key} 20 FIELDS 1 short")).unwrap();
    }
    ship(&a, &b).await;
    for node in [&a, &b] {
        eventually("the field is hidden", || async {
            let found: Vec<String> = ask(node, "HGETALL h");
            (found == ["long", "2"]).then_some(())
        })
        .await;
        assert_eq!(ask::<Option<String>>(node, "HGET h short"), None);
    }
    eventually("the primary deletes it", || async {
        (ask::<u32>(&a, "HLEN h") == 1 && ask::<u32>(&a, "EXISTS whole") == 0).then_some(())
    })
    .await;
    a.run("HPEXPIRE h 600000 FIELDS 1 long").unwrap();
    ship(&a, &b).await;
    assert_eq!((ask::<u32>(&b, "HLEN h"), ask::<u32>(&b, "EXISTS whole")), (1, 0));
    let (left, right) = compare(&a, &b).await;
    assert_eq!(left, right);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_applier_is_noticed() {
    for broken in [
        "apply-change-field:every=30",
        "apply-change-expiry:every=10",
        "apply-drop-key:every=40",
        "apply-drop-batch:every=50",
    ] {
        let (_cloud, a, b) = pair(broken).await;
        write(&a).await;
        let (left, right) = compare(&a, &b).await;
        assert_ne!(left.total.digest, right.total.digest, "{broken}");
        assert_ne!(left.slots, right.slots, "{broken}");
    }
}
