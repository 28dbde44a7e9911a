//! Clients that look on (MONITOR) and clients that keep copies of what they read (CLIENT TRACKING).

use crate::node::Node;

#[test]
fn a_monitor_sees_what_others_say() {
    let node = Node::new();
    let (mut monitor, mut other) = (node.client(), node.client());
    assert_eq!(monitor.ask("MONITOR"), "OK");
    other.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\"\n\x01 \r\n");
    assert_eq!(other.hear(), "OK");
    let line = monitor.hear();
    assert!(
        line.contains(" [0 127.0.0.1:") && line.ends_with("] \"SET\" \"k\" \"\\\"\\n\\x01 \""),
        "{line}"
    );
    other.ask("AUTH nobody secret");
    assert!(monitor.hear().ends_with("\"AUTH\" \"(redacted)\" \"(redacted)\""));
    monitor.say("RESET");
    assert_eq!(monitor.hear(), "RESET");
    other.ask("GET k");
    assert_eq!(monitor.ask("PING"), "PONG");
}

#[test]
fn a_monitor_sees_what_transactions_and_scripts_do_when_they_do_it() {
    let node = Node::new();
    let (mut monitor, mut other) = (node.client(), node.client());
    assert_eq!(monitor.ask("MONITOR"), "OK");
    other.story("MULTI => OK\nSET k 1 => QUEUED\nNOPE => (ERR unknown command 'NOPE', with args beginning with: )\nEXEC => (EXECABORT Transaction discarded because of previous errors.)");
    other.story("MULTI => OK\nSET k 1 => QUEUED\nEXEC => [OK]");
    other.send(b"*3\r\n$4\r\nEVAL\r\n$35\r\nreturn redis.call('incr', 'k') * 2;\r\n$1\r\n0\r\n");
    assert_eq!(other.hear(), "4");
    for (origin, command) in [
        ("127.0.0.1:", "\"MULTI\""),
        ("127.0.0.1:", "\"EXEC\""),
        ("127.0.0.1:", "\"MULTI\""),
        ("127.0.0.1:", "\"SET\" \"k\" \"1\""),
        ("127.0.0.1:", "\"EXEC\""),
        ("127.0.0.1:", "\"EVAL\" \"return redis.call('incr', 'k') * 2;\" \"0\""),
        ("lua] ", "\"incr\" \"k\""),
    ] {
        let line = monitor.hear();
        assert!(line.contains(&format!(" [0 {origin}")) && line.ends_with(command), "{line}");
    }
}

#[test]
fn keys_that_were_read_are_told_when_they_change() {
    let node = Node::new();
    let (mut reader, mut writer) = (node.client(), node.client());
    reader.ask("HELLO 3");
    reader.story("CLIENT TRACKING ON => OK\nMGET a b => [nil nil]\nCLIENT GETREDIR => 0");
    assert!(writer.ask("INFO stats").contains("tracking_total_keys:2\r\n"));
    writer.story("SET a 1 => OK\nSET a 2 => OK\nSET c 1 => OK");
    assert_eq!(reader.hear(), "[invalidate [a]]");
    // A second change is told once the key has been read again; its own, behind the answer.
    reader.story("GET a => 2\nINCR a => 3");
    assert_eq!(reader.hear(), "[invalidate [a]]");
    reader.say("MULTI");
    reader.say("GET a");
    reader.say("INCR a");
    reader.say("EXEC");
    for expected in ["OK", "QUEUED", "QUEUED", "[3 4]", "[invalidate [a]]"] {
        assert_eq!(reader.hear(), expected);
    }
    writer.ask("FLUSHALL");
    assert_eq!(reader.hear(), "[invalidate nil]");
    reader.story("CLIENT TRACKING OFF => OK\nGET a => nil");
    writer.ask("SET a 1");
    assert_eq!(reader.ask("PING"), "PONG");
}

#[test]
fn prefixes_are_followed_and_messages_redirected() {
    let node = Node::new();
    let (mut reader, mut writer, mut mailbox) = (node.client(), node.client(), node.client());
    let id = mailbox.ask("CLIENT ID");
    mailbox.ask("SUBSCRIBE __redis__:invalidate");
    reader.story(
        "CLIENT TRACKING ON REDIRECT 99999 => (ERR The client ID you want redirect to does not exist)
         CLIENT TRACKING ON PREFIX a => (ERR PREFIX option requires BCAST mode to be enabled)
         CLIENT TRACKING ON BCAST PREFIX ab PREFIX a => (ERR Prefix 'ab' overlaps with another provided prefix 'a'. Prefixes for a single client must not overlap.)
         CLIENT TRACKING ON BCAST OPTIN => (ERR OPTIN and OPTOUT are not compatible with BCAST)
         CLIENT CACHING YES => (ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled)",
    );
    let on = format!("CLIENT TRACKING ON BCAST PREFIX a: PREFIX b: NOLOOP REDIRECT {id}");
    assert_eq!(reader.ask(&on), "OK");
    writer.story("MSET a:1 x c:1 x a:2 x => OK");
    assert_eq!(mailbox.hear(), "[message __redis__:invalidate [a:1 a:2]]");
    reader.story("SET a:own x => OK");
    writer.story("SET b:1 x => OK");
    assert_eq!(mailbox.hear(), "[message __redis__:invalidate [b:1]]");
    reader.story("CLIENT TRACKING OFF => OK");
    let on = format!("CLIENT TRACKING ON OPTIN REDIRECT {id}");
    assert_eq!(reader.ask(&on), "OK");
    reader.story("GET one => nil\nCLIENT CACHING YES => OK\nGET two => nil\nGET three => nil");
    writer.story("MSET one 1 two 2 three 3 => OK");
    assert_eq!(mailbox.hear(), "[message __redis__:invalidate [two]]");
    assert_eq!(
        reader.ask("CLIENT TRACKINGINFO"),
        format!("[flags [on optin] redirect {id} prefixes []]")
    );
}
