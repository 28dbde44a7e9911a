//! Scripts, as Redis runs them: what they see, what they may not, and that they are whole.

use std::time::{Duration, Instant};

use resp::reply::Reply;

use crate::node::{Client, Node, show};

/// A command whose arguments have spaces in them.
fn ask(client: &mut Client, words: &[&str]) -> String {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    let mut bytes = Vec::new();
    resp::command::write(&mut bytes, &words);
    client.send(&bytes);
    show(&client.read())
}

fn eval(client: &mut Client, script: &str, rest: &[&str]) -> String {
    ask(client, &[&["EVAL", script], rest].concat())
}

#[test]
fn errors_say_where_they_came_from_and_are_counted_once() {
    let node = Node::new();
    let mut client = node.client();
    ask(&mut client, &["SET", "k", "text"]);
    ask(&mut client, &["CONFIG", "RESETSTAT"]);
    for (script, end) in [
        ("return redis.call('incr', KEYS[1])", ", on @user_script:1.)"),
        ("local x = 1\nreturn redis.call('incr', KEYS[1])", ", on @user_script:2.)"),
        ("return redis.pcall('incr', KEYS[1])", "out of range)"),
    ] {
        let answer = eval(&mut client, script, &["1", "k"]);
        assert!(
            answer.starts_with("(ERR value is not an integer or out of range"),
            "{script}: {answer}"
        );
        assert!(answer.ends_with(end), "{script}: {answer}");
    }
    assert_eq!(eval(&mut client, "return redis.error_reply('MY own')", &["0"]), "(MY own)");
    let unknown = eval(&mut client, "return redis.pcall('nope').err", &["0"]);
    assert_eq!(unknown, "ERR Unknown Redis command called from script");
    let cluster = eval(&mut client, "return redis.pcall('cluster', 'reset').err", &["0"]);
    assert_eq!(cluster, "ERR This Redis command is not allowed from script");
    let text = client.ask("INFO everything");
    for line in ["errorstat_ERR:count=5", "errorstat_MY:count=1", "total_error_replies:6"] {
        assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
    }
    for (name, calls, failed) in [("eval", 6, 4), ("incr", 3, 3)] {
        let line = text.lines().find(|line| line.starts_with(&format!("cmdstat_{name}:")));
        let line = line.unwrap_or_default();
        assert!(line.contains(&format!(":calls={calls},")), "{line}");
        assert!(line.ends_with(&format!(",rejected_calls=0,failed_calls={failed}")), "{line}");
    }
}

