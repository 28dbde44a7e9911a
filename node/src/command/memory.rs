//! MEMORY USAGE: how many bytes a key's records take, before RocksDB compresses them.

use keyspace::meta::{Meta, Type};
use keyspace::score::Score;
use resp::reply::Writer;

use super::{Answer, Args, Fail, Flags, Keys, Spec};
use crate::worker::View;

pub(super) const SPECS: &[Spec] =
    &[Spec::data("server", "memory", -2, Flags::READONLY, Keys::range(2, 2, 1), memory)];

/// Entries that are measured where SAMPLES does not say how many.
const SAMPLES_DEFAULT: u64 = 5;
/// What a record has beside subkey and value: slot, the key's length, version; header and stamp.
const DATA_RECORD_BYTES: u64 = 2 + 4 + 8 + 9;

fn memory(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    if !args.is(1, "usage") {
        let sub = String::from_utf8_lossy(args.at(1));
        return Err(Fail::text(format!("ERR unknown subcommand '{sub}'. Try MEMORY HELP.")));
    }
    let samples = match args.len() {
        3 => SAMPLES_DEFAULT,
        5 if args.is(3, "samples") => match args.integer(4)? {
            0 => u64::MAX,
            n => u64::try_from(n).map_err(|_| Fail::Syntax)?,
        },
        2 => return Err(Fail::text("ERR wrong number of arguments for 'memory|usage' command")),
        _ => return Err(Fail::Syntax),
    };
    let key = args.key(2);
    let Some(entry) = view.entry(key)? else {
        out.null();
        return Ok(());
    };
    let name = key.name.len() as u64;
    let own = 2 + name + Meta::HEAD_LEN as u64;
    let Some(at) = entry.at else {
        let bytes = view.string(key)?.map_or(0, |text| text.len() as u64);
        out.integer((own + bytes) as i64);
        return Ok(());
    };
    if at.kind == Type::Stream {
        let all = super::stream::memory(view, key, &at, samples, DATA_RECORD_BYTES + name)?;
        out.integer(own.saturating_add(all).cast_signed());
        return Ok(());
    }
    let mut entries = view.entries(key, at.version)?;
    let (mut seen, mut bytes) = (0, 0);
    while seen < samples
        && let Some((subkey, value)) = entries.step()?
    {
        seen += 1;
        bytes += DATA_RECORD_BYTES + name + subkey.len() as u64 + value.len() as u64;
        if at.kind == Type::Zset {
            // Filed once more, by its score.
            bytes += DATA_RECORD_BYTES + name + Score::LEN as u64 + subkey.len() as u64;
        }
    }
    let all = (u128::from(bytes) * u128::from(at.size)) / u128::from(seen.max(1));
    out.integer(i64::try_from(u128::from(own) + all).unwrap_or(i64::MAX));
    Ok(())
}
