//! The archive of one shard: checkpoints, and the log between and after them.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use keyspace::Hlc;
use serde::{Deserialize, Serialize};
use wal::{Chain as StreamChain, Position, Sequence, TimelineId};

use super::chain::Numbered;
use super::header::unix_ms;
use super::text::damaged;
use super::{Chain, Manifest, Repository, What};
use crate::bucket::Put;
use crate::{ObjectId, StoreError};

/// Up to 63 letters, digits, `-` and `_`: what a service and a cluster may be called.
fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    !text.is_empty() && text.len() <= 63 && text.bytes().all(allowed)
}

/// Whose archive it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArchiveName {
    service: String,
    cluster: String,
    shard: u32,
}

impl ArchiveName {
    /// Of a shard of a cluster of a service; `None` if these are no names.
    pub fn new(service: &str, cluster: &str, shard: u32) -> Option<Self> {
        let (service, cluster) = (service.to_owned(), cluster.to_owned());
        (is_name(&service) && is_name(&cluster)).then_some(Self { service, cluster, shard })
    }

    /// Of another shard of the same service, as it prints: `a/0`.
    pub fn sibling(&self, shard: &str) -> Option<Self> {
        let (cluster, number) = shard.split_once('/')?;
        Self::new(&self.service, cluster, number.parse().ok()?)
    }

    /// The service.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The shard, as it prints: `a/0`.
    pub fn shard(&self) -> String {
        format!("{}/{}", self.cluster, self.shard)
    }

    /// Of a name that something in the archive has.
    pub fn of(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix("archive/")?.split('/');
        let (service, shard) = (parts.next()?, parts.next()?);
        let (cluster, number) = shard.rsplit_once('-')?;
        Self::new(service, cluster, number.parse().ok()?)
    }

    /// What all its objects' names begin with.
    pub fn dir(&self) -> String {
        format!("archive/{}/{}-{}", self.service, self.cluster, self.shard)
    }
}

impl fmt::Display for ArchiveName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.service, self.cluster, self.shard)
    }
}

/// What was archived, in the order in which it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Record {
    /// A checkpoint.
    Base(Base),
    /// A part of the log.
    Segment(Segment),
    /// Where the log goes on from that of another shard.
    Fork(Fork),
}

/// A checkpoint that is stored whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Base {
    /// Its name.
    pub id: String,
    /// The hash line of its manifest.
    pub manifest: ObjectId,
    /// Where it stands.
    pub position: Position,
    /// No stamp in it is above this one.
    pub stamp: Hlc,
    /// When it was taken: milliseconds since 1970, UTC.
    pub taken_at: u64,
    /// The bytes of its files.
    pub bytes: u64,
    /// The stream of segments that goes on from it.
    pub stream: u64,
}

/// Where a shard took over from another one: its stream begins where its own log went on, and what was
/// before is in that one's archive. Both have the same slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fork {
    /// Where the stream begins, on this shard's own log.
    pub position: Position,
    /// From whom it took over: `a/0`.
    pub shard: String,
    /// The last position of that one's log that it had.
    pub at: Position,
    /// The epoch of the switch.
    pub epoch: u64,
    /// The stream of segments that begins here.
    pub stream: u64,
    /// When it was recorded: milliseconds since 1970, UTC.
    pub taken_at: u64,
}

/// A run of frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Segment {
    /// Before its first batch.
    pub start: Position,
    /// The end of its last one; all its frames end on this timeline.
    pub end: Position,
    /// The stream's chain before.
    pub chain_before: StreamChain,
    /// And at the end.
    pub chain: StreamChain,
    /// The source's log's chain at the end.
    pub log_chain: StreamChain,
    /// The highest stamp up to the end.
    pub stamp: Hlc,
    /// The highest epoch up to the end.
    pub epoch: u64,
    /// Its length.
    pub bytes: u64,
    /// The hash of its bytes.
    pub blake3: ObjectId,
    /// The run of segments that it belongs to.
    pub stream: u64,
    /// When it was sealed: milliseconds since 1970, UTC.
    pub taken_at: u64,
}

impl Segment {
    /// Whether the batch that ends at `position` is in it.
    pub fn contains(&self, position: Position) -> bool {
        position.timeline == self.end.timeline
            && self.start.sequence < position.sequence
            && position.sequence <= self.end.sequence
    }

    /// Whether the batch after `position` is in it, or could be.
    pub fn follows(&self, position: Position) -> bool {
        self.start == position || (self.contains(position) && position != self.end)
    }

