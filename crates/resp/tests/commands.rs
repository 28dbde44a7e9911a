//! Commands, as redis-server 7 reads them.

#![allow(clippy::unwrap_used, reason = "a test")]

use proptest::prelude::*;
use resp::command::{Limits, Parser, parse, write};

type Parsed = Result<Option<(usize, Vec<Vec<u8>>)>, String>;

fn run(bytes: &[u8]) -> Parsed {
    run_with(bytes, &Limits::default())
}

fn run_with(bytes: &[u8], limits: &Limits) -> Parsed {
    let mut buf = bytes.to_vec();
    let mut args = Vec::new();
    let used = parse(&mut buf, limits, &mut args).map_err(|e| e.to_string())?;
    Ok(used.map(|used| (used, args.iter().map(|r| buf[r.clone()].to_vec()).collect())))
}

fn words(bytes: &[u8]) -> Vec<String> {
    let (used, args) = run(bytes).unwrap().unwrap();
    assert_eq!(used, bytes.len());
    args.iter().map(|a| String::from_utf8_lossy(a).into_owned()).collect()
}

#[test]
fn a_multibulk_command_is_found_and_what_follows_is_left() {
    let (used, args) = run(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPI").unwrap().unwrap();
    assert_eq!((used, args), (20, vec![b"GET".to_vec(), b"k".to_vec()]));
}

#[test]
fn empty_commands_take_their_bytes_and_have_no_arguments() {
    for (bytes, used) in
        [(&b"\r\n"[..], 2), (b"\n", 1), (b"*0\r\n", 4), (b"*-1\r\n", 5), (b"  \r\n", 4)]
    {
        assert_eq!(run(bytes), Ok(Some((used, vec![]))), "{bytes:?}");
    }
}

#[test]
fn inline_words_and_quotes_are_those_of_redis() {
    for (line, expected) in [
        (&b"PING\r\n"[..], &["PING"][..]),
        (b"SET k v\n", &["SET", "k", "v"]),
        (b"  SET\t k   v  \r\n", &["SET", "k", "v"]),
        (br#"SET "a b" 'c d'"#, &["SET", "a b", "c d"]),
        (br#"SET "\x41\n\"\\" 'it\'s \n'"#, &["SET", "A\n\"\\", "it's \\n"]),
        (br#"SET a"b c""#, &["SET", "ab c"]),
        (br#"SET "" ''"#, &["SET", "", ""]),
    ] {
        let mut line = line.to_vec();
        if !line.ends_with(b"\n") {
            line.extend_from_slice(b"\r\n");
        }
        assert_eq!(words(&line), expected);
    }
}

#[test]
fn what_is_malformed_is_refused_in_the_words_of_redis() {
    for (bytes, expected) in [
        (&b"*a\r\n"[..], "Protocol error: invalid multibulk length"),
        (b"*3000000000\r\n", "Protocol error: invalid multibulk length"),
        (b"*01\r\n", "Protocol error: invalid multibulk length"),
        (b"*1\r\n:1\r\n", "Protocol error: expected '$', got ':'"),
        (b"*1\r\n\r\n\r\n", "Protocol error: expected '$', got '?'"),
        (b"*1\r\n$-1\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n$x\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "Protocol error: invalid bulk length"),
        (b"SET \"a\r\n", "Protocol error: unbalanced quotes in request"),
        (b"SET \"a\"b\r\n", "Protocol error: unbalanced quotes in request"),
        (b"SET 'a\r\n", "Protocol error: unbalanced quotes in request"),
    ] {
        assert_eq!(run(bytes), Err(expected.to_owned()), "{bytes:?}");
    }
    let long = vec![b'1'; 70_000];
    assert_eq!(run(&long), Err("Protocol error: too big inline request".to_owned()));
    let long = [&b"*"[..], &long].concat();
    assert_eq!(run(&long), Err("Protocol error: too big mbulk count string".to_owned()));
    let long = [&b"*1\r\n$"[..], &long[1..]].concat();
    assert_eq!(run(&long), Err("Protocol error: too big bulk count string".to_owned()));
    let limits = Limits { command_bytes: 64, ..Limits::default() };
    let big = run_with(b"*2\r\n$3\r\nGET\r\n$64\r\n", &limits);
    assert_eq!(big, Err("Protocol error: too big command".to_owned()));
}

#[test]
fn a_promise_of_a_million_arguments_costs_nothing() {
    let mut args = Vec::new();
    let found = parse(&mut b"*1048576\r\n".to_vec(), &Limits::default(), &mut args);
    assert_eq!(found, Ok(None));
    assert!(args.capacity() < 100);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = run(&bytes);
        let _ = run(&[b"*3\r\n$", bytes.as_slice()].concat());
    }

    #[test]
    fn what_is_written_reads_back_wherever_it_is_split(
        command in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6),
        next in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let slices: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        let mut bytes = Vec::new();
        write(&mut bytes, &slices);
        let length = bytes.len();
        bytes.extend_from_slice(&next);
        prop_assert_eq!(run(&bytes), Ok(Some((length, command.clone()))));
        // One parser that is given one byte more each time.
        let (mut parser, mut args) = (Parser::new(), Vec::new());
        for cut in 0..length {
            let mut part = bytes[..cut].to_vec();
            prop_assert_eq!(parser.next(&mut part, &Limits::default(), &mut args), Ok(None));
            prop_assert_eq!(run(&bytes[..cut]), Ok(None));
        }
        let used = parser.next(&mut bytes, &Limits::default(), &mut args);
        prop_assert_eq!(used, Ok(Some(length)));
        let read: Vec<Vec<u8>> = args.iter().map(|r| bytes[r.clone()].to_vec()).collect();
        prop_assert_eq!(read, command);
    }

    #[test]
    fn inline_words_in_quotes_read_back(
        command in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 1..5),
    ) {
        let quote = |word: &Vec<u8>| {
            let escaped: String = word.iter().map(|b| format!("\\x{b:02x}")).collect();
            format!("\"{escaped}\"")
        };
        let line = command.iter().map(quote).collect::<Vec<_>>().join(" ") + "\r\n";
        prop_assert_eq!(run(line.as_bytes()), Ok(Some((line.len(), command.clone()))));
        for cut in 0..line.len() {
            prop_assert_eq!(run(&line.as_bytes()[..cut]), Ok(None));
        }
    }
}
