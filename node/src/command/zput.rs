//! What commands on sorted sets have in common: members out of a set, into a set, to a client.

use keyspace::meta::Type;
use keyspace::score::Score;
use resp::Version;
use resp::reply::Writer;

use super::Answer;
use crate::worker::{Class, Head, Key, View};

/// Members, perhaps with scores: pairs in RESP3, one after the other in RESP2.
pub(super) fn write_members(out: &mut Writer<'_>, found: &[(Score, Vec<u8>)], with_scores: bool) {
    let nested = with_scores && out.version() == Version::V3;
    out.array(if with_scores && !nested { found.len() * 2 } else { found.len() });
    for (score, member) in found {
        if nested {
            out.array(2);
        }
        out.bulk(member);
        if with_scores {
            out.double(score.number());
        }
    }
}

/// Removes members that are there, and stores the head.
pub(super) fn take_out(
    view: &mut View<'_>,
    key: Key<'_>,
    head: &mut Head,
    members: &[(Score, Vec<u8>)],
) {
    for (score, member) in members {
        view.delete_data(key, head.at.version, member);
        view.delete_score(key, head.at.version, *score, member);
        head.at.size = head.at.size.saturating_sub(1);
    }
    if !members.is_empty() {
        view.put_head(key, head);
    }
}

/// Makes a key the sorted set of these members, all different, in place of what it was; none: no key.
/// Notifications call it `event`.
pub(super) fn store(
    view: &mut View<'_>,
    key: Key<'_>,
    members: &[(Score, Vec<u8>)],
    event: &'static str,
) -> Answer {
    let replaced = view.is_replaced(key)?;
    let mut head = view.create(Type::Zset);
    head.at.size = members.len() as u64;
    for (score, member) in members {
        view.put_data(key, head.at.version, member, score.bytes());
        view.put_score(key, head.at.version, *score, member);
    }
    view.put_head(key, &head);
    view.notify_replaced(Class::ZSET, event, key, (members.len(), replaced));
    Ok(())
}
