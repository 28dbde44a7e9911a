//! Runs that a timer starts: one at a time, when it is time, when the nodes have time, and giving way.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use std::fs;
use std::process::{Child, Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use serde_json::Value;
use tests::clouds::Clouds;
use tests::shelf::{
    PATIENCE, Shelf, at_last, checkpoints, ok, one_cloud, report, run, said, start,
};
use tests::wait;

/// So nice is a push that is told to be; nicer where the stories are.
const NICE: i32 = 15;

/// Writes some megabytes that cannot be packed, so that a push that is held back takes a while.
fn write_noise(clouds: &Clouds) {
    let mut client = clouds.client("a").unwrap();
    for n in 0..1_000 {
        let value: String = (0..500).map(|_| format!("{:08x}", rand::random::<u32>())).collect();
        client.push(&["SET", &format!("noise:{n}"), &value]);
    }
    client.flush().unwrap();
    for _ in 0..1_000 {
        assert_eq!(client.answer().unwrap().as_text(), Some("OK"));
    }
}

/// A push that is in its middle, and for some seconds more.
fn slow_push(clouds: &Clouds, shelf: &Shelf, more: &[&str]) -> Child {
    let mut push = shelf.push(clouds, "a");
    let running = start(push.args(["--bandwidth", "512KiB"]).args(more));
    let begun = wait::until("the push to be in its middle", PATIENCE, || {
        ensure!(!checkpoints(clouds).is_empty(), "no checkpoint yet");
        Ok(())
    });
    begun.unwrap();
    running
}

/// Ends a thread that goes on until it is told, however the story ends.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

fn refused(output: &Output, words: &[&str]) {
    assert_eq!(output.status.code(), Some(3), "{}", said(output));
    for words in words {
        assert!(said(output).contains(words), "{words}: {}", said(output));
    }
}

fn snapshots(shelf: &Shelf) -> usize {
    shelf.ok("list", &[])["snapshots"].as_array().unwrap().len()
}

/// What each thread of a process is: its nice value (proc(5), field 19 of `stat`), and its class of the disk.
fn priorities(pid: u32) -> Vec<(i32, String)> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |thread: String| -> Option<(i32, String)> {
        let stat = fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat")).ok()?;
        let nice = stat.rsplit_once(')')?.1.split_whitespace().nth(16)?.parse().ok()?;
        let class = Command::new("ionice").args(["-p", &thread]).output().ok()?;
        Some((nice, String::from_utf8_lossy(&class.stdout).trim().to_owned()))
    };
    // One that has ended since is none.
    threads.filter_map(|thread| of(thread.ok()?.file_name().into_string().ok()?)).collect()
}

#[test]
fn of_two_pushes_one_runs_and_says_who_it_is_and_one_that_died_holds_up_nobody() {
    let (clouds, shelf) = (one_cloud(), Shelf::new());
    write_noise(&clouds);
    let first = slow_push(&clouds, &shelf, &["--nice", &NICE.to_string(), "--io-idle"]);
    let threads = priorities(first.id());
    let ours = priorities(std::process::id()).iter().map(|(nice, _)| *nice).max();
    let wanted = ours.max(Some(NICE));
    let gives_way = |(nice, disk): &(i32, String)| Some(*nice) == wanted && disk == "idle";
    assert!(threads.len() > 1 && threads.iter().all(gives_way), "{threads:?}");

    let report_of = shelf.path("second.json");
    let second = run(shelf.push(&clouds, "a").args(["--report", &report_of]));
    let holder = format!("process {} of ", first.id());
    refused(&second, &["another run is under way", &holder, "push-demo-a", "nothing was done"]);
    let written: Value = serde_json::from_slice(&fs::read(report_of).unwrap()).unwrap();
    assert_eq!((&written["verb"], &written["exit"]), (&"push".into(), &3.into()), "{written}");
    assert!(written["error"].as_str().unwrap().contains(&holder), "{written}");

    let first = ok(&first.wait_with_output().unwrap());
    assert_eq!(snapshots(&shelf), 1);
    assert_eq!(shelf.ok("verify", &[])["snapshot"], first["snapshot"]);
    assert!(checkpoints(&clouds).is_empty(), "{:?}", checkpoints(&clouds));

    // On the same machine it is seen at once that a holder is gone; its sidecars notice by themselves.
    write_noise(&clouds);
    let mut dies = slow_push(&clouds, &shelf, &[]);
    dies.kill().unwrap();
    dies.wait().unwrap();
    at_last("a push after one that died", || shelf.push(&clouds, "a"));
    assert_eq!(snapshots(&shelf), 2);
    assert_eq!(shelf.ok("verify", &["--all"])["verified"], true);
}

