//! Digests are equal, or say that they are not.

use crate::cloud::{Node, eventually};
use crate::ship::{compare, pair};

async fn write(a: &Node) {
    for i in 0..20 {
        a.run(&format!("SET plain:{i} value")).unwrap();
        a.run(&format!("SET expiring:{i} value PX 600000")).unwrap();
        a.run(&format!("HSET hash:{i} one 1 two 2")).unwrap();
        a.run(&format!("ZADD zset:{i} 1.5 one 2 two")).unwrap();
        a.run(&format!("RPUSH list:{i} one two three")).unwrap();
        a.run(&format!("SADD set:{i} one two")).unwrap();
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
    assert_eq!(left.total.keys, 1 + 20 * 6 - 1);
    assert!(left.total.bytes > 1_000);
    a.run("SET plain:0 other").unwrap();
    let (later, _) = compare(&a, &b).await;
    assert_ne!(later.total.digest, left.total.digest);
    let left: Vec<_> = left.slots.values().collect();
    let changed = later.slots.values().zip(left).filter(|(now, then)| now != then).count();
    assert_eq!(changed, 1, "one slot");
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
