//! GODWIT.PROBE: what observers are told beside a read, by a primary, by a standby, and to somebody who
//! has not said who it is.

use std::collections::BTreeMap;

use crate::cloud::{Node, command, eventually};
use crate::ship::pair;

/// What a connection is told, by name.
fn asked(connection: &mut redis::Connection) -> BTreeMap<String, String> {
    let told: Vec<redis::Value> = command("GODWIT.PROBE").query(connection).unwrap();
    let text = |value: &redis::Value| match value {
        redis::Value::Int(number) => number.to_string(),
        other => redis::from_redis_value::<String>(other.clone()).unwrap(),
    };
    told.chunks(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}

fn probe(node: &Node) -> BTreeMap<String, String> {
    asked(&mut node.connection())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_whether_it_writes_whether_its_log_moves_and_how_far_it_is_behind() {
    let (cloud, a, b) = pair("").await;
    let told = probe(&a);
    assert_eq!((told["mode"].as_str(), told["writable"].as_str()), ("primary", "1"), "{told:?}");
    assert_eq!(told["lag-ms"], "-1", "a primary follows nobody");
    let still: u64 = told["still-ms"].parse().unwrap();
    assert!(still < 3_000, "its log moves: {told:?}");
    let behind = eventually("the standby to say how far it is behind", || async {
        let told = probe(&b);
        (told["mode"] == "standby").then(|| told["lag-ms"].parse::<i64>().unwrap())
    });
    let behind = behind.await;
    assert!(behind >= 0, "it was seeded from a, so it knows: {behind}");
    // Nothing is shipped here: what it has grows older.
    let older = eventually("what it shows to grow older", || async {
        let lag = probe(&b)["lag-ms"].parse::<i64>().unwrap();
        (lag > behind).then_some(lag)
    });
    older.await;
    // Who has not logged in is told too, and nothing else.
    a.run("CONFIG SET requirepass secret").unwrap();
    let client = redis::Client::open(format!("redis://{}", a.client)).unwrap();
    let mut stranger = client.get_connection().unwrap();
    let refused = command("EXISTS one").query::<redis::Value>(&mut stranger).unwrap_err();
    assert_eq!(refused.code(), Some("NOAUTH"));
    assert_eq!(asked(&mut stranger)["mode"], "primary");
    drop(cloud);
}
