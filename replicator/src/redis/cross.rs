//! Commands whose keys are on several shards of the target, and which cannot simply be parted.
//!
//! Each shard that is written runs the command by itself, in its own transaction: what it reads of other
//! shards was copied to it, under a name in its own slots that is gone again at the end of the
//! transaction. Nothing of what comes later is applied anywhere before that, so the copies are what the
//! source had. Who is written by what it reads of others goes first, for what it reads is there only
//! until they go on.

use super::target::{Target, TargetError};

/// The most bytes of keys that are copied for one command.
const COPIED_BYTES_MAX: usize = 64 << 20;
/// What the names of copies begin with.
const COPY: &str = "godwit.redis.copy";

/// What a command does with its keys, by where they are among its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// Who is written by what is read.
    pub to: usize,
    /// Who is read.
    pub from: Vec<usize>,
    /// The one that is read is written too: an element, or all of it, leaves it.
    pub moves: bool,
}

/// What this command does; none: it cannot be parted. The name is in small letters.
pub fn crossing(name: &[u8], args: &[&[u8]]) -> Option<Crossing> {
    let count = args.len();
    let is = |at: usize, word: &str| {
        args.get(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    };
    let stores = |to: usize, from: Vec<usize>| Some(Crossing { to, from, moves: false });
    let crossing = match name {
        b"smove" | b"rename" | b"renamenx" | b"rpoplpush" | b"lmove" => {
            Some(Crossing { to: 2, from: vec![1], moves: true })
        }
        b"copy" => stores(2, vec![1]),
        b"sunionstore" | b"sinterstore" | b"sdiffstore" | b"pfmerge" => {
            stores(1, (2..count).collect())
        }
        b"bitop" => stores(2, (3..count).collect()),
        b"zunionstore" | b"zinterstore" | b"zdiffstore" => {
            let keys = resp::integer(args.get(2)?).and_then(|keys| usize::try_from(keys).ok())?;
            stores(1, (3..keys.checked_add(3)?.min(count)).collect())
        }
        b"zrangestore" | b"geosearchstore" => stores(1, vec![2]),
        b"georadius" | b"georadiusbymember" => {
            let to = (2..count).rfind(|at| is(*at, "store") || is(*at, "storedist"))? + 1;
            stores(to, vec![1])
        }
        b"sort" => {
            // A pattern with an asterisk names keys that only the elements tell.
            let pattern = |at: usize| args.get(at + 1).is_some_and(|arg| arg.contains(&b'*'));
            let others = |at: usize| (is(at, "by") || is(at, "get")) && pattern(at);
            if (2..count).any(others) {
                return None;
            }
            stores((2..count).rfind(|at| is(*at, "store"))? + 1, vec![1])
        }
        _ => None,
    };
    crossing.filter(|found| found.to < count && found.from.iter().all(|at| *at < count))
}

/// A key that was copied: the name that it has in the shard, its bytes and until when it lives.
#[derive(Clone, Debug)]
pub struct Copied {
    /// Which argument it is.
    at: usize,
    name: Vec<u8>,
    /// None: there is no such key.
    value: Option<(Vec<u8>, i64)>,
}

/// Reads the keys of a command that are not on the shard `to`.
///
/// # Errors
/// In words, why they cannot be copied.
pub async fn copy(
    target: &mut Target,
    to: usize,
    crossing: &Crossing,
    args: &[&[u8]],
) -> Result<Result<Vec<Copied>, String>, TargetError> {
    let (mut copied, mut bytes) = (Vec::new(), 0);
    for &at in &crossing.from {
        let key = args.get(at).copied().unwrap_or_default();
        let of = target.shard_of(key)?;
        if of == to {
            continue;
        }
        let value = target.value_of(of, key).await?;
        bytes += value.as_ref().map_or(0, |(value, _)| value.len());
        if bytes > COPIED_BYTES_MAX {
            return Ok(Err(format!(
                "its keys are more than the {COPIED_BYTES_MAX} bytes that are copied between shards"
            )));
        }
        let name = target.name_on(to, &format!("{COPY}.{at}"));
        copied.push(Copied { at, name, value });
    }
    Ok(Ok(copied))
}

/// The commands of a shard's transaction: copies in, the command with their names, copies out.
pub fn with_copies(args: &[&[u8]], copied: &[Copied]) -> Vec<Vec<Vec<u8>>> {
    let mut commands = Vec::new();
    for copy in copied {
        let Some((value, until_ms)) = &copy.value else { continue };
        let until = until_ms.max(&0).to_string();
        let parts: [&[u8]; 6] =
            [b"RESTORE", &copy.name, until.as_bytes(), value, b"REPLACE", b"ABSTTL"];
        commands.push(parts.map(<[u8]>::to_vec).to_vec());
    }
    let mut own: Vec<Vec<u8>> = args.iter().map(|arg| arg.to_vec()).collect();
    for copy in copied {
        if let Some(arg) = own.get_mut(copy.at) {
            arg.clone_from(&copy.name);
        }
    }
    commands.push(own);
    for copy in copied {
        commands.push(vec![b"DEL".to_vec(), copy.name.clone()]);
    }
    commands
}

/// The commands of the shard that something leaves: it goes to a name that is gone again.
pub fn leaving(args: &[&[u8]], to: usize, name: Vec<u8>) -> Vec<Vec<Vec<u8>>> {
    with_copies(args, &[Copied { at: to, name, value: None }])
}

/// The name of what leaves a shard.
pub fn name_of_leaving(target: &Target, shard: usize) -> Vec<u8> {
    target.name_on(shard, COPY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, wanted: Option<(usize, &[usize], bool)>) {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let name = args[0].to_ascii_lowercase();
        let found = crossing(&name, &args);
        let wanted = wanted.map(|(to, from, moves)| Crossing { to, from: from.to_vec(), moves });
        assert_eq!(found, wanted, "{line}");
    }

    #[test]
    fn who_is_read_and_who_is_written() {
        check("SMOVE a b m", Some((2, &[1], true)));
        check("LMOVE a b LEFT RIGHT", Some((2, &[1], true)));
        check("RENAMENX a b", Some((2, &[1], true)));
        check("COPY a b REPLACE", Some((2, &[1], false)));
        check("SUNIONSTORE d a b", Some((1, &[2, 3], false)));
        check("PFMERGE d a", Some((1, &[2], false)));
        check("BITOP AND d a b", Some((2, &[3, 4], false)));
        check("ZUNIONSTORE d 2 a b WEIGHTS 1 2", Some((1, &[3, 4], false)));
        check("ZUNIONSTORE d 99999999999999999999 a", None);
        check("ZRANGESTORE d a 0 -1", Some((1, &[2], false)));
        check("GEORADIUS a 1 1 1 km STORE x STOREDIST d", Some((9, &[1], false)));
        check("GEORADIUS a 1 1 1 km STORE", None);
        check("SORT a BY nosort STORE d", Some((5, &[1], false)));
        check("SORT a BY w_* STORE d", None);
        check("SORT a GET # STORE d", Some((5, &[1], false)));
        check("EVAL script 2 a b", None);
        check("SMOVE a", None);
    }

    #[test]
    fn copies_are_gone_again_in_the_same_transaction() {
        let args: [&[u8]; 4] = [b"SUNIONSTORE", b"d", b"a", b"b"];
        let copied = [
            Copied { at: 2, name: b"one".to_vec(), value: Some((b"dump".to_vec(), -1)) },
            Copied { at: 3, name: b"two".to_vec(), value: None },
        ];
        let text = |command: &Vec<Vec<u8>>| {
            command.iter().map(|a| String::from_utf8_lossy(a)).collect::<Vec<_>>().join(" ")
        };
        let commands: Vec<_> = with_copies(&args, &copied).iter().map(text).collect();
        assert_eq!(
            commands,
            ["RESTORE one 0 dump REPLACE ABSTTL", "SUNIONSTORE d one two", "DEL one", "DEL two"]
        );
        let args: [&[u8]; 4] = [b"SMOVE", b"a", b"b", b"m"];
        let commands: Vec<_> = leaving(&args, 2, b"tmp".to_vec()).iter().map(text).collect();
        assert_eq!(commands, ["SMOVE a tmp m", "DEL tmp"]);
    }
}
