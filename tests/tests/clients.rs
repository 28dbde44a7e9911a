//! What users have works against a proxy: redis-cli, redis-benchmark, a Redis client of another
//! make; and `clouds.json` has the shape that others script against.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::process::Command;

use redis::Commands;
use tests::story::Story;

fn output(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output();
    let out = out.unwrap_or_else(|e| panic!("{program} (scripts/deps.sh tests installs it): {e}"));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success(),
        "{program} {args:?}: {text}{}",
        String::from_utf8_lossy(&out.stderr)
    );
    text
}

#[test]
fn clients_of_all_kinds_are_served_by_both_proxies() {
    let story = Story::begin();
    for proxy in story.clouds.proxies() {
        let (host, port) = proxy.rsplit_once(':').unwrap();
        let cli = |args: &[&str]| output("redis-cli", &[&["-h", host, "-p", port], args].concat());
        assert_eq!(cli(&["set", "hello", "world"]).trim(), "OK");
        assert_eq!(cli(&["get", "hello"]).trim(), "world");
        assert_eq!(
            cli(&["-3", "hset", "{h}ash", "a", "1", "b", "2"]).trim_end().chars().last(),
            Some('2')
        );
        cli(&["del", "{h}ash"]);

        let mut connection =
            redis::Client::open(format!("redis://{proxy}/")).unwrap().get_connection().unwrap();
        let () = connection.set("answer", 42).unwrap();
        assert_eq!(connection.incr::<_, _, i64>("answer", 1), Ok(43));
        let () = connection.hset_multiple("map", &[("one", 1), ("two", 2)]).unwrap();
        let map: BTreeMap<String, i32> = connection.hgetall("map").unwrap();
        assert_eq!(map, BTreeMap::from([("one".to_owned(), 1), ("two".to_owned(), 2)]));
        let () = connection.zadd_multiple("board", &[(3, "c"), (1, "a"), (2, "b")]).unwrap();
        let ranked: Vec<String> = connection.zrange("board", 0, -1).unwrap();
        assert_eq!(ranked, ["a", "b", "c"]);
        let () = connection.rpush("list", &["x", "y"]).unwrap();
        assert_eq!(
            connection.lrange::<_, Vec<String>>("list", 0, -1),
            Ok(vec!["x".into(), "y".into()])
        );
        let () = connection.sadd("set", &["p", "q", "p"]).unwrap();
        assert_eq!(connection.scard::<_, i64>("set"), Ok(2));
        // Keys of both shards in one command.
        let both: Vec<Option<String>> = connection.mget(&["hello", "answer", "nothing"]).unwrap();
        assert_eq!(both, [Some("world".into()), Some("43".into()), None]);
        let () = connection.del(&["hello", "answer", "map", "board", "list", "set"]).unwrap();

        let tests = "set,get,incr,hset,zadd,mset,lpush";
        let benchmark =
            ["-h", host, "-p", port, "-q", "-n", "2000", "-c", "20", "-P", "8", "-r", "500"];
        output("redis-benchmark", &[&benchmark[..], &["-t", tests]].concat());
    }
    story.equal("a", "b");
}

/// A session of redis-py, the client that most people use; `ARGV` is the proxy.
const PYTHON: &str = r#"
import sys, redis
host, port = sys.argv[1].split(':')
for protocol in (2, 3):
    r = redis.Redis(host=host, port=int(port), decode_responses=True, protocol=protocol) if redis.VERSION[0] >= 5 else redis.Redis(host=host, port=int(port), decode_responses=True)
    assert r.ping()
    assert r.set('py:s', 'one', ex=100) and r.get('py:s') == 'one' and 0 < r.ttl('py:s') <= 100
    r.hset('py:h', mapping={'a': '1', 'b': '2'})
    assert r.hgetall('py:h') == {'a': '1', 'b': '2'}
    r.zadd('py:z', {'x': 1.5, 'y': 2})
    assert r.zrange('py:z', 0, -1, withscores=True)[0][1] == 1.5
    r.rpush('py:l', 'a', 'b', 'c')
    assert r.lrange('py:l', 0, -1) == ['a', 'b', 'c']
    r.sadd('py:set', 'm', 'n')
    assert r.smembers('py:set') == {'m', 'n'}
    with r.pipeline(transaction=False) as p:
        for n in range(100):
            p.incr('py:n')
        assert p.execute()[-1] == 100
    assert r.delete('py:s', 'py:h', 'py:z', 'py:l', 'py:set', 'py:n') == 6
r.set('py:stays', 1)
print('good')
"#;

#[test]
fn a_client_of_another_language_is_served() {
    let story = Story::begin();
    for proxy in story.clouds.proxies() {
        let said = output("/usr/bin/python3", &["-c", PYTHON, &proxy]);
        assert_eq!(said.trim(), "good");
    }
    story.equal("a", "b");
}

#[test]
fn clouds_json_has_the_promised_shape() {
    let story = Story::begin();
    let path = story.clouds.layout.dir.join("clouds.json");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(json["registry"].as_str().unwrap().starts_with("file:/"));
    assert_eq!(json["service"], "demo");
    for (cloud, name) in json["clouds"].as_array().unwrap().iter().zip(["a", "b"]) {
        assert_eq!(cloud["name"], name);
        let shards = cloud["shards"].as_array().unwrap();
        assert_eq!(
            (&shards[0]["slots"], &shards[1]["slots"]),
            (&"0-8191".into(), &"8192-16383".into())
        );
        for process in [&cloud["proxies"][0], &shards[0]["node"], &shards[1]["sidecar"]] {
            assert!(process["pid"].as_u64().unwrap() > 1);
            assert!(process["metrics"].as_str().unwrap().starts_with("127.0.0.1:"));
        }
        assert!(shards[0]["node"]["dir"].as_str().unwrap().starts_with('/'));
        assert!(shards[0]["node"]["admin"].is_string() && shards[0]["node"]["client"].is_string());
    }
}
