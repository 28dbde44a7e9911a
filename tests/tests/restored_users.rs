//! Who may log in, and the functions that were loaded, come back with the data: of snapshots and of archives.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use std::path::Path;

use anyhow::ensure;
use tests::alone::Alone;
use tests::client::Client;
use tests::clouds::Clouds;
use tests::clouds::control::replicator;
use tests::shelf::{Shelf, compact, ok, one_cloud, write};
use tests::story::{STUCK, Story};
use tests::wait;

/// It writes nothing, so that standbys run it.
const LIBRARY: &str = "#!lua name=lib
redis.register_function{function_name='which', callback=function() return 'ONE' end, flags={'no-writes'}}";

/// Gives a command to each node of cloud a.
fn on_each(clouds: &Clouds, command: &[&str]) {
    for shard in &clouds.cloud("a").shards {
        let answer = Client::connect(&shard.node.client).unwrap().call(command);
        answer.unwrap_or_else(|e| panic!("{} {command:?}: {e:#}", shard.name));
    }
}

/// `alice` with this password, who may do all, `bob`, who may only read, and a library that says `which`.
fn make(clouds: &Clouds, password: &str, which: &str) {
    let password = format!(">{password}");
    on_each(clouds, &["ACL", "SETUSER", "alice", "reset", "on", &password, "~*", "+@all"]);
    on_each(clouds, &["ACL", "SETUSER", "bob", "reset", "on", ">builder", "~*", "+@read"]);
    on_each(clouds, &["FUNCTION", "LOAD", "REPLACE", &LIBRARY.replace("ONE", which)]);
}

/// That they are so at the node that listens there.
fn are(address: &str, password: &str, which: &str) -> anyhow::Result<()> {
    let mut client = Client::connect(address)?;
    let guess = client.call(&["AUTH", "alice", "guess"]).unwrap_err().to_string();
    ensure!(guess.contains("WRONGPASS"), "{guess}");
    client.call(&["AUTH", "alice", password])?;
    // Who reads at a standby says so; a node that stands alone knows no such thing, as a Redis that does.
    let _ = client.call(&["READONLY"]);
    let answered = client.text(&["FCALL", "which", "0"])?;
    ensure!(answered == which, "the function says {answered}");
    client.call(&["AUTH", "bob", "builder"])?;
    let why = client.call(&["CONFIG", "GET", "port"]).unwrap_err().to_string();
    ensure!(why.contains("NOPERM"), "{why}");
    Ok(())
}

/// As they were made last, once the node has applied that.
fn become_so(clouds: &Clouds, cloud: &str, password: &str, which: &str) {
    for shard in &clouds.cloud(cloud).shards {
        let what = format!("the users of {}", shard.name);
        wait::until(&what, STUCK, || are(&shard.node.client, password, which)).unwrap();
    }
}

#[test]
fn a_snapshot_has_users_and_functions_by_files_and_by_log_in_any_shape() {
    let (clouds, shelf) = (one_cloud(), Shelf::new());
    write(&clouds, 0, 3_000);
    make(&clouds, "wonder", "one");
    let first = shelf.pushed(&clouds, "a", &["--way", "files"]);
    make(&clouds, "land", "two");
    compact(&clouds);
    let second = shelf.pushed(&clouds, "a", &[]);
    assert_eq!(second["shards"][0]["way"], "log", "{second}");
    make(&clouds, "later", "three");

    let restored = |id: &serde_json::Value, more: &[&str], password: &str, which: &str| {
        let to = shelf.path(&format!("restored-{which}-{}", more.len()));
        let id = id["snapshot"].as_str().unwrap();
        let done = shelf.ok("restore", &[&["--snapshot", id, "--to", &to][..], more].concat());
        for shard in done["shards"].as_array().unwrap() {
            let node = Alone::on(Path::new(shard["dir"].as_str().unwrap()));
            are(&node.address, password, which).unwrap();
        }
    };
    restored(&first, &[], "wonder", "one");
    restored(&second, &[], "land", "two");
    restored(&second, &["--shards", "3"], "land", "two");
}

#[test]
fn a_standby_that_activates_a_snapshot_has_its_users_and_then_those_of_the_log() {
    let (story, shelf) = (Story::begin(), Shelf::new());
    let clouds = &story.clouds;
    write(clouds, 0, 500);
    make(clouds, "wonder", "one");
    shelf.pushed(clouds, "a", &[]);
    shelf.ok("materialise", &[]);
    become_so(clouds, "b", "wonder", "one");
    // Known to the log alone.
    make(clouds, "land", "two");
    for shard in ["b/0", "b/1"] {
        let activated = ok(&shelf.activate(clouds, shard, &[]));
        assert_eq!(activated["follows"], "log", "{activated}");
    }
    become_so(clouds, "b", "land", "two");
    story.equal("a", "b");
}

#[test]
fn an_archive_brings_the_users_of_any_moment_back() {
    let shelf = Shelf::new();
    let url = shelf.path("archive");
    let args = ["--archive-url", &url, "--archive-segment-every", "200ms"].map(str::to_owned);
    let clouds = Clouds::for_test_with(|mut plan| {
        plan.clouds = vec![("a".to_owned(), vec!["0-16383".to_owned()])];
        plan.args.push(("godwit-replicator".to_owned(), args.to_vec()));
        plan
    });
    write(&clouds, 0, 100);
    let admin = clouds.cloud("a").shards[0].node.admin.clone();
    let position = || Client::connect(&admin).unwrap().text(&["GODWIT.POSITION"]).unwrap();
    let mut moments = Vec::new();
    for (password, which) in [("wonder", "one"), ("land", "two")] {
        make(&clouds, password, which);
        moments.push((position(), password, which));
    }
    on_each(&clouds, &["ACL", "DELUSER", "alice"]);
    for (position, password, which) in moments {
        let to = shelf.path(which);
        let args = ["restore", "--from", &url, "--to", &to, "--position", &position];
        // Refused until the archive reaches as far.
        let restored = wait::until("the archive to reach that far", STUCK, || {
            let run = replicator(&args)?;
            ensure!(run.code == 0, "{}", run.said);
            Ok(())
        });
        restored.unwrap();
        are(&Alone::on(Path::new(&to)).address, password, which).unwrap();
    }
}
