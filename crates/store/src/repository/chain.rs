//! Lists that grow by records, in pages with predictable names: nothing is ever listed.
//!
//! Each page has the records of its group up to its own, so whoever reads all needs the last page of
//! each group; and the end is found by asking for a few pages. A page is put only if there is none of
//! its number, so two writers cannot both add record n.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Repository;
use super::text::damaged;
use crate::bucket::Put;
use crate::{ObjectId, StoreError};

/// Records of a group.
pub const GROUP: u64 = 64;
/// The most bytes of a page.
const BYTES_MAX: u64 = 16 << 20;
/// No chain has more groups: a record a second for 130 years.
const GROUPS_MAX: u64 = 1 << 26;

/// A list of records that is written here.
#[derive(Debug)]
pub struct Chain<R> {
    repository: Repository,
    dir: String,
    /// The number of the next record.
    next: u64,
    /// The last page of the group before that of `next`.
    before: Option<ObjectId>,
    /// The records of the group of `next`.
    group: Vec<R>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Page<R> {
    format: u32,
    pub(super) number: u64,
    writer: u64,
    pub(super) before: Option<ObjectId>,
    pub(super) records: Vec<R>,
}

/// Records with their numbers.
pub type Numbered<R> = Vec<(u64, R)>;

impl<R: Serialize + DeserializeOwned + Clone> Chain<R> {
    /// A list of which nothing is known yet.
    pub(super) fn at(repository: &Repository, dir: &str) -> Self {
        Self {
            repository: repository.clone(),
            dir: dir.to_owned(),
            next: 0,
            before: None,
            group: Vec::new(),
        }
    }

    /// Opens a list to read all of it from record `from` on (or the beginning of its group), and to add
    /// to it.
    ///
    /// # Errors
    /// A page is damaged or missing, or the store failed.
    pub async fn open(
        repository: &Repository,
        dir: &str,
        from: u64,
    ) -> Result<(Self, Numbered<R>), StoreError> {
        let mut chain = Self::at(repository, dir);
        let first = from / GROUP;
        let full = chain.full_groups(first).await?;
        let last = chain.last_of_group(full).await?;
        let mut all = Vec::new();
        for group in first..full {
            let (page, id) = chain.page(group * GROUP + GROUP - 1).await?;
            // What was cut off before `first` is not there to compare with.
            if group > first && page.before != chain.before {
                let name = chain.name(page.number);
                return Err(damaged(&name, "it does not follow on the page before it"));
            }
            chain.before = Some(id);
            all.extend((group * GROUP..).zip(page.records));
        }
        chain.next = full * GROUP;
        if let Some(last) = last {
            let (page, _) = chain.page(last).await?;
            all.extend((full * GROUP..).zip(page.records.iter().cloned()));
            chain.next = last + 1;
            chain.group = page.records;
        }
        all.retain(|(number, _)| *number >= from);
        Ok((chain, all))
    }

    /// Opens a list to read its last record alone, and to add to it.
    ///
    /// # Errors
    /// As [`Chain::open`].
    pub async fn tail(repository: &Repository, dir: &str) -> Result<(Self, Option<R>), StoreError> {
        let (next, before, group) = (0, None, Vec::new());
        let dir = dir.to_owned();
        let mut chain = Self { repository: repository.clone(), dir, next, before, group };
        let full = chain.full_groups(0).await?;
        let mut record = None;
        if full > 0 {
            let (mut page, id) = chain.page(full * GROUP - 1).await?;
            chain.before = Some(id);
            record = page.records.pop();
        }
        chain.next = full * GROUP;
        if let Some(last) = chain.last_of_group(full).await? {
            let (page, _) = chain.page(last).await?;
            record = page.records.last().cloned();
            chain.next = last + 1;
            chain.group = page.records;
        }
        Ok((chain, record))
    }

    /// The number of the next record.
    pub fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn set_next(&mut self, next: u64) {
        self.next = next;
    }

    /// Adds a record, and says its number.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`] if somebody else has written that number: open it again. Any other
    /// error leaves it unknown whether the record is there; adding it again is safe.
    pub async fn add(&mut self, record: R) -> Result<u64, StoreError> {
        let mut records = self.group.clone();
        records.push(record);
        let number = self.next;
        let writer = rand::random();
        let page =
            Page { format: 1, number, writer, before: self.before, records: records.clone() };
        let name = self.name(number);
        let (put, id) = self.repository.put_text(&name, &page).await?;
        if put == Put::Exists {
            // The answer of a first try may have been lost.
            let (found, _) = self.page(number).await?;
            if found.writer != writer {
                return Err(StoreError::Overtaken { name });
            }
        }
        self.next += 1;
        self.group = records;
        if self.next.is_multiple_of(GROUP) {
            self.before = Some(id);
            self.group.clear();
        }
        Ok(number)
    }

    /// The names of pages below record `below` that nobody reads: those before its group, and of full
    /// groups all but the last.
    pub(super) fn superseded(dir: &str, name: &str, below: u64, next: u64) -> bool {
        let number = name.strip_prefix(dir).and_then(|rest| rest.strip_prefix('/'));
        let Some(number) = number.and_then(|digits| digits.parse::<u64>().ok()) else {
            return false;
        };
        let group = number / GROUP;
        let partial = !(number + 1).is_multiple_of(GROUP) && group < next / GROUP;
        group < below / GROUP || partial
    }

    /// How many groups are full, of which those below `first` may be gone.
    pub(super) async fn full_groups(&self, first: u64) -> Result<u64, StoreError> {
        let full = async |group: u64| self.exists(group * GROUP + GROUP - 1).await;
        if !full(first).await? {
            return Ok(first);
        }
        let (mut low, mut step) = (first, 1);
        while low + step < GROUPS_MAX && full(low + step).await? {
            low += step;
            step *= 2;
        }
        let mut high = low + step;
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if full(middle).await? { low = middle } else { high = middle }
        }
        Ok(high)
    }

    /// The last page of a group that is not full.
    pub(super) async fn last_of_group(&self, group: u64) -> Result<Option<u64>, StoreError> {
        let first = group * GROUP;
        let (mut low, mut high) = (0, GROUP);
        // How many there are: `low` at least, less than `high`.
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.exists(first + middle - 1).await? { low = middle } else { high = middle }
        }
        Ok((low > 0).then(|| first + low - 1))
    }

    async fn exists(&self, number: u64) -> Result<bool, StoreError> {
        Ok(self.repository.bucket.head(&self.name(number)).await?.is_some())
    }

    pub(super) async fn page(&self, number: u64) -> Result<(Page<R>, ObjectId), StoreError> {
        let page = self.page_if_there(number).await?;
        page.ok_or_else(|| damaged(&self.name(number), "it is missing"))
    }

    pub(super) async fn page_if_there(
        &self,
        number: u64,
    ) -> Result<Option<(Page<R>, ObjectId)>, StoreError> {
        let name = self.name(number);
        let page = self.repository.text::<Page<R>>(&name, BYTES_MAX).await?;
        let Some((page, id)) = page else { return Ok(None) };
        if page.format != 1 {
            return Err(damaged(&name, "it is of a later version: use a newer program"));
        }
        if page.number != number || page.records.len() as u64 != number % GROUP + 1 {
            return Err(damaged(&name, "it says another number, or has not its records"));
        }
        Ok(Some((page, id)))
    }

    pub(super) fn name(&self, number: u64) -> String {
        format!("{}/{number:016}", self.dir)
    }
}
