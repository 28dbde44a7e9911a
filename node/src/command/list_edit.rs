//! Lists by what is in them: elements found, taken out and put in between.

use keyspace::meta::Type;
use resp::reply::Writer;

use super::list::each;
use super::{Answer, Args, Fail, Flags, Keys, Spec};
use crate::worker::{Class, Direction, Head, Key, View};

const G: &str = "list";
const W: Flags = Flags::WRITE;

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "lrem", 4, W, Keys::ONE, lrem),
    Spec::data(G, "linsert", 5, W.and(Flags::DENYOOM), Keys::ONE, linsert),
    Spec::data(G, "lpos", -3, Flags::READONLY, Keys::ONE, lpos),
];

/// The whole list, for commands that rewrite it.
fn elements(view: &mut View<'_>, key: Key<'_>, head: &Head) -> Result<Vec<Vec<u8>>, Fail> {
    let mut all = Vec::new();
    each(view, key, head, (head.at.head, head.at.tail), Direction::Up, |_, element| {
        all.push(element.to_vec());
        true
    })?;
    super::page::check_size(head.at.size as usize, all.len())?;
    Ok(all)
}

/// Makes `new` the elements from `from` on, in place of what was there, to the list's end.
fn rewrite(view: &mut View<'_>, key: Key<'_>, head: &mut Head, from: u64, new: &[Vec<u8>]) {
    for (index, element) in (from..).zip(new) {
        view.put_data(key, head.at.version, &index.to_be_bytes(), element);
    }
    let tail = from + new.len() as u64;
    for index in tail..head.at.tail {
        view.delete_data(key, head.at.version, &index.to_be_bytes());
    }
    head.at.tail = tail;
    head.at.size = tail - head.at.head;
    view.put_head(key, head);
}

fn lrem(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (key, count, value) = (args.key(1), args.integer(2)?, args.at(3));
    let Some(mut head) = view.head(key, Type::List)? else {
        out.integer(0);
        return Ok(());
    };
    let all = elements(view, key, &head)?;
    let wanted = match count.unsigned_abs() {
        0 => usize::MAX,
        count => usize::try_from(count).unwrap_or(usize::MAX),
    };
    let matching = || all.iter().enumerate().filter(|(_, e)| *e == value).map(|(i, _)| i);
    let mut removed: Vec<usize> = match count < 0 {
        true => matching().rev().take(wanted).collect(),
        false => matching().take(wanted).collect(),
    };
    removed.sort_unstable();
    if let Some(&first) = removed.first() {
        let kept = (first..).zip(&all[first..]);
        let kept = kept.filter(|(index, _)| removed.binary_search(index).is_err());
        let kept: Vec<_> = kept.map(|(_, element)| element.clone()).collect();
        let from = head.at.head + first as u64;
        rewrite(view, key, &mut head, from, &kept);
        view.notify_shrunk(Class::LIST, "lrem", key, head.at.size);
    }
    out.integer(removed.len() as i64);
    Ok(())
}

fn linsert(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let after = match () {
        () if args.is(2, "before") => 0,
        () if args.is(2, "after") => 1,
        () => return Err(Fail::Syntax),
    };
    let key = args.key(1);
    let Some(mut head) = view.head(key, Type::List)? else {
        out.integer(0);
        return Ok(());
    };
    let all = elements(view, key, &head)?;
    let Some(pivot) = all.iter().position(|element| element == args.at(3)) else {
        out.integer(-1);
        return Ok(());
    };
    let at = pivot + after;
    let mut moved = vec![args.at(4).to_vec()];
    moved.extend_from_slice(&all[at..]);
    let from = head.at.head + at as u64;
    rewrite(view, key, &mut head, from, &moved);
    view.notify(Class::LIST, "linsert", key);
    out.integer(head.at.size as i64);
    Ok(())
}

struct LposOptions {
    rank: i64,
    count: Option<u64>,
    max_len: u64,
}

fn lpos_options(args: &Args<'_>) -> Result<LposOptions, Fail> {
    let mut options = LposOptions { rank: 1, count: None, max_len: 0 };
    if args.len().is_multiple_of(2) {
        return Err(Fail::Syntax);
    }
    for (index, (name, _)) in args.pairs(3).enumerate() {
        let number = 4 + index * 2;
        let unsigned = |what: &str| {
            let bad = || Fail::text(format!("ERR {what} can't be negative"));
            args.integer(number).ok().and_then(|n| u64::try_from(n).ok()).ok_or_else(bad)
        };
        match &name.to_ascii_lowercase()[..] {
            b"rank" => options.rank = args.integer(number)?,
            b"count" => options.count = Some(unsigned("COUNT")?),
            b"maxlen" => options.max_len = unsigned("MAXLEN")?,
            _ => return Err(Fail::Syntax),
        }
    }
    match options.rank {
        0 => Err(Fail::text(
            "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... \
             or use negative to start from the end of the list",
        )),
        i64::MIN => Err(Fail::text(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        )),
        _ => Ok(options),
    }
}

fn lpos(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let LposOptions { rank, count, max_len } = lpos_options(args)?;
    let (key, value) = (args.key(1), args.at(2));
    let mut found = Vec::new();
    if let Some(head) = view.head(key, Type::List)? {
        let direction = if rank < 0 { Direction::Down } else { Direction::Up };
        let wanted = count.map_or(1, |n| if n == 0 { u64::MAX } else { n });
        let (mut compared, mut matched) = (0, 0);
        let ends = (head.at.head, head.at.tail);
        each(view, key, &head, ends, direction, |index, element| {
            compared += 1;
            if element == value {
                matched += 1;
                if matched >= rank.unsigned_abs() {
                    found.push(index - head.at.head);
                }
            }
            (found.len() as u64) < wanted && (max_len == 0 || compared < max_len)
        })?;
    }
    if count.is_some() {
        out.array(found.len());
    } else if found.is_empty() {
        out.null();
    }
    found.iter().for_each(|&index| out.integer(index as i64));
    Ok(())
}
