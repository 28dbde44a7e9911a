//! Where a store is: with `push`, a daemon may keep it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use ops::tls::{Mutual, PeerName};
use store::StoreError;
use store::bucket::{Bucket, BucketAddress, S3Options, ServedOptions};
use store::repository::Keys;

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// A directory, or a part of a bucket.
    Bucket(BucketAddress),
    /// `godwit://HOST:PORT`: with a daemon that serves it.
    Served(String),
}

impl FromStr for StoreUrl {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let Some(address) = text.strip_prefix("godwit://") else {
            return text.parse().map(Self::Bucket);
        };
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none() {
            let why = "write `godwit://HOST:PORT`".to_owned();
            return Err(StoreError::Address { address: text.to_owned(), why });
        }
        Ok(Self::Served(address.to_owned()))
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bucket(address) => address.fmt(f),
            Self::Served(address) => write!(f, "godwit://{address}"),
        }
    }
}

/// Where a store is, and how to get there.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Where.
    pub url: StoreUrl,
    /// How.
    pub options: S3Options,
    /// The keys, if it is encrypted.
    pub key_file: Option<PathBuf>,
}

impl StoreConfig {
    /// Its objects, where no daemon keeps them; nothing is asked of it yet.
    ///
    /// # Errors
    /// The keys of the bucket are missing.
    pub fn bucket(&self) -> Result<Bucket, StoreError> {
        match &self.url {
            StoreUrl::Bucket(address) => Bucket::open(address, &self.options),
            StoreUrl::Served(address) => Err(StoreError::Address {
                address: address.clone(),
                why: "a daemon keeps it, and it is pushed to only".to_owned(),
            }),
        }
    }

    /// The bucket and the keys; nothing is asked of it yet. A daemon is told whose snapshots these are.
    ///
    /// # Errors
    /// The key file cannot be read, or the keys of the bucket are missing.
    pub fn open(&self, service: &str, tls: Option<&Mutual>) -> anyhow::Result<(Bucket, Keys)> {
        let keys = Keys::read_if(self.key_file.as_deref())?;
        let StoreUrl::Served(address) = &self.url else { return Ok((self.bucket()?, keys)) };
        let peer = PeerName::new(&stream::names::of_snapshotter(service))?;
        let options = ServedOptions { service: service.to_owned(), peer, tls: tls.cloned() };
        Ok((Bucket::served(address, options), keys))
    }
}
