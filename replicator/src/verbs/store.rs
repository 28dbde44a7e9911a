//! Which archive a verb is about.

use std::path::PathBuf;

use ::store::bucket::{BucketAddress, S3Options};
use ::store::repository::{Archive, ArchiveName, Repository};
use anyhow::{Context, bail};
use topology::ShardName;

use super::Form;
use crate::archive::open_bucket;

/// Where an archive is, and how to get there.
#[derive(clap::Args, Clone, Debug)]
pub struct StoreArgs {
    /// The archive: a directory, or s3://bucket/prefix; AWS_* name keys, region and endpoint
    #[arg(long, value_name = "URL")]
    from: BucketAddress,
    /// The URL of an S3 store that is not Amazon's
    #[arg(long, env = "GODWIT_ARCHIVE_ENDPOINT", value_name = "URL")]
    endpoint: Option<String>,
    /// The region of the bucket
    #[arg(long, env = "GODWIT_ARCHIVE_REGION", value_name = "NAME")]
    region: Option<String>,
    /// The keys of an encrypted archive
    #[arg(long, env = "GODWIT_ARCHIVE_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Of this service; needed only if the archive holds several
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Of this shard, such as a/0; needed only if the archive holds several
    #[arg(long, value_name = "SHARD")]
    shard: Option<ShardName>,
    #[command(flatten)]
    pub(super) form: Form,
}

impl StoreArgs {
    /// The repository, to read.
    pub(super) async fn repository(&self) -> anyhow::Result<Repository> {
        let options = S3Options::with(self.endpoint.clone(), self.region.clone(), None)?;
        let (bucket, keys) = open_bucket(&self.from, &options, self.key_file.as_deref())?;
        let opened = Repository::open(bucket, keys).await;
        opened.with_context(|| format!("opening the archive {}", self.from))
    }

    /// The one archive that is meant.
    pub(super) async fn archive(&self) -> anyhow::Result<Archive> {
        let repository = self.repository().await?;
        let mut names = self.names(&repository).await?;
        match (names.pop(), names.is_empty()) {
            (Some(name), true) => Ok(Archive::open_whole(&repository, &name).await?),
            (None, _) => bail!("{} holds no archive of what was named", self.from),
            (Some(last), false) => {
                names.push(last);
                let names: Vec<_> = names.iter().map(ToString::to_string).collect();
                bail!(
                    "{} holds several archives ({}): name --service and --shard",
                    self.from,
                    names.join(", ")
                )
            }
        }
    }

    /// The archives that are meant. If both names are given nothing is listed.
    pub(super) async fn names(&self, repository: &Repository) -> anyhow::Result<Vec<ArchiveName>> {
        if let (Some(service), Some(shard)) = (&self.service, &self.shard) {
            let name = ArchiveName::new(service, &shard.cluster, shard.shard);
            return Ok(vec![name.context("these are no names of a service and a shard")?]);
        }
        let all = repository.archives().await?;
        let meant = |name: &ArchiveName| {
            self.service.as_ref().is_none_or(|service| name.service() == service)
                && self.shard.as_ref().is_none_or(|shard| name.shard() == shard.to_string())
        };
        Ok(all.into_iter().filter(meant).collect())
    }
}
