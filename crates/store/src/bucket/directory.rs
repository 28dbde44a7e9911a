//! Objects as files of a directory.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::{LISTED_MAX, Object, Put, failed};
use crate::StoreError;

/// What is being written has a name that ends so; it is no object yet.
const UNFINISHED: &str = ".writing";

#[derive(Clone, Debug)]
pub(super) struct Directory {
    root: PathBuf,
}

impl Directory {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(super) async fn get(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(file) = self.open(name).await? else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = file.take(max + 1).read_to_end(&mut bytes).await;
        read.map_err(|why| failed("read", name, why))?;
        if bytes.len() as u64 > max {
            return Err(super::too_long(name, max));
        }
        Ok(Some(bytes))
    }

    async fn open(&self, name: &str) -> Result<Option<File>, StoreError> {
        match File::open(self.root.join(name)).await {
            Ok(file) => Ok(Some(file)),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(failed("open", name, why)),
        }
    }

    pub(super) async fn fetch(&self, name: &str, size: u64, to: &Path) -> Result<(), StoreError> {
        let file = self.open(name).await?;
        let file = file.ok_or_else(|| failed("fetch", name, "there is none"))?;
        let mut out = File::create_new(to).await.map_err(StoreError::io("create", to))?;
        let copied = tokio::io::copy(&mut file.take(size + 1), &mut out).await;
        let copied = copied.map_err(|why| failed("fetch", name, why))?;
        if copied != size {
            return Err(failed("fetch", name, format!("it has not {size} bytes")));
        }
        out.sync_all().await.map_err(StoreError::io("sync", to))
    }

    pub(super) async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        let (path, new) = self.paths(name).await?;
        let written = async {
            let mut file = File::create(&new).await?;
            file.write_all(&bytes).await?;
            file.sync_all().await?;
            fs::rename(&new, &path).await
        };
        written.await.map_err(|why| failed("write", name, why))?;
        sync_parent(&path).await
    }

    pub(super) async fn put_file(&self, name: &str, from: &Path) -> Result<(), StoreError> {
        let (path, new) = self.paths(name).await?;
        let written = async {
            fs::copy(from, &new).await?;
            File::open(&new).await?.sync_all().await?;
            fs::rename(&new, &path).await
        };
        written.await.map_err(|why| failed("write", name, why))?;
        sync_parent(&path).await
    }

    pub(super) async fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        let (path, new) = self.paths(name).await?;
        // Two who write the same name at once have a file each.
        let mut own = new.into_os_string();
        own.push(format!("-{:016x}{UNFINISHED}", scratch_number()));
        let own = PathBuf::from(own);
        let written = async {
            let mut file = File::create_new(&own).await?;
            file.write_all(bytes).await?;
            file.sync_all().await?;
            match fs::hard_link(&own, &path).await {
                Ok(()) => Ok(Put::New),
                Err(why) if why.kind() == std::io::ErrorKind::AlreadyExists => Ok(Put::Exists),
                Err(why) => Err(why),
            }
        };
        let put = written.await;
        // What a writer that died has left is skipped by listings.
        let _ = fs::remove_file(&own).await;
        let put = put.map_err(|why| failed("write", name, why))?;
        sync_parent(&path).await.map(|()| put)
    }

    pub(super) async fn get_range(
        &self,
        name: &str,
        offset: u64,
        len: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(mut file) = self.open(name).await? else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = async {
            file.seek(std::io::SeekFrom::Start(offset)).await?;
            file.take(len).read_to_end(&mut bytes).await
        };
        read.await.map_err(|why| failed("read", name, why))?;
        Ok(Some(bytes))
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), StoreError> {
        match fs::remove_file(self.root.join(name)).await {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
                Err(failed("delete", name, why))
            }
            _ => Ok(()),
        }
    }

    /// Where the object is, and where it is written first.
    async fn paths(&self, name: &str) -> Result<(PathBuf, PathBuf), StoreError> {
        let path = self.root.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).await.map_err(StoreError::io("make", parent))?;
        }
        let mut new = path.clone().into_os_string();
        new.push(UNFINISHED);
        Ok((path, new.into()))
    }

    pub(super) async fn head(&self, name: &str) -> Result<Option<u64>, StoreError> {
        match fs::metadata(self.root.join(name)).await {
            Ok(meta) => Ok(meta.is_file().then_some(meta.len())),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(failed("look at", name, why)),
        }
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        let mut found = Vec::new();
        let wanted = |name: &str| name.starts_with(prefix) && !name.ends_with(UNFINISHED);
        self.walk(|name, meta| {
            if wanted(&name) {
                found.push(Object { name, size: meta.len() });
            }
            if found.len() > LISTED_MAX {
                return Err(failed("list", prefix, format!("more than {LISTED_MAX} names")));
            }
            Ok(())
        })
        .await?;
        Ok(found)
    }

    /// Removes what is unfinished and was not touched for `age`.
    pub(super) async fn tidy(&self, age: Duration) -> Result<u64, StoreError> {
        let mut left = Vec::new();
        let old = |meta: &Metadata| {
            let touched = meta.modified().ok().and_then(|at| at.elapsed().ok());
            touched.is_some_and(|since| since >= age)
        };
        self.walk(|name, meta| {
            if name.ends_with(UNFINISHED) && old(meta) {
                left.push(name);
            }
            Ok(())
        })
        .await?;
        for name in &left {
            self.delete(name).await?;
        }
        Ok(left.len() as u64)
    }

    /// Each file, by its name below the root. Links are not followed.
    async fn walk(
        &self,
        mut each: impl FnMut(String, &Metadata) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut dirs = vec![(self.root.clone(), String::new())];
        while let Some((dir, inside)) = dirs.pop() {
            let mut entries = match fs::read_dir(&dir).await {
                Ok(entries) => entries,
                Err(why) if why.kind() == std::io::ErrorKind::NotFound => continue,
                Err(why) => return Err(StoreError::io("list", &dir)(why)),
            };
            while let Some(entry) =
                entries.next_entry().await.map_err(StoreError::io("list", &dir))?
            {
                let Ok(name) = entry.file_name().into_string() else { continue };
                let name = format!("{inside}{name}");
                let meta = entry.metadata().await.map_err(StoreError::io("look at", &dir))?;
                if meta.is_dir() {
                    dirs.push((entry.path(), format!("{name}/")));
                } else {
                    each(name, &meta)?;
                }
            }
        }
        Ok(())
    }
}

/// A number that no other writer has, in this process or another.
fn scratch_number() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

async fn sync_parent(path: &Path) -> Result<(), StoreError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let synced = async { File::open(parent).await?.sync_all().await };
    synced.await.map_err(StoreError::io("sync", parent))
}