#[test]
fn values_go_over_and_come_back() {
    let node = Node::new();
    let mut client = node.client();
    for (script, answer) in [
        ("return 'a'", "a"),
        ("return 3.99", "3"),
        ("return true", "1"),
        ("return false", "nil"),
        ("return nil", "nil"),
        ("return {1,2,{3,'x'},nil,4}", "[1 2 [3 x]]"),
        ("return {ok='fine'}", "fine"),
        ("return {err='MY error'}", "(MY error)"),
        ("return redis.error_reply('MY error')", "(MY error)"),
        ("return redis.error_reply('oops')", "(ERR oops)"),
        ("return redis.status_reply('GOOD')", "GOOD"),
        ("return {KEYS[1],ARGV[1],ARGV[2],#ARGV}", "[k a b 2]"),
        ("return redis.call('set',KEYS[1],1.5)", "OK"),
        ("return redis.call('get',KEYS[1])", "1.5"),
        ("redis.call('set',KEYS[1],10) return redis.call('incr',KEYS[1])", "11"),
        ("return redis.call('get','{k}missing')", "nil"),
        ("return type(redis.call('get','{k}missing'))", "boolean"),
        ("return redis.call('mget',KEYS[1],'{k}no')", "[11 nil]"),
        (
            "return redis.pcall('lpush',KEYS[1],1).err",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
        ),
        ("return redis.sha1hex('')", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
        ("return redis.REDIS_VERSION", "7.2.0"),
        ("return redis.call('ping')", "PONG"),
        ("return redis.call('echo','x')", "x"),
        ("redis.setresp(3) return redis.call('hgetall','{k}h').map ~= nil", "1"),
        ("return {double=3.5}", "3.5"),
        ("return {map={a=1}}", "[a 1]"),
        ("return {big_number='12\\r\\n3'}", "12  3"),
        ("return {verbatim_string={format='txt',string='hi'}}", "hi"),
        ("return tostring(redis.replicate_commands())", "true"),
        ("local a = {} a[1] = {a} return #a", "1"),
        (
            "local x = redis.call('blpop', KEYS[1], 0)",
            "(ERR This Redis command is not allowed from script script: SHA, on @user_script:1.)",
        ),
        ("return bit.band(0xff, 0x0f) .. bit.tohex(255)", "15000000ff"),
        ("return struct.unpack('>I2', struct.pack('>I2', 513))", "513"),
        ("return cmsgpack.unpack(cmsgpack.pack({1,'a',2.5}))[2]", "a"),
        ("return cjson.encode({a={1,2,cjson.null}, })", r#"{"a":[1,2,null]}"#),
        ("return cjson.decode('[1,{\"a\":\"\\\\u00e9\"}]')[2].a", "é"),
        ("return cjson.encode(cjson.decode('{}'))", "{}"),
    ] {
        let sha = ask(&mut client, &["SCRIPT", "LOAD", script]);
        let answer = answer.replace("SHA", &sha);
        assert_eq!(eval(&mut client, script, &["1", "k", "a", "b"]), answer, "{script}");
        assert_eq!(
            ask(&mut client, &["EVALSHA", &sha.to_uppercase(), "1", "k", "a", "b"]).len(),
            ask(&mut client, &["EVALSHA", &sha, "1", "k", "a", "b"]).len(),
            "{script}"
        );
    }
    client.ask("HELLO 3");
    for (script, answer) in [
        ("return {double=3.5}", ",3.5"),
        ("return {map={a=1}}", "{a 1}"),
        ("return {set={a=true}}", "~[a]"),
        ("return true", "1"),
        ("redis.setresp(3) return true", "Boolean(true)"),
    ] {
        assert_eq!(eval(&mut client, script, &["0"]), answer, "{script}");
    }
}

#[test]
fn errors_say_where_they_are() {
    let node = Node::new();
    let mut client = node.client();
    for (script, answer) in [
        ("error('boom')", "(ERR user_script:1: boom script: SHA, on @user_script:1.)"),
        (
            "\n\nlocal x = nil + 1",
            "(ERR user_script:3: attempt to perform arithmetic on a nil value script: SHA, on @user_script:3.)",
        ),
        (
            "local x = redis.call('nope')",
            "(ERR Unknown Redis command called from script script: SHA, on @user_script:1.)",
        ),
        (
            "local x = redis.call('get')",
            "(ERR Wrong number of args calling Redis command from script script: SHA, on @user_script:1.)",
        ),
        (
            "local x = redis.call('lpush', KEYS[1], 1)",
            "(WRONGTYPE Operation against a key holding the wrong kind of value script: SHA, on @user_script:1.)",
        ),
        (
            "return pcall(redis.call, 'lpush', KEYS[1], 1) and 1 or select(2, pcall(redis.call, 'lpush', KEYS[1], 1))",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
        ),
        (
            "return x",
            "(ERR user_script:1: Script attempted to access nonexistent global variable 'x' script: SHA, on @user_script:1.)",
        ),
        (
            "x = 1",
            "(ERR user_script:1: Attempt to modify a readonly table script: SHA, on @user_script:1.)",
        ),
        (
            "redis.call = 1",
            "(ERR user_script:1: Attempt to modify a readonly table script: SHA, on @user_script:1.)",
        ),
        (
            "setmetatable(_G, {})",
            "(ERR user_script:1: Attempt to modify a readonly table script: SHA, on @user_script:1.)",
        ),
        (
            "rawset(string, 'rep', 1)",
            "(ERR user_script:1: Attempt to modify a readonly table script: SHA, on @user_script:1.)",
        ),
        (
            "getmetatable(_G).__index = {}",
            "(ERR user_script:1: Attempt to modify a readonly table script: SHA, on @user_script:1.)",
        ),
        (
            "getmetatable('').__index = {}",
            "(ERR user_script:1: Attempt to modify a readonly table script: SHA, on @user_script:1.)",
        ),
        (
            "local x = cjson.decode('[1')",
            "(ERR user_script:1: Expected comma or array end but found T_END at character 3 script: SHA, on @user_script:1.)",
        ),
        (
            "local x = struct.pack('z', 1)",
            "(ERR user_script:1: bad argument #1 to 'pack' (invalid format option 'z') script: SHA, on @user_script:1.)",
        ),
        (
            "local x = redis.call({})",
            "(ERR Lua redis lib command arguments must be strings or integers script: SHA, on @user_script:1.)",
        ),
        ("return loadstring(string.dump(function() end)) == nil", "1"),
        (
            "return os.clock() > 0 and dofile",
            "(ERR user_script:1: Script attempted to access nonexistent global variable 'dofile' script: SHA, on @user_script:1.)",
        ),
    ] {
        client.ask("SET k v");
        let sha = ask(&mut client, &["SCRIPT", "LOAD", script]);
        assert_eq!(eval(&mut client, script, &["1", "k"]), answer.replace("SHA", &sha), "{script}");
    }
    assert!(eval(&mut client, "return (", &["0"]).starts_with(
        "(ERR Error compiling script (new function): user_script:1: unexpected symbol near"
    ));
    assert_eq!(
        eval(&mut client, "return 1", &["2", "a"]),
        "(ERR Number of keys can't be greater than number of args)"
    );
    assert_eq!(eval(&mut client, "return 1", &["-2"]), "(ERR Number of keys can't be negative)");
    assert_eq!(
        eval(&mut client, "return 1", &["x"]),
        "(ERR value is not an integer or out of range)"
    );
    assert_eq!(
        ask(&mut client, &["EVALSHA", "short", "0"]),
        "(NOSCRIPT No matching script. Please use EVAL.)"
    );
    assert_eq!(
        ask(&mut client, &["EVAL_RO", "return redis.call('set','k',1)", "0"]).get(..46),
        Some("(ERR Write commands are not allowed from read-")
    );
    assert_eq!(
        eval(&mut client, "#!lua flags=no-writes\nreturn redis.call('get',KEYS[1])", &["1", "k"]),
        "v"
    );
    assert_eq!(
        eval(&mut client, "#!ruby\nreturn 1", &["0"]),
        "(ERR Unexpected engine in script shebang: #!ruby)"
    );
}

#[test]
fn a_script_is_whole_and_keeps_what_it_wrote_before_an_error() {
    let mut node = Node::new();
    let mut client = node.client();
    assert!(
        eval(
            &mut client,
            "redis.call('set',KEYS[1],1) redis.call('set',KEYS[2],2) error('x')",
            &["2", "{a}1", "{a}2"]
        )
        .starts_with("(ERR")
    );
    client.story(
        "MGET {a}1 {a}2 => [1 2]
         MULTI => OK
         SET {a}1 7 => QUEUED",
    );
    assert_eq!(eval(&mut client, "return redis.call('incr',KEYS[1])", &["1", "{a}1"]), "QUEUED");
    assert_eq!(client.ask("EXEC"), "[OK 8]");
    // Blocking commands find nobody to wait for them, and a script reads what it wrote.
    let script = "for i = 1, 100 do redis.call('zadd', KEYS[1], i, 'm'..i) end
                  redis.call('zremrangebyrank', KEYS[1], 0, 49)
                  return {redis.call('zcard', KEYS[1]), redis.call('zrange', KEYS[1], 0, 0)[1]}";
    assert_eq!(eval(&mut client, script, &["1", "z"]), "[50 m51]");
    node.crash();
    let mut client = node.client();
    assert_eq!(client.ask("ZCARD z"), "50");
    assert_eq!(client.ask("SCRIPT EXISTS 0"), "[0]");
}

#[test]
fn keys_of_other_workers_are_reached_whether_they_are_named_or_not() {
    let node = Node::new();
    let mut client = node.client();
    // More keys than workers: some are of others than KEYS[1].
    let script =
        "for i = 1, 20 do redis.call('incr', 'key' .. i) end return redis.call('incr', KEYS[1])";
    for round in 1..=5 {
        assert_eq!(eval(&mut client, script, &["1", "named"]), round.to_string());
    }
    for i in 1..=20 {
        assert_eq!(client.ask(&format!("GET key{i}")), "5");
    }
    assert_eq!(eval(&mut client, "return redis.call('dbsize')", &["0"]), "21");
    // The same from many connections at once: each script is alone while it runs.
    let add = "local a = redis.call('get', 'left' .. ARGV[1]) or 0
               redis.call('set', 'left' .. ARGV[1], a + 1)
               local b = redis.call('get', 'right' .. ARGV[2]) or 0
               redis.call('set', 'right' .. ARGV[2], b + 1)
               return redis.call('incr', KEYS[1])";
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let node = &node;
            scope.spawn(move || {
                let mut client = node.client();
                for round in 0..50 {
                    let (left, right) = ((thread + round) % 3, round % 5);
                    // Each script has a text of its own for a while, so it is found out anew.
                    let script = format!("{add} -- {}", (thread + round) % 7);
                    let rest = ["1", "total", &left.to_string(), &right.to_string()];
                    let answer = eval(&mut client, &script, &rest);
                    assert!(answer.parse::<u32>().is_ok(), "{answer}");
                    client.ask(&format!("INCR plain{}", thread));
                }
            });
        }
    });
    let sum = |client: &mut Client, name: &str| -> u32 {
        (0..5).filter_map(|i| client.ask(&format!("GET {name}{i}")).parse::<u32>().ok()).sum()
    };
    assert_eq!(client.ask("GET total"), "200");
    assert_eq!((sum(&mut client, "left"), sum(&mut client, "right")), (200, 200));
    // In a transaction too: it is undone and run again as a whole.
    client.story("MULTI => OK\n INCR named => QUEUED");
    assert_eq!(eval(&mut client, &format!("{script} -- again"), &["1", "named"]), "QUEUED");
    assert_eq!(client.ask("EXEC"), "[6 7]");
    assert_eq!(client.ask("GET key7"), "6");
}

