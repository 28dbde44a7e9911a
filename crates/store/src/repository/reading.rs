//! A list that somebody else adds to, read on as it grows: one request where nothing has come.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Repository;
use super::chain::{Chain, GROUP, Numbered, Page};
use super::text::damaged;
use crate::{ObjectId, StoreError};

/// A list that is only read here.
#[derive(Debug)]
pub(super) struct Reading<R> {
    chain: Chain<R>,
    /// The last page of the group before that of the next record, if it was read.
    before: Option<ObjectId>,
}

impl<R: Serialize + DeserializeOwned + Clone> Reading<R> {
    /// Opens a list and reads its end: group after group, from the newest one back to the first of which
    /// `enough` says that nothing before it is needed, and not beyond that of record `from`.
    ///
    /// # Errors
    /// A page is damaged or missing, or the store failed.
    pub(super) async fn open(
        repository: &Repository,
        dir: &str,
        from: u64,
        enough: impl Fn(&[(u64, R)]) -> bool,
    ) -> Result<(Self, Numbered<R>), StoreError> {
        let mut chain = Chain::at(repository, dir);
        let first = from / GROUP;
        let full = chain.full_groups(first).await?;
        let last = chain.last_of_group(full).await?;
        let mut read: Vec<Numbered<R>> = Vec::new();
        // What the page after says of the one that is read.
        let mut said: Option<Option<ObjectId>> = None;
        let mut before = None;
        chain.set_next(full * GROUP);
        if let Some(last) = last {
            let (page, _) = chain.page(last).await?;
            chain.set_next(last + 1);
            before = page.before;
            said = Some(page.before);
            read.push((full * GROUP..).zip(page.records).collect());
        }
        for group in (first..full).rev() {
            if read.last().is_some_and(|records| enough(records)) {
                break;
            }
            let (page, id) = chain.page(group * GROUP + GROUP - 1).await?;
            if said.is_some_and(|said| said != Some(id)) {
                return Err(follows_nothing(&chain.name(page.number), "the page after it"));
            }
            if group + 1 == full {
                before = Some(id);
            }
            said = Some(page.before);
            read.push((group * GROUP..).zip(page.records).collect());
        }
        let mut all: Numbered<R> = read.into_iter().rev().flatten().collect();
        all.retain(|(number, _)| *number >= from);
        Ok((Self { chain, before }, all))
    }

    /// What has come since, in order: nothing, or a part of it at least. One request where nothing has,
    /// and never more than eight.
    ///
    /// # Errors
    /// As [`Reading::open`].
    pub(super) async fn more(&mut self) -> Result<Numbered<R>, StoreError> {
        let next = self.chain.next();
        let end = next - next % GROUP + GROUP - 1;
        let (mut found, mut at, mut step): (Option<(Page<R>, ObjectId)>, _, _) = (None, next, 1);
        while let Some(page) = self.chain.page_if_there(at).await? {
            found = Some(page);
            if at == end {
                break;
            }
            // Each page has what those before it in its group have, so most need not be read.
            at = end.min(at + step);
            step *= 2;
        }
        let Some((page, id)) = found else { return Ok(Vec::new()) };
        if self.before.is_some_and(|before| page.before != Some(before)) {
            return Err(follows_nothing(&self.chain.name(page.number), "the page before it"));
        }
        self.before = if page.number == end { Some(id) } else { page.before };
        self.chain.set_next(page.number + 1);
        let first = page.number - page.number % GROUP;
        let records = (first..).zip(page.records);
        Ok(records.filter(|(number, _)| *number >= next).collect())
    }
}

fn follows_nothing(name: &str, what: &str) -> StoreError {
    damaged(name, &format!("{what} is not the one that is there"))
}
