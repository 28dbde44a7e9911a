//! Bulk loads: from rows to keys that clients read, whole whatever happens on the way.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use redis::Commands;
use serde_json::Value;

use crate::moto::Moto;
use crate::node::Node;

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_godwit-node")).args(args).output().unwrap()
}

fn good(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Scratch space with a file of rows.
struct Desk {
    dir: tempfile::TempDir,
    input: String,
}

impl Desk {
    fn new(name: &str, rows: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join(name);
        std::fs::write(&input, rows).unwrap();
        Self { dir, input: input.to_str().unwrap().to_owned() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn try_build(&self, out: &str, args: &[&str]) -> Output {
        let out = self.path(out);
        run(&[&["build", &self.input, "--out", out.to_str().unwrap()], args].concat())
    }

    fn build(&self, out: &str, args: &[&str]) -> Value {
        good(&self.try_build(out, args))
    }

    fn try_ingest(&self, node: &Node, load: &str) -> Output {
        let admin = format!("unix:{}", node.dir().join("admin.sock").display());
        run(&["ingest", self.path(load).to_str().unwrap(), "--admin", &admin])
    }

    fn ingest(&self, node: &Node, load: &str) -> Value {
        good(&self.try_ingest(node, load))
    }
}

fn people(count: usize) -> String {
    let row = |id: usize| format!("{id}\tname-{id}\t{}\n", 20 + id % 60);
    let rows: String = (1..=count).map(row).collect();
    format!("id\tname\tage\n{rows}")
}

const SPREAD: &str = "{person:%{#16}}_%{id}";

fn person(id: usize) -> String {
    let number = keyspace::Slot::of_key(id.to_string().as_bytes()).number() % 16 + 1;
    format!("{{person:{number}}}_{id}")
}

#[test]
fn rows_become_hashes_spread_over_prefixes() {
    let desk = Desk::new("people.tsv", &people(500));
    let report = desk.build("load", &["--type", "hash", "--key", SPREAD]);
    assert_eq!((&report["rows"], &report["keys"]), (&500.into(), &500.into()));
    let node = Node::new();
    let mut client = node.redis();
    let () = client.set("other", "stays").unwrap();
    let ingested = desk.ingest(&node, "load");
    assert_eq!((&ingested["already"], &ingested["records"]), (&false.into(), &1500.into()));
    for id in [1, 250, 500] {
        let fields: Vec<(String, String)> = client.hgetall(person(id)).unwrap();
        let wanted = [("age", (20 + id % 60).to_string()), ("name", format!("name-{id}"))];
        assert_eq!(fields, wanted.map(|(f, v)| (f.to_owned(), v)), "{id}");
        assert_eq!(client.hlen::<_, u64>(person(id)).unwrap(), 2);
    }
    assert_eq!(client.get::<_, String>("other").unwrap(), "stays");
    assert_eq!(redis::cmd("DBSIZE").query::<u64>(&mut client).unwrap(), 501);
    // They are keys like others.
    let () = client.hset(person(1), "name", "changed").unwrap();
    let () = client.del(person(2)).unwrap();
    let again = desk.ingest(&node, "load");
    assert_eq!(again["already"], true);
    assert_eq!(client.hget::<_, _, String>(person(1), "name").unwrap(), "changed");
    assert!(!client.exists::<_, bool>(person(2)).unwrap());
    assert!(
        std::fs::read_dir(node.dir().join("loads")).unwrap().next().is_none(),
        "files are left"
    );
}

#[test]
fn a_load_replaces_what_was_there_and_fails_watches() {
    let rows = "board,who,points\nscores,ann,3.5\nscores,bob,-2\nscores,ann,7\nfresh,cid,+inf\n";
    let desk = Desk::new("points.csv", rows);
    let args = ["--type", "zset", "--key", "%{board}", "--member", "who", "--score", "points"];
    let report = desk.build("load", &args);
    assert_eq!((&report["keys"], &report["replaced"]), (&2.into(), &1.into()));
    let node = Node::new();
    let mut client = node.redis();
    let () = client.sadd("scores", &["x", "y", "z"]).unwrap();
    let () = client.zadd("fresh", "old", 1).unwrap();
    let mut watcher = node.redis();
    let () = redis::cmd("WATCH").arg("scores").query(&mut watcher).unwrap();
    desk.ingest(&node, "load");
    let all: Vec<(String, f64)> = client.zrange_withscores("scores", 0, -1).unwrap();
    assert_eq!(all, [("bob".to_owned(), -2.0), ("ann".to_owned(), 7.0)]);
    assert_eq!(client.zscore::<_, _, f64>("scores", "ann").unwrap(), 7.0);
    assert_eq!(client.zcard::<_, u64>("fresh").unwrap(), 1);
    assert_eq!(client.zscore::<_, _, f64>("fresh", "cid").unwrap(), f64::INFINITY);
    let () = redis::cmd("MULTI").query(&mut watcher).unwrap();
    let _: String = redis::cmd("PING").query(&mut watcher).unwrap();
    assert_eq!(redis::cmd("EXEC").query::<redis::Value>(&mut watcher).unwrap(), redis::Value::Nil);
    // A member that is added, and one that goes, count from there.
    let () = client.zadd("scores", "cid", 1).unwrap();
    let () = client.zrem("scores", "ann").unwrap();
    assert_eq!(client.zrange::<_, Vec<String>>("scores", 0, -1).unwrap(), ["bob", "cid"]);
}

#[test]
fn strings_expire_as_their_rows_say() {
    let rows = "k\tv\tttl\na\tone\t1000\nb\ttwo\t\\N\nc\tthree\t\\N\nc\tfour\t5000\n";
    let desk = Desk::new("rows.tsv", rows);
    desk.build("load", &["--type", "string", "--key", "k:%{k}", "--value", "v", "--ttl", "ttl"]);
    let node = Node::new();
    let mut client = node.redis();
    desk.ingest(&node, "load");
    let ttl = |client: &mut redis::Connection, key: &str| client.ttl::<_, i64>(key).unwrap();
    assert!((900..=1000).contains(&ttl(&mut client, "k:a")), "{}", ttl(&mut client, "k:a"));
    assert_eq!(ttl(&mut client, "k:b"), -1);
    assert!((4900..=5000).contains(&ttl(&mut client, "k:c")));
    assert_eq!(client.get::<_, String>("k:c").unwrap(), "four");
}

#[test]
fn bad_rows_are_named_and_counted() {
    let desk = Desk::new("rows.tsv", "k\tv\na\t1\nb\nc\t3\t4\nd\t\\N\ne\t5\n");
    let args = |bad: &'static str| {
        ["--type", "string", "--key", "%{k}", "--value", "v", "--bad-rows", bad]
    };
    let stopped = desk.try_build("stopped", &args("stop"));
    let said = String::from_utf8_lossy(&stopped.stderr).into_owned();
    assert_eq!(stopped.status.code(), Some(1), "{said}");
    assert!(said.contains("rows.tsv line 3: it has 1 cells, and there are 2 columns"), "{said}");
    assert!(std::fs::read_dir(desk.path("stopped")).unwrap().next().is_none(), "files are left");
    assert!(!desk.try_build("two", &args("skip:2")).status.success());
    let report = desk.build("three", &args("skip:3"));
    assert_eq!((&report["rows"], &report["bad-rows"]), (&2.into(), &3.into()));
    let bad: Vec<&str> =
        report["bad"].as_array().unwrap().iter().map(|b| b.as_str().unwrap()).collect();
    assert!(bad[1].contains("line 4: it has 3 cells"), "{bad:?}");
    assert!(bad[2].contains("line 5: column 2 is null"), "{bad:?}");
    let wrong = desk.try_build("wrong", &["--type", "string", "--key", "%{x}", "--value", "v"]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("no column `x`; there are: k, v"));
}

#[test]
fn the_same_rows_make_the_same_load_in_little_memory_too() {
    let desk = Desk::new("people.tsv", &people(20_000));
    let args = ["--type", "hash", "--key", SPREAD, "--stamp", "1700000000000.40000"];
    let whole = desk.build("whole", &args);
    let little = desk
        .build("little", &[&args[..], &["--memory", "64KiB", "--compression", "zstd"]].concat());
    assert_eq!(whole["runs"], 0);
    assert!(little["runs"].as_u64().unwrap() > 20, "{little}");
    assert_eq!(whole["id"], little["id"]);
    let other =
        desk.build("other", &["--type", "hash", "--key", SPREAD, "--stamp", "1700000000000.40001"]);
    assert_ne!(whole["id"], other["id"]);
    let node = Node::new();
    desk.ingest(&node, "little");
    assert_eq!(desk.ingest(&node, "whole")["already"], true);
    assert_eq!(redis::cmd("DBSIZE").query::<u64>(&mut node.redis()).unwrap(), 20_000);
}

#[test]
fn a_crash_at_any_step_leaves_all_of_a_load_or_nothing() {
    let desk = Desk::new("people.tsv", &people(300));
    desk.build("load", &["--type", "hash", "--key", SPREAD, "--fields", "name"]);
    for step in ["load-after-intent", "load-after-family", "load-before-done", "load-after-done"] {
        let mut node = Node::failing(step);
        let () = node.redis().sadd(person(7), "before").unwrap();
        let died = desk.try_ingest(&node, "load");
        assert_eq!(
            died.status.code(),
            Some(6),
            "{step}: {}",
            String::from_utf8_lossy(&died.stderr)
        );
        node.ended();
        node.forget_variables();
        node.crash();
        let mut client = node.redis();
        for id in [1, 7, 300] {
            let name: String = client.hget(person(id), "name").unwrap();
            assert_eq!(name, format!("name-{id}"), "{step}");
        }
        assert_eq!(redis::cmd("DBSIZE").query::<u64>(&mut client).unwrap(), 300, "{step}");
        let () = client.hset(person(7), "name", "later").unwrap();
        assert_eq!(desk.ingest(&node, "load")["already"], true, "{step}");
        // Once more: the log reads on over what the load consumed.
        node.crash();
        assert_eq!(
            node.redis().hget::<_, _, String>(person(7), "name").unwrap(),
            "later",
            "{step}"
        );
    }
}

#[test]
fn a_load_that_is_not_whole_changes_nothing() {
    let desk = Desk::new("people.tsv", &people(50));
    let args = ["--type", "hash", "--key", SPREAD];
    desk.build("load", &args);
    let node = Node::new();
    let refused = |name: &str, why: &str| {
        let output = desk.try_ingest(&node, name);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(why), "{said}");
        assert_eq!(redis::cmd("DBSIZE").query::<u64>(&mut node.redis()).unwrap(), 0);
    };
    refused("nowhere", "no load at");
    let copy = |name: &str| {
        let to = desk.path(name);
        std::fs::create_dir(&to).unwrap();
        for entry in std::fs::read_dir(desk.path("load")).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
        to
    };
    let change = |path: &Path, with: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = std::fs::read(path).unwrap();
        with(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    };
    change(&copy("flipped").join("data-000001.sst"), &|bytes| bytes[100] ^= 1);
    refused("flipped", "is not the file that the manifest names");
    change(&copy("cut").join("meta-000001.sst"), &|bytes| {
        bytes.pop();
    });
    refused("cut", "is not the file that the manifest names");
    std::fs::remove_file(copy("gone").join("data-000001.sst")).unwrap();
    refused("gone", "data-000001.sst");
    change(&copy("edited").join("load.json"), &|bytes| {
        *bytes =
            String::from_utf8_lossy(bytes).replace("\"rows\": 50", "\"rows\": 51").into_bytes();
    });
    refused("edited", "changed or cut");
    std::fs::remove_file(copy("unfinished").join("load.json")).unwrap();
    refused("unfinished", "has no load.json");
    assert!(
        std::fs::read_dir(node.dir().join("loads")).unwrap().next().is_none(),
        "files are left"
    );
    assert_eq!(desk.ingest(&node, "load")["already"], false);
}

#[test]
fn parquet_is_read_with_its_types() {
    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
    use parquet::file::writer::SerializedFileWriter;
    let desk = Desk::new("rows.parquet", "");
    let schema = "message rows { required int64 id; optional byte_array name (UTF8); required double size; }";
    let schema = Arc::new(parquet::schema::parser::parse_message_type(schema).unwrap());
    let file = std::fs::File::create(&desk.input).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&[1, 2], None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let names = [ByteArray::from("ann")];
    column.typed::<ByteArrayType>().write_batch(&names, Some(&[1, 0]), None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<DoubleType>().write_batch(&[1.5, 2.0], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    desk.build("load", &["--type", "hash", "--key", "p:%{id}"]);
    let node = Node::new();
    desk.ingest(&node, "load");
    let mut client = node.redis();
    let all: Vec<(String, String)> = client.hgetall("p:1").unwrap();
    assert_eq!(all, [("name", "ann"), ("size", "1.5")].map(|(f, v)| (f.to_owned(), v.to_owned())));
    let all: Vec<(String, String)> = client.hgetall("p:2").unwrap();
    assert_eq!(all, [("size".to_owned(), "2".to_owned())]);
}

#[test]
fn a_load_comes_from_a_bucket() {
    let desk = Desk::new("people.tsv", &people(200));
    desk.build("load", &["--type", "hash", "--key", SPREAD]);
    let Some(s3) = Moto::start() else { return };
    let node = Node::new();
    for entry in std::fs::read_dir(desk.path("load")).unwrap() {
        let entry = entry.unwrap();
        let name = format!("loads/people/{}", entry.file_name().to_str().unwrap());
        s3.put(&name, Some(&entry.path()));
    }
    let staging = desk.path("staging");
    let admin = format!("unix:{}", node.dir().join("admin.sock").display());
    let ingest = |from: &str, secret: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_godwit-node"));
        command.args(["ingest", from, "--admin", &admin, "--s3-endpoint", &s3.url, "--staging"]);
        command.arg(&staging).env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", secret);
        command.output().unwrap()
    };
    let nothing = ingest("s3://loads/nothing", "secret");
    let said = String::from_utf8_lossy(&nothing.stderr).into_owned();
    assert!(said.contains("there is no load at s3://loads/nothing"), "{said}");
    let done = good(&ingest("s3://loads/people/", "secret"));
    assert_eq!((&done["already"], &done["records"]), (&false.into(), &600.into()));
    assert!(std::fs::read_dir(&staging).unwrap().next().is_none(), "what was fetched is left");
    let name: String = node.redis().hget(person(77), "name").unwrap();
    assert_eq!(name, "name-77");
}