#[test]
fn a_script_publishes_once_what_it_did_is_in_the_log() {
    let node = Node::new();
    let (mut client, mut subscriber) = (node.client(), node.client());
    assert_eq!(subscriber.ask("SUBSCRIBE news"), "[subscribe news 1]");
    // It is run again for the keys of other workers, and says it once all the same.
    let script = "local n = redis.call('publish', 'news', ARGV[1])
                  for i = 1, 9 do redis.call('incr', 'other' .. i) end return n";
    assert_eq!(eval(&mut client, script, &["1", "k", "one"]), "1");
    assert_eq!(eval(&mut client, script, &["1", "k", "two"]), "1");
    assert_eq!(show(&subscriber.read()), "[message news one]");
    assert_eq!(show(&subscriber.read()), "[message news two]");
}

fn until_busy(client: &mut Client) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !client.ask("PING").starts_with("(BUSY Redis is busy running a script.") {
        assert!(Instant::now() < deadline, "no script is slow");
        std::thread::yield_now();
    }
}

#[test]
fn a_slow_script_is_killed_unless_it_has_written() {
    let node = Node::new();
    let (mut client, mut slow) = (node.client(), node.client());
    client.story(
        "CONFIG SET busy-reply-threshold 10 => OK
         SCRIPT KILL => (NOTBUSY No scripts in execution right now.)
         FUNCTION KILL => (NOTBUSY No scripts in execution right now.)
         MULTI => OK",
    );
    let mut other = node.client();
    let forever = "local f = function() while true do redis.call('ping') end end
                   while true do pcall(f) end";
    let mut bytes = Vec::new();
    resp::command::write(&mut bytes, &[b"EVAL", forever.as_bytes(), b"0"]);
    resp::command::write(&mut bytes, &[b"PING"]);
    slow.send(&bytes);
    until_busy(&mut other);
    assert!(other.ask("FUNCTION KILL").starts_with("(BUSY"));
    assert!(client.ask("SET a b").starts_with("(BUSY"));
    assert_eq!(other.ask("SCRIPT KILL"), "OK");
    let killed = show(&slow.read());
    assert!(
        killed.starts_with("(ERR Script killed by user with SCRIPT KILL... script: "),
        "{killed}"
    );
    assert_eq!(show(&slow.read()), "PONG");
    assert_eq!(client.ask("EXEC"), "(EXECABORT Transaction discarded because of previous errors.)");
    let writes = "redis.call('set', KEYS[1], 1) while redis.call('exists', '{x}stop') == 0 do
                  if redis.call('time')[1] - ARGV[1] > 2 then return 'done' end end";
    let now = client.ask("TIME").trim_matches(['[', ']']).split(' ').next().unwrap().to_owned();
    let mut bytes = Vec::new();
    let words: [&[u8]; 5] = [b"EVAL", writes.as_bytes(), b"1", b"x", now.as_bytes()];
    resp::command::write(&mut bytes, &words);
    slow.send(&bytes);
    until_busy(&mut other);
    assert!(other.ask("SCRIPT KILL").starts_with("(UNKILLABLE"));
    assert_eq!(slow.read(), Reply::Bulk(b"done".to_vec()));
    assert_eq!(client.ask("GET x"), "1");
}