    /// The name of its blob in this archive.
    pub fn name(&self, archive: &ArchiveName) -> String {
        let (first, hash) = (self.start.sequence.next(), self.blake3.to_string());
        let Sequence(first) = first;
        let TimelineId(timeline) = self.end.timeline;
        format!(
            "{}/segments/{timeline:032x}/{first:017}-{:017}-{}",
            archive.dir(),
            self.end.sequence.0,
            &hash[..16]
        )
    }
}

/// What was found out of an archive later, and what of it counts no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Mark {
    /// Every blob of a base and of the segments that go on from it was read back.
    Verified {
        /// The base's id.
        base: String,
        /// Milliseconds since 1970, UTC.
        at: u64,
    },
    /// It was restored and opened.
    Proven {
        /// The base's id.
        base: String,
        /// Milliseconds since 1970, UTC.
        at: u64,
    },
    /// Retention has let go of what was before.
    #[serde(rename_all = "kebab-case")]
    Forgotten {
        /// Milliseconds since 1970, UTC.
        at: u64,
        /// Records of segments with lower numbers count no more.
        segments_below: u64,
        /// The bases that still count; those that come later count too.
        bases: Vec<String>,
        /// Records of bases with lower numbers count only if they are named above.
        bases_below: u64,
        /// No record with a lower number counts: their pages may be deleted.
        first: u64,
    },
}

/// The archive of one shard, opened: all records that count, and a place to add to them.
///
/// With [`Archive::open_whole`] it also has the archives that its forks lead to; whatever is asked of a base
/// or a segment is asked of the one that it is in.
#[derive(Debug)]
pub struct Archive {
    repository: Repository,
    name: ArchiveName,
    chain: Chain<Record>,
    marks: Chain<Mark>,
    records: Numbered<Record>,
    known: Vec<Mark>,
    /// Those that forks lead to, each once.
    before: Vec<Archive>,
    /// Which of them a segment is in, by its hash, which covers whose it is.
    elsewhere: HashMap<ObjectId, usize>,
}

impl Archive {
    /// Opens it; one that does not exist is empty.
    ///
    /// # Errors
    /// The store failed, or what it holds is damaged.
    pub async fn open(repository: &Repository, name: &ArchiveName) -> Result<Self, StoreError> {
        let (marks, known) =
            Chain::<Mark>::open(repository, &format!("{}/marks", name.dir()), 0).await?;
        let known: Vec<_> = known.into_iter().map(|(_, mark)| mark).collect();
        let floor = Floor::of(&known);
        let dir = format!("{}/chain", name.dir());
        let (chain, mut records) = Chain::open(repository, &dir, floor.page).await?;
        records.retain(|(number, record)| floor.counts(*number, record));
        Ok(Self {
            repository: repository.clone(),
            name: name.clone(),
            chain,
            marks,
            records,
            known,
            before: Vec::new(),
            elsewhere: HashMap::new(),
        })
    }

    /// Opens it with the archives that its forks lead to, as far as they are in the same repository: what
    /// a shard had before it took over is in those of who was primary then.
    ///
    /// # Errors
    /// As [`Archive::open`].
    pub async fn open_whole(
        repository: &Repository,
        name: &ArchiveName,
    ) -> Result<Self, StoreError> {
        let mut archive = Self::open(repository, name).await?;
        let mut opened = BTreeSet::from([name.clone()]);
        let mut waiting = archive.taken_over_from();
        while let Some(next) = waiting.pop() {
            if opened.insert(next.clone()) {
                let other = Self::open(repository, &next).await?;
                waiting.extend(other.taken_over_from());
                let index = archive.before.len();
                archive.elsewhere.extend(other.segments().map(|s| (s.blake3, index)));
                archive.before.push(other);
            }
        }
        Ok(archive)
    }

    /// Whose archives its forks lead to, where it was opened whole.
    pub fn names_before(&self) -> Vec<ArchiveName> {
        self.before.iter().map(|archive| archive.name.clone()).collect()
    }

    fn taken_over_from(&self) -> Vec<ArchiveName> {
        self.forks().filter_map(|fork| self.name.sibling(&fork.shard)).collect()
    }

