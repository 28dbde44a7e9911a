//! What an operator asks a node: CONFIG, SLOWLOG, LATENCY, INFO, COMMAND.

use crate::node::Node;

/// The line of INFO that begins with this.
fn info(client: &mut crate::node::Client, section: &str, name: &str) -> String {
    let text = client.ask(&format!("INFO {section}"));
    let line = text.lines().find(|line| line.split([':', '=']).next() == Some(name));
    line.unwrap_or_default().trim().to_owned()
}

#[test]
fn parameters_change_at_once_and_all_or_none() {
    let node = Node::new();
    let mut client = node.client();
    client.story(
        "CONFIG GET slowlog-max-len => [slowlog-max-len 128]
         CONFIG SET slowlog-max-len 5 timeout 9 => OK
         CONFIG GET timeout slowlog-max* => [timeout 9 slowlog-max-len 5]
         CONFIG SET timeout 7 slowlog-max-len x => (ERR CONFIG SET failed (possibly related to argument 'slowlog-max-len') - argument couldn't be parsed into an integer)
         CONFIG GET timeout => [timeout 9]
         CONFIG SET timeout 0 timeout 1 => (ERR CONFIG SET failed (possibly related to argument 'timeout') - duplicate parameter)
         CONFIG SET nope 1 => (ERR Unknown option or number of arguments for CONFIG SET - 'nope')
         CONFIG SET maxmemory 1 => (ERR CONFIG SET failed (possibly related to argument 'maxmemory') - can't set immutable config)
         CONFIG SET maxmemory 0 => OK
         CONFIG SET latency-tracking maybe => (ERR CONFIG SET failed (possibly related to argument 'latency-tracking') - argument must be 'yes' or 'no')
         CONFIG SET proto-max-bulk-len 2mb => OK
         CONFIG GET proto-max-bulk-len => [proto-max-bulk-len 2097152]",
    );
}

#[test]
fn rewritten_parameters_survive_a_crash_and_others_do_not() {
    let mut node = Node::new();
    node.client().story(
        "CONFIG SET slowlog-max-len 7 notify-keyspace-events KEA hash-max-listpack-entries 9 => OK
         CONFIG REWRITE => OK
         CONFIG SET timeout 50 => OK",
    );
    node.crash();
    node.client().story(
        "CONFIG GET slowlog-max-len => [slowlog-max-len 7]
         CONFIG GET hash-max-listpack-entries => [hash-max-listpack-entries 9]
         CONFIG GET notify-keyspace-events => [notify-keyspace-events AKE]
         CONFIG GET timeout => [timeout 0]",
    );
}

#[test]
fn slow_commands_are_remembered_without_their_secrets() {
    let node = Node::new();
    let mut client = node.client();
    client.story(
        "CLIENT SETNAME me => OK
         CONFIG SET slowlog-log-slower-than 0 => OK
         SLOWLOG RESET => OK
         SET a b => OK
         AUTH default secret => OK
         CONFIG SET slowlog-log-slower-than -1 => OK",
    );
    let entries = client.ask("SLOWLOG GET");
    assert!(entries.contains("[SET a b]") && entries.contains("me]"), "{entries}");
    assert!(entries.contains("[AUTH (redacted) (redacted)]"), "{entries}");
    client.story(
        "SLOWLOG LEN => 3
         SLOWLOG GET -2 => (ERR count should be greater than or equal to -1)
         SLOWLOG RESET => OK
         SLOWLOG LEN => 0",
    );
}

#[test]
fn commands_and_errors_are_counted() {
    let node = Node::new();
    let mut client = node.client();
    client.ask("CONFIG RESETSTAT");
    client.story(
        "SET a b => OK
         SET a c => OK
         INCR a => (ERR value is not an integer or out of range)
         GET => (ERR wrong number of arguments for 'get' command)
         MULTI => OK
         SET a d => QUEUED
         EXEC => [OK]",
    );
    let of = |client: &mut crate::node::Client, name: &str| {
        let line = info(client, "commandstats", &format!("cmdstat_{name}"));
        let shown: Vec<_> = line.split([':', ',']).skip(1).map(str::to_owned).collect();
        shown.into_iter().filter(|part| !part.starts_with("usec")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(of(&mut client, "set"), "calls=3 rejected_calls=0 failed_calls=0");
    assert_eq!(of(&mut client, "incr"), "calls=1 rejected_calls=0 failed_calls=1");
    assert_eq!(of(&mut client, "get"), "calls=0 rejected_calls=1 failed_calls=0");
    assert_eq!(of(&mut client, "exec"), "calls=1 rejected_calls=0 failed_calls=0");
    assert_eq!(info(&mut client, "errorstats", "errorstat_ERR"), "errorstat_ERR:count=2");
    let latency = info(&mut client, "latencystats", "latency_percentiles_usec_set");
    assert!(latency.contains("p50=") && latency.contains("p99.9="), "{latency}");
    let histogram = client.ask("LATENCY HISTOGRAM set");
    assert!(histogram.starts_with("[set [calls 3 histogram_usec ["), "{histogram}");
}

#[test]
fn a_save_is_what_is_on_disk_and_when() {
    let node = Node::new();
    let mut client = node.client();
    let began: u64 = client.ask("LASTSAVE").parse().unwrap();
    client.story("SET a 1 => OK\nSET a 1 XX => OK\nDEL none => 0\nGET a => 1");
    let left = "rdb_changes_since_last_save";
    assert_eq!(info(&mut client, "persistence", left), format!("{left}:2"));
    client.story(
        "SAVE => OK
         MULTI => OK
         SAVE => (ERR Command not allowed inside a transaction)
         DISCARD => OK
         BGSAVE LATER => (ERR syntax error)",
    );
    assert_eq!(info(&mut client, "persistence", left), format!("{left}:0"));
    let saved: u64 = client.ask("LASTSAVE").parse().unwrap();
    assert!(saved >= began);
    client.story("SET a 2 => OK\nBGSAVE => Background saving started");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while info(&mut client, "persistence", left) != format!("{left}:0") {
        assert!(std::time::Instant::now() < deadline, "it is not saved");
        std::thread::yield_now();
    }
    assert_eq!(
        info(&mut client, "persistence", "rdb_last_bgsave_status"),
        "rdb_last_bgsave_status:ok"
    );
}

#[test]
fn keys_that_are_found_or_not_are_counted_for_commands_that_read() {
    let node = Node::new();
    let mut client = node.client();
    client.story(
        "SET a 1 => OK
         CONFIG RESETSTAT => OK
         GET a => 1
         MGET a b c => [1 nil nil]
         INCR d => 1
         EXISTS a => 1",
    );
    assert_eq!(info(&mut client, "stats", "keyspace_hits"), "keyspace_hits:3");
    assert_eq!(info(&mut client, "stats", "keyspace_misses"), "keyspace_misses:2");
}

#[test]
fn what_a_transaction_asks_of_the_node_is_answered_in_its_place() {
    let node = Node::new();
    let mut client = node.client();
    client.story(
        "CONFIG SET slowlog-log-slower-than 0 => OK
         MULTI => OK
         SLOWLOG RESET => QUEUED
         SLOWLOG LEN => QUEUED
         SET a 1 => QUEUED
         SLOWLOG LEN => QUEUED
         EXEC => [OK 1 OK 3]",
    );
}

#[test]
fn long_commands_are_events() {
    let node = Node::new();
    let mut client = node.client();
    client.story(
        "LATENCY LATEST => []
         CONFIG SET latency-monitor-threshold 10 => OK
         DEBUG SLEEP 0.02 => OK",
    );
    assert!(client.ask("LATENCY LATEST").starts_with("[[command "));
    assert!(client.ask("LATENCY GRAPH command").starts_with("command - high "));
    assert!(client.ask("LATENCY DOCTOR").contains("1. command: 1 latency spikes"));
    client.story(
        "LATENCY RESET => 1
         LATENCY HISTORY command => []",
    );
}

#[test]
fn commands_say_what_they_do_with_their_keys() {
    let node = Node::new();
    node.client().story(
        "COMMAND GETKEYSANDFLAGS LMOVE a b LEFT RIGHT => [[a [RW access delete]] [b [RW insert]]]
         COMMAND GETKEYSANDFLAGS SET a b => [[a [OW update]]]
         COMMAND GETKEYSANDFLAGS SET a b GET => [[a [RW access update]]]
         COMMAND GETKEYS MEMORY USAGE k => [k]
         COMMAND DOCS lastsave nope => [lastsave [summary When all was last saved, in Unix seconds. since 1.0.0 group server]]
         COMMAND GETKEYS PING => (ERR The command has no key arguments)
         COMMAND LIST FILTERBY PATTERN config|re* => [config|resetstat config|rewrite]
         COMMAND INFO get|nope => [nil]
         COMMAND INFO config|get => [[config|get -3 [admin loading stale noscript] 0 0 0 [@admin @slow @dangerous] [] [] []]]
         CONFIG => (ERR wrong number of arguments for 'config' command)
         CONFIG GET => (ERR wrong number of arguments for 'config|get' command)",
    );
}

#[test]
fn help_is_there_for_all_that_contain_others() {
    let node = Node::new();
    let mut client = node.client();
    for container in
        ["ACL", "CLIENT", "COMMAND", "CONFIG", "LATENCY", "MEMORY", "OBJECT", "SLOWLOG"]
    {
        let help = client.ask(&format!("{container} HELP"));
        assert!(help.starts_with(&format!("[{container} <subcommand> ")), "{help}");
        let answer = client.ask(&format!("{container} HELP x"));
        let name = container.to_lowercase();
        assert_eq!(answer, format!("(ERR wrong number of arguments for '{name}|help' command)"));
    }
}