#[test]
fn functions_are_kept_over_a_crash_and_a_flush_of_keys() {
    let mut node = Node::new();
    let mut client = node.client();
    let library = "#!lua name=mine
        local function add(key, by) return redis.call('incrby', key, by) end
        redis.register_function('bump', function(keys, args) return add(keys[1], args[1]) end)
        redis.register_function{function_name='look', callback=function(keys) return redis.call('get', keys[1]) end, flags={'no-writes'}, description='reads'}";
    assert_eq!(ask(&mut client, &["FUNCTION", "LOAD", library]), "mine");
    assert_eq!(
        ask(&mut client, &["FUNCTION", "LOAD", library]),
        "(ERR Library 'mine' already exists)"
    );
    let listed = "[[library_name mine engine LUA functions [[name bump description nil flags []] [name look description reads flags [no-writes]]]]]";
    client.story(
        "FCALL bump 1 k 5 => 5
         FCALL BUMP 1 k 5 => 10
         FCALL_RO look 1 k => 10
         FCALL_RO bump 1 k 5 => (ERR Can not execute a script with write flag using *_ro command.)
         FCALL nope 0 => (ERR Function not found)
         FLUSHALL => OK
         FCALL bump 1 k 5 => 5
         FUNCTION STATS => [running_script nil engines [LUA [libraries_count 1 functions_count 2]]]
         DBSIZE => 1",
    );
    assert_eq!(client.ask("FUNCTION LIST"), listed);
    node.crash();
    let mut client = node.client();
    client.story("FCALL bump 1 k 5 => 10");
    assert_eq!(client.ask("FUNCTION LIST"), listed);
    let mut redis = node.redis();
    let payload: Vec<u8> = redis::cmd("FUNCTION").arg("DUMP").query(&mut redis).unwrap();
    client.story(
        "FUNCTION DELETE mine => OK
         FUNCTION DELETE mine => (ERR Library not found)
         FCALL bump 1 k 5 => (ERR Function not found)
         FUNCTION LIST => []",
    );
    let restored: String =
        redis::cmd("FUNCTION").arg("RESTORE").arg(&payload).query(&mut redis).unwrap();
    assert_eq!(restored, "OK");
    client.story("FCALL bump 1 k 5 => 15\n FUNCTION FLUSH => OK");
    node.crash();
    assert_eq!(node.client().ask("FUNCTION LIST"), "[]");
}
