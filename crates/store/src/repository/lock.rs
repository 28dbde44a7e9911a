//! Locks with leases, so that two runs of the same never collide.
//!
//! A lock is a [`Chain`] of its own: its last record says who holds it and until when, so taking one is
//! a conditional put like any other, and whoever may only put and get can take one. A holder that died
//! is passed when its lease has ended; at once, if it was a process of this machine that is gone.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Repository;
use super::chain::Chain;
use super::header::unix_ms;
use crate::StoreError;

/// How long a lease is; it is renewed three times as often.
pub const LEASE: Duration = Duration::from_secs(120);
/// Clocks of two machines that take the same lock may differ by this.
const SKEW_MS: u64 = 60 * 1000;
/// Others may try to take it at the same time; somebody always gets on.
const TRIES: usize = 16;
/// Where locks are.
pub(super) const DIR: &str = "locks";

/// A process of some machine, as others on that machine can tell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Process {
    /// This boot of the machine, and the namespace that its number is of.
    place: String,
    pid: u32,
    /// When it began, in ticks since the boot: numbers are used again.
    began: u64,
}

impl Process {
    /// This one; `None` where the system does not say enough of it.
    pub fn current() -> Option<Self> {
        let pid = std::process::id();
        Some(Self { place: Self::here()?, pid, began: Self::began(pid)? })
    }

    fn here() -> Option<String> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
        Some(format!("{} {}", boot.trim(), namespace.display()))
    }

    /// Field 22 of proc(5)'s `stat`; the name before it may have spaces.
    fn began(pid: u32) -> Option<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, behind) = stat.rsplit_once(')')?;
        behind.split_whitespace().nth(19)?.parse().ok()
    }

    /// Whether it is known to be gone: it ran here, and does not any more.
    pub fn is_gone(&self) -> bool {
        Self::here().is_some_and(|here| here == self.place)
            && Self::began(self.pid) != Some(self.began)
    }
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Held {
    /// Of one taking.
    token: u64,
    /// For people.
    holder: String,
    process: Option<Process>,
    /// Milliseconds since 1970, UTC; 0: it was let go of.
    until: u64,
}

impl Held {
    fn is_over(&self) -> bool {
        self.until.saturating_add(SKEW_MS) <= unix_ms()
            || self.process.as_ref().is_some_and(Process::is_gone)
    }
}

/// A lock that is held. Dropped without being released, it is passed when its lease has ended.
#[derive(Debug)]
pub struct Lock {
    repository: Repository,
    dir: String,
    held: Held,
}

impl Repository {
    /// Takes the lock of that name; `holder` says who does, for people.
    ///
    /// # Errors
    /// [`StoreError::Held`] if another has it; or the store failed.
    pub async fn lock(&self, name: &str, holder: &str) -> Result<Lock, StoreError> {
        let dir = format!("{DIR}/{name}");
        for _ in 0..TRIES {
            let (mut chain, last) = Chain::<Held>::tail(self, &dir).await?;
            if let Some(held) = last.filter(|held| held.until > 0 && !held.is_over()) {
                let left = held.until.saturating_add(SKEW_MS).saturating_sub(unix_ms());
                let (name, holder) = (name.to_owned(), held.holder);
                return Err(StoreError::Held { name, holder, seconds: left.div_ceil(1000) });
            }
            let held = Held {
                token: rand::random(),
                holder: holder.to_owned(),
                process: Process::current(),
                until: unix_ms() + LEASE.as_millis() as u64,
            };
            match chain.add(held.clone()).await {
                Ok(_) => return Ok(Lock { repository: self.clone(), dir, held }),
                Err(StoreError::Overtaken { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Overtaken { name: dir })
    }
}

impl Lock {
    /// Renews the lease.
    ///
    /// # Errors
    /// Another has taken the lock: what is under way must end. Or the store failed: it may be tried
    /// again until the lease ends.
    pub async fn renew(&mut self) -> Result<(), StoreError> {
        let until = unix_ms() + LEASE.as_millis() as u64;
        self.put(until).await
    }

    /// Lets go of it.
    ///
    /// # Errors
    /// The store failed: it is free when its lease has ended.
    pub async fn release(mut self) -> Result<(), StoreError> {
        self.put(0).await
    }

    async fn put(&mut self, until: u64) -> Result<(), StoreError> {
        let (mut chain, last) = Chain::<Held>::tail(&self.repository, &self.dir).await?;
        if last.as_ref().map(|held| held.token) != Some(self.held.token) {
            return Err(StoreError::Overtaken { name: self.dir.clone() });
        }
        let held = Held { until, ..self.held.clone() };
        chain.add(held.clone()).await?;
        self.held = held;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::{Bucket, BucketAddress, S3Options};
    use crate::repository::Keys;

    async fn repository(dir: &std::path::Path) -> Repository {
        let address = BucketAddress::Directory(dir.to_owned());
        let bucket = Bucket::open(&address, &S3Options::default()).unwrap();
        Repository::create(bucket, Keys::none(), Duration::from_secs(60)).await.unwrap()
    }

    #[tokio::test]
    async fn one_holds_a_lock_and_who_is_gone_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let repository = repository(dir.path()).await;
        let mut first = repository.lock("push-demo-a", "first").await.unwrap();
        let why = repository.lock("push-demo-a", "second").await.unwrap_err();
        assert!(matches!(&why, StoreError::Held { holder, .. } if holder == "first"), "{why}");
        repository.lock("push-demo-b", "another lock").await.unwrap();
        // More than a group of renewals, and it is still held.
        for _ in 0..super::super::chain::GROUP + 3 {
            first.renew().await.unwrap();
        }
        assert!(repository.lock("push-demo-a", "second").await.is_err());
        first.release().await.unwrap();
        let second = repository.lock("push-demo-a", "second").await.unwrap();

        // A process that is gone holds nothing; one of another machine does until its lease ends.
        let take = |mut lock: Lock, change: fn(&mut Process)| async move {
            let process = lock.held.process.as_mut().unwrap();
            change(process);
            lock.renew().await.unwrap();
            lock
        };
        let second = take(second, |process| process.began += 1).await;
        let third = repository.lock("push-demo-a", "third").await.unwrap();
        let mut second = second;
        assert!(second.renew().await.is_err(), "it was taken over");
        let third = take(third, |process| process.place = "elsewhere".to_owned()).await;
        assert!(repository.lock("push-demo-a", "fourth").await.is_err());
        third.release().await.unwrap();
    }

    #[tokio::test]
    async fn of_many_who_try_at_once_one_gets_it() {
        let dir = tempfile::tempdir().unwrap();
        let repository = repository(dir.path()).await;
        let tries = (0..12).map(|n| {
            let repository = repository.clone();
            tokio::spawn(async move { repository.lock("l", &n.to_string()).await.is_ok() })
        });
        let mut got = 0;
        for tried in tries.collect::<Vec<_>>() {
            got += usize::from(tried.await.unwrap());
        }
        assert_eq!(got, 1);
    }
}
