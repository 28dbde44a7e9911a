//! What an archive lets go of. Pure.

use super::{Archive, Record};

/// What to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Records of segments with lower numbers go.
    pub segments_below: u64,
    /// The bases that stay.
    pub bases: Vec<String>,
    /// How many segments go.
    pub segments_gone: usize,
    /// How many bases go.
    pub bases_gone: usize,
}

impl Keep {
    /// What must stay so that every moment from `since` (milliseconds since 1970, UTC) on can be
    /// restored: the newest base of that time or before, all after it, and the last base that was
    /// proven. `None` if nothing goes.
    pub fn since(archive: &Archive, since: u64) -> Option<Self> {
        let proven = archive
            .bases()
            .filter_map(|base| Some((archive.known_of(&base.id).1?, base.id.as_str())))
            .max()
            .map(|(_, id)| id.to_owned());
        Self::of(archive.records(), since, proven.as_deref())
    }

    fn of(records: &[(u64, Record)], since: u64, proven: Option<&str>) -> Option<Self> {
        let (number, needed) = records.iter().rev().find_map(|(number, record)| match record {
            Record::Base(base) if base.stamp.ms() <= since => Some((*number, base)),
            _ => None,
        })?;
        // Segments are recorded while a base is still on its way: what goes on from it may come before.
        let follows = records.iter().find_map(|(number, record)| match record {
            Record::Segment(segment) if segment.follows(needed.position) => Some(*number),
            _ => None,
        });
        let segments_below = follows.unwrap_or(number).min(number);
        let (mut bases, mut bases_gone, mut segments_gone) = (Vec::new(), 0, 0);
        for (at, record) in records {
            match record {
                Record::Base(base) if *at >= number || Some(base.id.as_str()) == proven => {
                    bases.push(base.id.clone());
                }
                Record::Base(_) => bases_gone += 1,
                Record::Segment(_) => segments_gone += usize::from(*at < segments_below),
                Record::Fork(_) => {}
            }
        }
        let keep = Self { segments_below, bases, segments_gone, bases_gone };
        (keep.segments_gone + keep.bases_gone > 0).then_some(keep)
    }
}
