//! A drill fails a fork of the standby over, says how long that takes, and leaves nothing behind; the
//! service does not notice.

#![allow(clippy::unwrap_used)]

use tests::client::Client;
use tests::story::Story;

#[test]
fn a_drill_takes_over_a_fork_while_clients_write() {
    let mut story = Story::begin();
    story.load();
    let traffic = story.traffic();
    story.more(&traffic, 300);
    let before = story.switch(&["status"]).report;

    // What a drill has left whose tool was killed.
    let checkpoints = story.clouds.shard("b/0").node.dir.join("checkpoints");
    for dead in ["drill-0123456789ab", "drill-0123456789ab-node/db"] {
        std::fs::create_dir_all(checkpoints.join(dead)).unwrap();
    }
    // A service that asks for passwords is rehearsed all the same.
    for shard in ["a/0", "a/1"] {
        let mut node = Client::connect(&story.clouds.shard(shard).node.client).unwrap();
        node.call(&["ACL", "SETUSER", "default", "-debug"]).unwrap();
    }
    let drill = story.switch(&["drill", "--to", "b", "--reason", "every Monday"]).report;
    println!("{drill}");
    assert_eq!(drill["good"], true, "{drill}");
    let shards = drill["shards"].as_array().unwrap();
    assert_eq!(shards.len(), story.clouds.cloud("b").shards.len());
    for shard in shards {
        assert!(shard["keys"].as_u64().unwrap() > 0, "the fork has the data: {shard}");
        assert!(shard["canary_ms"].as_f64().unwrap() > 0.0, "{shard}");
    }
    assert_eq!(drill["switch"]["outcome"], "done");

    story.more(&traffic, 300);
    let after = story.switch(&["status"]).report;
    assert_eq!(before["record"], after["record"], "the service was only read");
    assert_eq!(after["notes"]["drill"]["good"], true);
    let history = story.switch(&["history"]).report;
    assert_eq!(history["entries"][0]["operation"], "drill", "{history}");
    for node in after["nodes"].as_object().unwrap().values() {
        let checkpoints = std::path::Path::new(node["dir"].as_str().unwrap()).join("checkpoints");
        let left = std::fs::read_dir(&checkpoints).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{} is not empty", checkpoints.display());
    }
    // The rehearsal was of what would happen: now it does.
    story.switch(&["run", "--to", "b", "--yes"]);
    story.more(&traffic, 300);
    let (ledger, verdict) = story.judge(traffic, "b");
    verdict.assert_good();
    assert_eq!((ledger.client_errors(), ledger.unknown()), (0, 0), "{:?}", ledger.errors);
}
