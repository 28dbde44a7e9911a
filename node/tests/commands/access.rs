//! Users and what they may do.

use crate::node::{Node, show};

#[test]
fn a_user_may_what_its_rules_say_and_no_more() {
    let node = Node::new();
    let mut client = node.client();
    client.story(
        "ACL WHOAMI => default
         ACL LIST => [user default on nopass sanitize-payload ~* &* +@all]
         ACL SETUSER app on >secret ~app:* %R~lib:* &news +@read +set +client|id +publish => OK
         AUTH app wrong => (WRONGPASS invalid username-password pair or user is disabled.)
         AUTH app secret => OK
         SET app:1 x => OK
         GET lib:1 => nil
         SET lib:1 x => (NOPERM No permissions to access a key)
         COPY app:1 lib:1 => (NOPERM User app has no permissions to run the 'copy' command)
         MGET app:1 other => (NOPERM No permissions to access a key)
         PUBLISH news hello => 0
         PUBLISH gossip hello => (NOPERM No permissions to access a channel)
         CONFIG GET port => (NOPERM User app has no permissions to run the 'config|get' command)
         CLIENT NOPE => (ERR unknown subcommand 'NOPE'. Try CLIENT HELP.)
         AUTH default anything => OK
         ACL DRYRUN app GET other => User app has no permissions to access the 'other' key
         ACL DRYRUN app SET app:2 x => OK
         ACL DELUSER app nobody => 1",
    );
    assert!(client.ask("ACL LOG 1").starts_with("[[count 1 reason command context toplevel"));
}

#[test]
fn patterns_of_sort_are_for_those_who_may_read_every_key() {
    let node = Node::new();
    let (mut client, mut redis) = (node.client(), node.redis());
    client.story(
        "RPUSH l 1 2 => 2
         MSET w1 9 w2 8 => OK
         ACL SETUSER few on nopass ~l +sort +eval => OK
         AUTH few x => OK
         SORT l DESC => [2 1]
         SORT l BY w* => (ERR BY option of SORT denied due to insufficient ACL permissions.)",
    );
    let _: () = redis::cmd("AUTH").arg("few").arg("x").query(&mut redis).unwrap();
    let script = "return redis.pcall('sort', KEYS[1], 'get', 'w*').err";
    let why: String = redis::cmd("EVAL").arg(script).arg(1).arg("l").query(&mut redis).unwrap();
    assert_eq!(why, "ERR GET option of SORT denied due to insufficient ACL permissions.");
}

#[test]
fn users_are_still_there_after_a_crash() {
    let mut node = Node::new();
    node.client().story(
        "ACL SETUSER keeper on >pw ~k:* resetchannels -@all +get (+set ~w:*) => OK
         CONFIG SET requirepass letmein => OK",
    );
    node.crash();
    let mut client = node.client();
    client.story(
        "PING => (NOAUTH Authentication required.)
         AUTH letmein => OK
         ACL USERS => [default keeper]
         AUTH keeper pw => OK
         GET k:1 => nil
         SET w:1 x => OK
         SET k:1 x => (NOPERM No permissions to access a key)",
    );
}

#[test]
fn who_loses_its_user_loses_its_connection() {
    let node = Node::new();
    let mut admin = node.client();
    admin.ask("ACL SETUSER gone on nopass ~* &* +@all");
    let (mut theirs, mut other) = (node.client(), node.client());
    theirs.ask("AUTH gone x");
    assert_eq!(admin.ask("ACL DELUSER gone"), "1");
    assert_eq!(theirs.read_to_end(), b"");
    assert_eq!(other.ask("PING"), "PONG");
    // A subscriber that may not hear its channel any more.
    admin.ask("ACL SETUSER ear on nopass &a &b +@all");
    let mut ear = node.client();
    ear.ask("AUTH ear x");
    ear.ask("SUBSCRIBE a");
    admin.ask("ACL SETUSER ear resetchannels &a");
    assert_eq!(admin.ask("PUBLISH a still"), "1");
    let heard = show(&ear.read());
    assert!(heard.contains("still"), "{heard}");
    admin.ask("ACL SETUSER ear resetchannels &b");
    assert_eq!(ear.read_to_end(), b"");
}

#[test]
fn a_command_queued_before_its_user_lost_it_does_not_run() {
    let node = Node::new();
    let mut admin = node.client();
    admin.ask("ACL SETUSER u on nopass ~* +@all");
    let mut client = node.client();
    client.story(
        "AUTH u x => OK
         MULTI => OK
         SET a 1 => QUEUED
         INCR b => QUEUED",
    );
    admin.ask("ACL SETUSER u -incr");
    let answers = client.ask("EXEC");
    assert!(answers.starts_with("[OK (NOPERM ACLs rules changed between"), "{answers}");
    assert_eq!(admin.ask("MGET a b"), "[1 nil]");
    client.story(
        "MULTI => OK
         INCR b => (NOPERM User u has no permissions to run the 'incr' command)
         EXEC => (EXECABORT Transaction discarded because of previous errors.)",
    );
}

#[test]
fn pipelined_commands_are_those_of_the_user_of_then() {
    let node = Node::new();
    let mut client = node.client();
    client.ask("ACL SETUSER r on nopass ~* -@all +get");
    let mut all = Vec::new();
    for command in ["SET a 1", "AUTH r x", "SET a 2", "GET a", "AUTH default x", "SET a 3"] {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        resp::command::write(&mut all, &words);
    }
    client.send(&all);
    let answers: Vec<_> = (0..6).map(|_| crate::node::show(&client.read())).collect();
    let denied = "(NOPERM User r has no permissions to run the 'set' command)";
    assert_eq!(answers, ["OK", "OK", denied, "1", "OK", "OK"]);
}
