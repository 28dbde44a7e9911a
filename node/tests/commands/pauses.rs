//! CLIENT PAUSE, and WAIT.

use std::time::{Duration, Instant};

use crate::node::Node;

#[test]
fn a_pause_of_writes_lets_reads_pass_and_ends() {
    let node = Node::new();
    let (mut operator, mut writer, mut script) = (node.client(), node.client(), node.client());
    operator.story("SET k old => OK\nCLIENT PAUSE 60000 WRITE => OK\nGET k => old");
    writer.send(b"GET k\r\nSET k new\r\nGET k\r\n");
    assert_eq!(writer.hear(), "old");
    script.send(b"MULTI\r\nPING\r\nPUBLISH c m\r\nEXEC\r\n");
    assert_eq!(script.hear(), "OK");
    assert_eq!(script.hear(), "QUEUED");
    operator.see_waiting(2);
    assert_eq!(operator.ask("GET k"), "old");
    drop(script);
    operator.see_waiting(1);
    assert_eq!(operator.ask("CLIENT UNPAUSE"), "OK");
    assert_eq!(writer.hear(), "OK");
    assert_eq!(writer.hear(), "new");
    operator.see_waiting(0);
    let began = Instant::now();
    operator.story("CLIENT PAUSE 100 => OK\nGET k => new");
    assert!(began.elapsed() >= Duration::from_millis(100), "the pause was for all commands");
    operator.story(
        "CLIENT PAUSE -1 => (ERR timeout is negative)
         CLIENT PAUSE x => (ERR timeout is not an integer or out of range)
         CLIENT PAUSE 1 SOME => (ERR CLIENT PAUSE mode must be WRITE or ALL)",
    );
}

#[test]
fn scripts_that_only_read_and_what_is_no_command_pass_a_pause_of_writes() {
    let node = Node::new();
    let (mut operator, mut other) = (node.client(), node.client());
    let mut redis = node.redis();
    let mut load = |code: &str| -> String {
        redis::cmd("SCRIPT").arg("LOAD").arg(code).query(&mut redis).unwrap()
    };
    let reads = load("#!lua flags=no-writes\nreturn redis.call('get', KEYS[1])");
    let writes = load("return redis.call('incr', KEYS[1])");
    let library = "#!lua name=l\nredis.register_function{function_name='f', callback=function() return 7 end, flags={'no-writes'}}";
    let _: String = redis::cmd("FUNCTION").arg("LOAD").arg(library).query(&mut redis).unwrap();
    operator.story("SET k 1 => OK\nCLIENT PAUSE 60000 WRITE => OK");
    other.story(&format!(
        "EVALSHA {reads} 1 k => 1
         FCALL f 0 => 7
         SET k => (ERR wrong number of arguments for 'set' command)"
    ));
    other.say(&format!("EVALSHA {writes} 1 k"));
    operator.see_waiting(1);
    operator.story("CLIENT UNPAUSE => OK");
    assert_eq!(other.hear(), "2");
}

#[test]
fn nobody_has_acknowledged_as_a_replica() {
    let node = Node::new();
    let mut client = node.client();
    let began = Instant::now();
    client.story("WAIT 0 0 => 0\nWAIT 1 100 => 0\nWAIT 1 -1 => (ERR timeout is negative)");
    assert!(began.elapsed() >= Duration::from_millis(100), "it had 100 ms");
    client.story("MULTI => OK\nWAIT 1 0 => QUEUED\nEXEC => [0]");
}
