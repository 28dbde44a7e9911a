//! Pipelined commands see what those before them wrote and nobody committed yet, in collections too;
//! and many cold reads at once answer as one by one.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::node::{Client, Node, show};

/// Commands that write the same few collections and look through them.
fn command(random: &mut StdRng, number: u64) -> Vec<String> {
    let member = random.random_range(0..60);
    let other = random.random_range(0..60);
    let text = match random.random_range(0..34) {
        0..=5 => format!("ZADD {{t}}z {other} m{member} {member} m{other}"),
        6 => "ZPOPMIN {t}z".to_owned(),
        7 => format!("ZPOPMAX {{t}}z {}", member % 4),
        8 => "ZREMRANGEBYRANK {t}z 0 -31".to_owned(),
        9 => "ZRANGE {t}z 0 -1 WITHSCORES".to_owned(),
        10 => format!("ZRANGE {{t}}z {member} {} BYSCORE REV", other / 2),
        11 => format!("ZRANK {{t}}z m{member}"),
        12 => format!("ZREM {{t}}z m{member} m{other}"),
        13 => format!("ZCOUNT {{t}}z {other} +inf"),
        14..=16 => format!("HSET {{t}}h f{member} {other}"),
        17 => format!("HDEL {{t}}h f{member} f{other}"),
        18 => "HGETALL {t}h".to_owned(),
        19..=21 => format!("XADD {{t}}x MAXLEN 20 1-{} f {member}", number + 1),
        22 => "XRANGE {t}x - +".to_owned(),
        23 => format!("XDEL {{t}}x 1-{}", number.saturating_sub(5)),
        24 => format!("SADD {{t}}s {member} {other}"),
        25 => "SMEMBERS {t}s".to_owned(),
        26 => "ZUNIONSTORE {t}z 2 {t}z {t}s".to_owned(),
        27 => format!("DEL {{t}}{}", ["z", "h", "x", "s"][member % 4]),
        28 => "COPY {t}z {t}z2 REPLACE".to_owned(),
        29 => "KEYS *".to_owned(),
        30 => {
            let script = "redis.call('ZADD', KEYS[1], ARGV[1], 'e'); \
                          redis.call('ZPOPMIN', KEYS[1]); return redis.call('ZRANGE', KEYS[1], 0, -1)";
            return ["EVAL", script, "1", "{t}z", &member.to_string()].map(str::to_owned).into();
        }
        31 => "MULTI".to_owned(),
        32 => "EXEC".to_owned(),
        // Alone it is committed first, in a transaction it is not.
        _ if member < 6 => "FLUSHALL".to_owned(),
        _ => "ZCARD {t}z2".to_owned(),
    };
    text.split(' ').map(str::to_owned).collect()
}

fn send(client: &mut Client, commands: &[Vec<String>]) {
    let mut bytes = Vec::new();
    for command in commands {
        let words: Vec<&[u8]> = command.iter().map(|word| word.as_bytes()).collect();
        resp::command::write(&mut bytes, &words);
    }
    client.send(&bytes);
}

#[test]
fn a_pipeline_answers_as_its_commands_one_by_one() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let commands: Vec<_> = (0..3000).map(|number| command(&mut random, number)).collect();
    let (alone, piped) = (Node::new(), Node::new());
    let (mut one, mut many) = (alone.client(), piped.client());
    let mut at = 0;
    while at < commands.len() {
        let end = commands.len().min(at + random.random_range(1..300));
        send(&mut many, &commands[at..end]);
        for (number, command) in commands[at..end].iter().enumerate() {
            send(&mut one, std::slice::from_ref(command));
            let (one, many) = (show(&one.read()), show(&many.read()));
            assert_eq!(one, many, "seed {seed}, command {}: {command:?}", at + number);
        }
        at = end;
    }
}

#[test]
fn many_reads_of_what_is_not_in_memory_answer_at_once() {
    const KEYS: u64 = 400;
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut node = Node::new();
    let mut client = node.client();
    let text = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for key in 0..KEYS {
        let value = "v".repeat(random.random_range(1..3000));
        let fields = format!("HSET h{key} a {key} b {value}");
        let commands =
            [format!("SET s{key} {key}:{value}"), fields, format!("ZADD z{key} {key} m")];
        send(&mut client, &commands.map(|command| text(&command)));
        (0..3).for_each(|_| drop(client.read()));
    }
    let commands: Vec<_> = (0..4000)
        .map(|_| {
            // Some are not there, some are of another type.
            let key = random.random_range(0..KEYS * 5 / 4);
            text(&match random.random_range(0..10) {
                0..=2 => format!("GET s{key}"),
                3 => format!("HGET h{key} a"),
                4 => format!("HMGET h{key} b none a"),
                5 => format!("ZSCORE z{key} m"),
                6 => format!("MGET s{key} h{key} s{}", key + 1),
                7 => format!("HGET s{key} a"),
                // What the others ask for stays as it is.
                8 => format!("HSET h{0} a {0} c {key}", key % KEYS),
                _ => format!("EXISTS s{key} z{key}"),
            })
        })
        .collect();
    let mut wanted = Vec::new();
    for command in &commands {
        send(&mut client, std::slice::from_ref(command));
        wanted.push(show(&client.read()));
    }
    // Twice: what the reads left in memory the first time is gone again.
    for _ in 0..2 {
        node.crash();
        let mut client = node.client();
        let changes = |command: &[String]| command[0] == "HSET";
        for (commands, wanted) in commands.chunks(250).zip(wanted.chunks(250)) {
            send(&mut client, commands);
            for (command, wanted) in commands.iter().zip(wanted) {
                let found = show(&client.read());
                // A field is new only once; HMGET and HGET never ask for those.
                assert!(changes(command) || found == *wanted, "seed {seed}: {command:?}: {found}");
            }
        }
    }
}
