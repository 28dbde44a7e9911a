//! Loads in buckets: how to reach one, and where files stand between it and a node.

use std::path::{Path, PathBuf};

use ::store::bucket::S3Options;
use anyhow::Context;

/// How to reach a bucket; keys come from `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct S3Args {
    /// The URL of an S3 store that is not Amazon's [default: AWS_ENDPOINT_URL]
    #[arg(long, value_name = "URL")]
    s3_endpoint: Option<String>,
    /// The region of the bucket [default: AWS_REGION, or us-east-1]
    #[arg(long, value_name = "REGION")]
    s3_region: Option<String>,
    /// The bucket's name stands in the host, with an endpoint too
    #[arg(long)]
    s3_virtual_host: bool,
}

impl S3Args {
    /// With what was not said taken from the environment.
    pub(super) fn options(&self) -> S3Options {
        let env = S3Options::from_env();
        let endpoint = self.s3_endpoint.clone().or_else(|| env.endpoint.clone());
        S3Options {
            path_style: endpoint.is_some() && !self.s3_virtual_host,
            endpoint,
            region: self.s3_region.clone().or_else(|| env.region.clone()),
            ..env
        }
    }
}

/// A directory between a bucket and a node; gone when it is dropped.
pub(super) struct Staged(pub(super) PathBuf);

impl Staged {
    /// Makes one in `parent`, or in the system's temporary directory.
    pub(super) fn make(parent: Option<&Path>, name: &str) -> anyhow::Result<Self> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let dir = parent.join(format!("{name}-{:08x}", rand::random::<u32>()));
        let made = std::fs::create_dir_all(&dir).and_then(|()| dir.canonicalize());
        made.map(Self).with_context(|| format!("creating {}", dir.display()))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Err(why) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(
                "removing {} failed: {why}; it may be removed by hand",
                self.0.display()
            );
        }
    }
}