    /// It and those that its forks lead to.
    pub(super) fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.before)
    }

    /// The archive that a segment is in.
    fn holding(&self, segment: &Segment) -> &Self {
        // What nobody has is asked of this one, which says that it is not there.
        self.elsewhere.get(&segment.blake3).map_or(self, |index| &self.before[*index])
    }

    /// The archive that a base is in.
    fn with_base(&self, id: &str) -> &Self {
        let has = |archive: &&Self| archive.bases().any(|base| base.id == id);
        self.all().find(has).unwrap_or(self)
    }

    /// Whose archive a segment is in.
    pub fn name_of(&self, segment: &Segment) -> &ArchiveName {
        &self.holding(segment).name
    }

    /// Whether one shard's log went on at `to` from where another's was left, `from`.
    pub fn leads(&self, from: Position, to: Position) -> bool {
        self.all().any(|archive| archive.forks().any(|fork| (fork.at, fork.position) == (from, to)))
    }

    /// Whose it is.
    pub fn name(&self) -> &ArchiveName {
        &self.name
    }

    /// The repository that it is in.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// What counts, in the order in which it was added, with its numbers.
    pub fn records(&self) -> &Numbered<Record> {
        &self.records
    }

    /// What is known of it.
    pub fn marks(&self) -> &[Mark] {
        &self.known
    }

    /// Its bases, oldest first.
    pub fn bases(&self) -> impl DoubleEndedIterator<Item = &Base> {
        self.records.iter().filter_map(|(_, record)| match record {
            Record::Base(base) => Some(base),
            _ => None,
        })
    }

    /// Where it goes on from others, in the order in which that was recorded.
    pub fn forks(&self) -> impl DoubleEndedIterator<Item = &Fork> {
        self.records.iter().filter_map(|(_, record)| match record {
            Record::Fork(fork) => Some(fork),
            _ => None,
        })
    }

    /// Its segments, in the order in which they were added.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.records.iter().filter_map(|(_, record)| match record {
            Record::Segment(segment) => Some(segment),
            _ => None,
        })
    }

    /// A number that no stream in it has.
    pub fn next_stream(&self) -> u64 {
        let streams = self.records.iter().map(|(_, record)| match record {
            Record::Base(base) => base.stream,
            Record::Segment(segment) => segment.stream,
            Record::Fork(fork) => fork.stream,
        });
        streams.max().map_or(0, |last| last + 1)
    }

    /// When a base was verified last, and when it was proven.
    pub fn known_of(&self, id: &str) -> (Option<u64>, Option<u64>) {
        let (mut verified, mut proven) = (None, None);
        for mark in &self.with_base(id).known {
            match mark {
                Mark::Verified { base, at } if base == id => verified = verified.max(Some(*at)),
                Mark::Proven { base, at } if base == id => proven = proven.max(Some(*at)),
                _ => {}
            }
        }
        (verified, proven)
    }

    /// Writes a segment and then its record.
    ///
    /// # Errors
    /// As [`Chain::add`]: it may be tried again.
    pub async fn add_segment(
        &mut self,
        segment: Segment,
        bytes: Vec<u8>,
    ) -> Result<u64, StoreError> {
        let name = segment.name(&self.name);
        self.repository.put_blob(&name, What::Segment, segment.blake3, bytes).await?;
        self.add(Record::Segment(segment)).await
    }

    /// Writes a manifest, all of whose pieces are stored, and then its record.
    ///
    /// # Errors
    /// As [`Chain::add`]: it may be tried again.
    pub async fn add_base(&mut self, manifest: &Manifest, stream: u64) -> Result<Base, StoreError> {
        let id = format!("{:013}-{:08x}", manifest.taken_at, rand::random::<u32>());
        manifest
            .validate()
            .map_err(|why| StoreError::Rejected { name: format!("base {id}"), why })?;
        let name = self.manifest_name(&id);
        let (put, line) = self.repository.put_text(&name, manifest).await?;
        if put == Put::Exists {
            return Err(StoreError::Overtaken { name });
        }
        let base = Base {
            id,
            manifest: line,
            position: manifest.position,
            stamp: manifest.stamp,
            taken_at: manifest.taken_at,
            bytes: manifest.bytes(),
            stream,
        };
        self.add(Record::Base(base.clone())).await?;
        Ok(base)
    }

    /// Records where it goes on from another.
    ///
    /// # Errors
    /// As [`Chain::add`]: it may be tried again.
    pub async fn add_fork(&mut self, fork: Fork) -> Result<u64, StoreError> {
        self.add(Record::Fork(fork)).await
    }

    async fn add(&mut self, record: Record) -> Result<u64, StoreError> {
        let number = self.chain.add(record.clone()).await?;
        self.records.push((number, record));
        Ok(number)
    }

    /// Adds what was found out; of a base, where that is.
    ///
    /// # Errors
    /// As [`Chain::add`].
    pub async fn mark(&mut self, mark: Mark) -> Result<(), StoreError> {
        let held = |archive: &&mut Self| match &mark {
            Mark::Verified { base, .. } | Mark::Proven { base, .. } => {
                archive.bases().any(|held| held.id == *base)
            }
            Mark::Forgotten { .. } => false,
        };
        let archive = match self.before.iter_mut().find(held) {
            Some(before) => before,
            None => self,
        };
        archive.marks.add(mark.clone()).await?;
        archive.known.push(mark);
        Ok(())
    }

    /// Lets go of what `forget` names.
    ///
    /// # Errors
    /// As [`Chain::add`].
    pub async fn forget(
        &mut self,
        segments_below: u64,
        bases: Vec<String>,
    ) -> Result<(), StoreError> {
        let bases_below = self.chain.next();
        let mut floor = Floor { page: 0, segments_below, bases_below, bases };
        let counting = self.records.iter().find(|(number, record)| floor.counts(*number, record));
        floor.page = counting.map_or(bases_below, |(number, _)| *number);
        let mark = Mark::Forgotten {
            at: unix_ms(),
            segments_below,
            bases: floor.bases.clone(),
            bases_below,
            first: floor.page,
        };
        self.mark(mark).await?;
        self.records.retain(|(number, record)| floor.counts(*number, record));
        Ok(())
    }

    /// The manifest of a base.
    ///
    /// # Errors
    /// It is missing or is not the one that was recorded.
    pub async fn manifest(&self, base: &Base) -> Result<Manifest, StoreError> {
        let name = self.with_base(&base.id).manifest_name(&base.id);
        let found = self.repository.text::<Manifest>(&name, Manifest::BYTES_MAX).await?;
        let (manifest, line) = found.ok_or_else(|| damaged(&name, "the manifest is missing"))?;
        if line != base.manifest {
            return Err(damaged(&name, "it is not the manifest that was recorded"));
        }
        manifest.validate().map_err(|why| damaged(&name, &why))?;
        Ok(manifest)
    }

    /// The bytes of a segment.
    ///
    /// # Errors
    /// It is missing or damaged.
    pub async fn segment(&self, segment: &Segment) -> Result<Vec<u8>, StoreError> {
        let name = segment.name(self.name_of(segment));
        let bytes = self.repository.blob(&name, What::Segment, segment.blake3).await?;
        if bytes.len() as u64 != segment.bytes {
            return Err(damaged(&name, "it has another length than its record says"));
        }
        Ok(bytes)
    }

    pub(super) fn manifest_name(&self, id: &str) -> String {
        format!("{}/bases/{id}", self.name.dir())
    }

    /// The number of the first record that any page that counts has, and of the next one.
    pub(super) fn pages(&self) -> (u64, u64, u64) {
        (Floor::of(&self.known).page, self.chain.next(), self.marks.next())
    }
}

