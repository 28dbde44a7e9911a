//! Objects by name, in a directory, in a bucket or at a daemon that keeps them: one set of operations for all, held to the same
//! stories by `tests/buckets.rs`.
//!
//! Names are relative, of parts that [`crate::FileName`] takes, joined by `/`. What is written is
//! there whole or not at all. Every request has a deadline and is tried again a few times; no more
//! than [`CONCURRENT_MAX`] run at a time; nothing of the library behind it can be seen from here.

mod address;
mod directory;
mod requests;
mod s3;
mod served;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use address::{BucketAddress, S3Options};
use directory::Directory;
use ops::limit::Limit;
use requests::Requests;
pub use requests::{Counts, Operation};
use s3::S3;
use served::Served;
pub use served::{Guard, Room, ServedOptions, answer};

use crate::{FileName, StoreError};

/// Requests of one [`Bucket`] that run at a time.
pub const CONCURRENT_MAX: usize = 8;
/// A listing ends with an error beyond so many names.
pub const LISTED_MAX: usize = 1_000_000;

/// One name of a listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
}

/// Where objects are. Cheap to clone; clones count their requests together.
#[derive(Clone, Debug)]
pub struct Bucket {
    kind: Kind,
    requests: Arc<Requests>,
    /// What bounds the bytes that are read.
    reads: Option<Arc<Limit>>,
}

/// What came of a put that must not overwrite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is there now.
    New,
    /// There was one of that name, which stays.
    Exists,
}

#[derive(Clone, Debug)]
enum Kind {
    Directory(Directory),
    S3(S3),
    Served(Served),
}

impl Bucket {
    /// Opens what is at the address; nothing is asked of it yet.
    pub fn open(address: &BucketAddress, options: &S3Options) -> Result<Self, StoreError> {
        let kind = match address {
            BucketAddress::Directory(path) => Kind::Directory(Directory::new(path)),
            BucketAddress::S3 { bucket, prefix } => Kind::S3(S3::new(bucket, prefix, options)?),
        };
        Ok(Self { kind, requests: Arc::default(), reads: None })
    }

    /// What a daemon keeps (`godwit-snapshotter serve`): it is asked when there is something to ask.
    pub fn served(address: &str, options: ServedOptions) -> Self {
        let kind = Kind::Served(Served::new(address, options));
        Self { kind, requests: Arc::default(), reads: None }
    }

    /// The same, of which at most so many bytes a second are read, by all clones together.
    #[must_use]
    pub fn reading_at(self, bytes_a_second: Option<u64>) -> Self {
        Self { reads: bytes_a_second.map(|rate| Arc::new(Limit::new(rate))), ..self }
    }

    /// Counts what was read: who reads next waits for it.
    async fn has_read(&self, bytes: u64) {
        if let Some(limit) = &self.reads {
            limit.take(usize::try_from(bytes).unwrap_or(usize::MAX)).await;
        }
    }

    /// How many requests were made, by what they asked.
    pub fn requests(&self) -> Counts {
        self.requests.read()
    }

    /// Writes an object unless there is one of that name. Of several who try at once, one succeeds;
    /// for a bucket that is so only if its store honours conditions, which
    /// [`Repository`](crate::repository::Repository) makes sure of.
    pub async fn put_new(&self, name: &str, bytes: Vec<u8>) -> Result<Put, StoreError> {
        check(name)?;
        self.requests.count(Operation::Put);
        match &self.kind {
            Kind::Directory(directory) => directory.put_new(name, &bytes).await,
            Kind::S3(s3) => s3.put_new(name, bytes).await,
            Kind::Served(served) => served.put_new(name, bytes).await,
        }
    }

    /// At most `len` bytes of an object from `offset` on; `None` if there is no such object.
    pub async fn get_range(
        &self,
        name: &str,
        offset: u64,
        len: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        check(name)?;
        self.requests.count(Operation::Get);
        let read = match &self.kind {
            Kind::Directory(directory) => directory.get_range(name, offset, len).await,
            Kind::S3(s3) => s3.get_range(name, offset, len).await,
            Kind::Served(served) => served.get_range(name, offset, len).await,
        }?;
        self.has_read(read.as_ref().map_or(0, |bytes| bytes.len() as u64)).await;
        Ok(read)
    }

