//! A key as `redis-cli` prints it, and as JSON.

use std::fmt::Write as _;

use keyspace::stream::StreamId;
use serde_json::{Value as Json, json};

use super::value::{Found, Pairs, Value};

/// An answer, as a client of Redis gets it.
enum Reply {
    Bulk(Vec<u8>),
    Array(Vec<Reply>),
}

/// As `redis-cli` prints it on a terminal.
pub(super) fn lines(found: &Found) -> String {
    let bulk = |bytes: &[u8]| Reply::Bulk(bytes.to_vec());
    let (shown, reply) = match &found.value {
        Value::String(bytes) => (found.size, bulk(bytes)),
        Value::Hash(fields) => {
            let pairs = fields.iter().flat_map(|(field, value, _)| [bulk(field), bulk(value)]);
            (fields.len() as u64, Reply::Array(pairs.collect()))
        }
        Value::List(all) | Value::Set(all) => {
            (all.len() as u64, Reply::Array(all.iter().map(|one| bulk(one)).collect()))
        }
        Value::Zset(members) => {
            let pairs = members
                .iter()
                .flat_map(|(member, score)| [bulk(member), bulk(score.to_string().as_bytes())]);
            (members.len() as u64, Reply::Array(pairs.collect()))
        }
        Value::Stream(stream) => {
            let entry = |(id, pairs): &(StreamId, Pairs)| {
                let pairs = pairs.iter().flat_map(|(field, value)| [bulk(field), bulk(value)]);
                Reply::Array(vec![bulk(id.to_string().as_bytes()), Reply::Array(pairs.collect())])
            };
            let entries = stream.entries.iter().map(entry).collect();
            (stream.entries.len() as u64, Reply::Array(entries))
        }
    };
    let mut text = String::new();
    print(&reply, "", &mut text);
    if shown < found.size {
        // A hash counts fields that have expired until they are deleted.
        let line = write!(text, "\n({shown} of {} are shown: see --limit)", found.size);
        line.expect("a string takes all");
    }
    text
}

/// Numbers stand right-aligned before each element, and what is inside of one is set in by their width.
fn print(reply: &Reply, indent: &str, text: &mut String) {
    match reply {
        Reply::Bulk(bytes) => text.push_str(&quoted(bytes)),
        Reply::Array(all) if all.is_empty() => text.push_str("(empty array)"),
        Reply::Array(all) => {
            let width = all.len().to_string().len();
            let inner = format!("{indent}{}", " ".repeat(width + 2));
            for (n, one) in all.iter().enumerate() {
                if n > 0 {
                    text.push('\n');
                    text.push_str(indent);
                }
                write!(text, "{:>width$}) ", n + 1).expect("a string takes all");
                print(one, &inner, text);
            }
        }
    }
}

/// In quotes, with what is not printable escaped as Redis does.
fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => text.extend(['\\', char::from(byte)]),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            0x07 => text.push_str("\\a"),
            0x08 => text.push_str("\\b"),
            0x20..=0x7e => text.push(char::from(byte)),
            _ => write!(text, "\\x{byte:02x}").expect("a string takes all"),
        }
    }
    text.push('"');
    text
}

/// A text; bytes that are none are an object with their hexadecimal digits.
pub(super) fn text(bytes: &[u8]) -> Json {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "hex": bytes.iter().map(|b| format!("{b:02x}")).collect::<String>() }),
    }
}

/// As JSON.
pub(super) fn json(found: &Found) -> Json {
    let value = match &found.value {
        Value::String(bytes) => text(bytes),
        Value::Hash(fields) => fields
            .iter()
            .map(|(field, value, expire_ms)| match expire_ms {
                0 => json!({ "field": text(field), "value": text(value) }),
                at => json!({ "field": text(field), "value": text(value), "expire-ms": at }),
            })
            .collect(),
        Value::List(all) | Value::Set(all) => all.iter().map(|one| text(one)).collect(),
        Value::Zset(members) => members
            .iter()
            .map(|(member, score)| json!({ "member": text(member), "score": score.to_string() }))
            .collect(),
        Value::Stream(stream) => {
            let entries = stream.entries.iter().map(|(id, pairs)| {
                let pairs = pairs.iter().map(|(field, value)| json!([text(field), text(value)]));
                json!({ "id": id.to_string(), "fields": pairs.collect::<Vec<_>>() })
            });
            let groups = stream.groups.iter().map(|(name, group)| {
                json!({
                    "name": text(name), "last-delivered-id": group.last.to_string(),
                    "consumers": group.consumers, "pending": group.pending,
                })
            });
            json!({
                "last-id": stream.last.to_string(), "entries": entries.collect::<Vec<_>>(),
                "groups": groups.collect::<Vec<_>>(),
            })
        }
    };
    json!({
        "type": found.kind.name(), "expire-ms": found.expire_ms, "size": found.size, "value": value,
    })
}

#[cfg(test)]
mod tests {
    use keyspace::meta::Type;

    use super::*;

    fn found(kind: Type, size: u64, value: Value) -> Found {
        Found { kind, expire_ms: 0, size, value }
    }

    #[test]
    fn answers_look_as_redis_cli_prints_them() {
        let string = found(Type::String, 5, Value::String(b"a\"\x01\n\xff".to_vec()));
        assert_eq!(lines(&string), r#""a\"\x01\n\xff""#);
        let all: Vec<_> = (0..10).map(|n| n.to_string().into_bytes()).collect();
        let list = lines(&found(Type::List, 12, Value::List(all)));
        assert!(list.starts_with(" 1) \"0\"\n 2) \"1\"\n"), "{list}");
        assert!(list.ends_with("10) \"9\"\n(10 of 12 are shown: see --limit)"), "{list}");
        let entries = vec![
            (StreamId::new(1, 0), vec![(b"f".to_vec(), b"v".to_vec())]),
            (StreamId::new(2, 0), vec![(b"g".to_vec(), b"w".to_vec())]),
        ];
        let stream =
            super::super::value::Stream { last: StreamId::new(2, 0), entries, groups: Vec::new() };
        let stream = found(Type::Stream, 2, Value::Stream(stream));
        assert_eq!(
            lines(&stream),
            "1) 1) \"1-0\"\n   2) 1) \"f\"\n      2) \"v\"\n2) 1) \"2-0\"\n   2) 1) \"g\"\n      2) \"w\""
        );
        let zset = found(Type::Zset, 1, Value::Zset(vec![(b"m".to_vec(), 1.5)]));
        assert_eq!(lines(&zset), "1) \"m\"\n2) \"1.5\"");
        assert_eq!(json(&zset)["value"][0]["score"], "1.5");
        assert_eq!(text(b"\xff")["hex"], "ff");
    }
}