impl Repository {
    /// The archives that it holds. This lists names, as nothing else does that is done often.
    ///
    /// # Errors
    /// The store cannot be listed.
    pub async fn archives(&self) -> Result<Vec<ArchiveName>, StoreError> {
        let listed = self.bucket.list("archive/").await?;
        let names = listed.iter().filter_map(|object| ArchiveName::of(&object.name));
        Ok(names.collect::<BTreeSet<_>>().into_iter().collect())
    }
}

/// Below what records count no more.
pub(super) struct Floor {
    /// No record below counts.
    pub(super) page: u64,
    segments_below: u64,
    bases_below: u64,
    bases: Vec<String>,
}

impl Floor {
    /// As the last mark says that lets go of something.
    pub(super) fn of(known: &[Mark]) -> Self {
        let last = known.iter().rev().find_map(|mark| match mark {
            Mark::Forgotten { segments_below, bases, bases_below, first, .. } => Some(Self {
                page: *first,
                segments_below: *segments_below,
                bases_below: *bases_below,
                bases: bases.clone(),
            }),
            _ => None,
        });
        last.unwrap_or(Self { page: 0, segments_below: 0, bases_below: 0, bases: Vec::new() })
    }

    fn counts(&self, number: u64, record: &Record) -> bool {
        match record {
            Record::Segment(_) | Record::Fork(_) => number >= self.segments_below,
            Record::Base(base) => number >= self.bases_below || self.bases.contains(&base.id),
        }
    }
}