    /// Removes an object; one that is not there is no error.
    pub async fn delete(&self, name: &str) -> Result<(), StoreError> {
        check(name)?;
        self.requests.count(Operation::Delete);
        match &self.kind {
            Kind::Directory(directory) => directory.delete(name).await,
            Kind::S3(s3) => s3.delete(name).await,
            Kind::Served(served) => Err(served.refused("delete", name)),
        }
    }

    /// The object's bytes; `None` if there is none. One of more than `max` bytes is damaged.
    pub async fn get(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>, StoreError> {
        check(name)?;
        self.requests.count(Operation::Get);
        let read = match &self.kind {
            Kind::Directory(directory) => directory.get(name, max).await,
            Kind::S3(s3) => s3.get(name, max).await,
            Kind::Served(served) => served.get(name, max).await,
        }?;
        self.has_read(read.as_ref().map_or(0, |bytes| bytes.len() as u64)).await;
        Ok(read)
    }

    /// Writes the object's bytes to a new file, synced: exactly `size` of them.
    pub async fn fetch(&self, name: &str, size: u64, to: &Path) -> Result<(), StoreError> {
        check(name)?;
        self.requests.count(Operation::Get);
        match &self.kind {
            Kind::Directory(directory) => directory.fetch(name, size, to).await,
            Kind::S3(s3) => s3.fetch(name, size, to).await,
            Kind::Served(served) => served.fetch(name, size, to).await,
        }?;
        self.has_read(size).await;
        Ok(())
    }

    /// Writes an object, over one that may be there.
    pub async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        check(name)?;
        self.requests.count(Operation::Put);
        match &self.kind {
            Kind::Directory(directory) => directory.put(name, bytes).await,
            Kind::S3(s3) => s3.put(name, bytes).await,
            Kind::Served(served) => Err(served.refused("overwrite", name)),
        }
    }

    /// Writes a file as an object, in parts where it is large.
    pub async fn put_file(&self, name: &str, from: &Path) -> Result<(), StoreError> {
        check(name)?;
        self.requests.count(Operation::Put);
        match &self.kind {
            Kind::Directory(directory) => directory.put_file(name, from).await,
            Kind::S3(s3) => s3.put_file(name, from).await,
            Kind::Served(served) => Err(served.refused("overwrite", name)),
        }
    }

    /// The object's length; `None` if there is none.
    pub async fn head(&self, name: &str) -> Result<Option<u64>, StoreError> {
        check(name)?;
        self.requests.count(Operation::Head);
        match &self.kind {
            Kind::Directory(directory) => directory.head(name).await,
            Kind::S3(s3) => s3.head(name).await,
            Kind::Served(served) => served.head(name).await,
        }
    }

    /// Removes what writers that died have left unfinished, and nobody has touched for `age`; how many
    /// that were. (A bucket shows nothing unfinished; its own rules end uploads in parts.)
    pub async fn tidy(&self, age: Duration) -> Result<u64, StoreError> {
        match &self.kind {
            Kind::Directory(directory) => directory.tidy(age).await,
            Kind::S3(_) | Kind::Served(_) => Ok(0),
        }
    }

    /// The objects whose names begin with `prefix`, by name.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        self.requests.count(Operation::List);
        let mut found = match &self.kind {
            Kind::Directory(directory) => directory.list(prefix).await,
            Kind::S3(s3) => s3.list(prefix).await,
            Kind::Served(served) => Err(served.refused("list", prefix)),
        }?;
        found.sort();
        Ok(found)
    }
}

/// A name that leads out of the bucket's part of the world is refused.
fn check(name: &str) -> Result<(), StoreError> {
    let plain = |part: &str| part.parse::<FileName>().map(drop);
    name.split('/').try_for_each(plain).map_err(|why| StoreError::Rejected {
        name: name.chars().take(80).collect(),
        why: why.to_string(),
    })
}

/// Nothing that is written is as long: whoever asks knows how long it may be.
fn too_long(name: &str, max: u64) -> StoreError {
    StoreError::damaged(Path::new(name), format!("it is longer than {max} bytes"))
}

/// What went wrong with which object.
fn failed(what: &'static str, name: &str, why: impl std::fmt::Display) -> StoreError {
    StoreError::Bucket { what, name: name.to_owned(), why: why.to_string() }
}