#[test]
fn a_push_waits_for_nodes_that_are_busy_or_does_not_begin() {
    let (clouds, shelf) = (one_cloud(), Shelf::new());
    write_noise(&clouds);
    let busy = AtomicBool::new(true);
    let address = clouds.cloud("a").shards[0].node.client.clone();
    std::thread::scope(|scope| {
        let ends = Ends(&busy);
        scope.spawn(|| {
            let mut client = tests::client::Client::connect(&address).unwrap();
            while busy.load(Ordering::Relaxed) {
                for _ in 0..100 {
                    client.push(&["PING"]);
                }
                client.flush().unwrap();
                for _ in 0..100 {
                    client.answer().unwrap();
                }
            }
        });
        let skipped = run(shelf.push(&clouds, "a").args(["--if-load-below", "500"]));
        refused(&skipped, &["commands a second", "--if-load-below is 500", "nothing was done"]);
        assert!(!shelf.dir().exists() || snapshots(&shelf) == 0);

        let mut push = shelf.push(&clouds, "a");
        push.args(["--if-load-below", "500", "--load-wait", "4s"]).env("GODWIT_LOG", "info");
        let log = shelf.path("waiting.log");
        push.stderr(fs::File::create(&log).unwrap()).stdout(std::process::Stdio::piped());
        let waiting = push.spawn().unwrap();
        let waits = wait::until("the push to wait", PATIENCE, || {
            let log = fs::read_to_string(&log)?;
            ensure!(log.contains("waiting until the nodes have time"), "{log}");
            Ok(())
        });
        drop(ends);
        waits.unwrap();
        let pushed = waiting.wait_with_output().unwrap();
        assert!(pushed.status.success(), "{}", fs::read_to_string(&log).unwrap());
        assert_eq!(report(&pushed)["cluster"], "a");
    });
    assert_eq!(snapshots(&shelf), 1);
}

#[test]
fn a_run_outside_of_its_window_does_nothing_and_says_so_where_it_is_looked_for() {
    let (clouds, shelf) = (one_cloud(), Shelf::new());
    let hour = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 3_600;
    let of =
        |from: u64, to: u64| format!("{:02}:00-{:02}:00", (hour + from) % 24, (hour + to) % 24);
    let (later, now) = (of(2, 3), of(23, 2));
    let textfile = shelf.path("push.prom");
    let pushed = |window: &str| {
        run(shelf.push(&clouds, "a").args(["--window", window, "--textfile", &textfile]))
    };
    refused(&pushed(&later), &[&format!("outside of --window {later}"), "nothing was done"]);
    assert!(!shelf.dir().exists(), "a repository was made");
    let metrics = fs::read_to_string(&textfile).unwrap();
    assert!(metrics.contains("last_run_exit_code{verb=\"push\"} 3\n"), "{metrics}");
    assert!(!metrics.contains("last_success_timestamp_seconds{"), "{metrics}");
    ok(&pushed(&now));
    let metrics = fs::read_to_string(&textfile).unwrap();
    assert!(metrics.contains("last_success_timestamp_seconds{verb=\"push\"}"), "{metrics}");
    for verb in ["verify", "prune"] {
        let more: &[&str] = if verb == "prune" { &["--keep-last", "1"] } else { &[] };
        refused(&shelf.run(verb, &[more, &["--window", &later]].concat()), &["--window"]);
        assert!(shelf.run(verb, &[more, &["--window", &now]].concat()).status.success());
    }
}
