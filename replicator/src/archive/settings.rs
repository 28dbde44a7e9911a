//! The section `[archive]`.

use std::path::PathBuf;
use std::time::Duration;

use ops::config::ConfigError;
use ops::units::{Size, Span};
use serde::{Deserialize, Serialize};
use store::bucket::{Bucket, BucketAddress, S3Options};
use store::repository::Keys;

/// Keys of the section, flags and variables.
#[derive(clap::Args, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[command(next_help_heading = "Archive")]
pub struct ArchiveSettings {
    /// Where the log and checkpoints go: a directory, or s3://bucket/prefix; without it nothing is archived
    #[arg(id = "archive-url", long, env = "GODWIT_ARCHIVE_URL", value_name = "URL")]
    pub url: Option<String>,
    /// The URL of an S3 store that is not Amazon's
    #[arg(id = "archive-endpoint", long, env = "GODWIT_ARCHIVE_ENDPOINT", value_name = "URL")]
    pub endpoint: Option<String>,
    /// The region of the bucket
    #[arg(id = "archive-region", long, env = "GODWIT_ARCHIVE_REGION", value_name = "NAME")]
    pub region: Option<String>,
    /// Have the store encrypt what it keeps: AES256 or aws:kms
    #[arg(id = "archive-sse", long, env = "GODWIT_ARCHIVE_SSE", value_name = "NAME")]
    pub sse: Option<String>,
    /// Encrypt before it is sent, with the keys in this file (`godwit-replicator archive key`)
    #[arg(id = "archive-key-file", long, env = "GODWIT_ARCHIVE_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// A segment of the log is sent so long after its first write [default: 60s]
    #[arg(
        id = "archive-segment-every",
        long,
        env = "GODWIT_ARCHIVE_SEGMENT_EVERY",
        value_name = "SPAN"
    )]
    pub segment_every: Option<Span>,
    /// Or when it has so many bytes [default: 8MiB]
    #[arg(
        id = "archive-segment-bytes",
        long,
        env = "GODWIT_ARCHIVE_SEGMENT_BYTES",
        value_name = "SIZE"
    )]
    pub segment_bytes: Option<Size>,
    /// How often a checkpoint is taken: a restore replays the log since the last one [default: 24h]
    #[arg(
        id = "archive-checkpoint-every",
        long,
        env = "GODWIT_ARCHIVE_CHECKPOINT_EVERY",
        value_name = "SPAN"
    )]
    pub checkpoint_every: Option<Span>,
    /// Delete what no moment of this span needs; needs the right to list and delete [default: keep all]
    #[arg(id = "archive-retention", long, env = "GODWIT_ARCHIVE_RETENTION", value_name = "SPAN")]
    pub retention: Option<Span>,
    /// The most log files that are kept for it while the store does not answer [default: 4GiB]
    #[arg(id = "archive-budget", long, env = "GODWIT_ARCHIVE_BUDGET", value_name = "SIZE")]
    pub budget: Option<Size>,
    /// How many bytes a second it sends [default: 64MiB]
    #[arg(id = "archive-bandwidth", long, env = "GODWIT_ARCHIVE_BANDWIDTH", value_name = "SIZE")]
    pub bandwidth: Option<Size>,
    /// Whether a standby reads its source's archive while the source's sidecar does not reach it [default: true]
    #[arg(id = "archive-follow", long, env = "GODWIT_ARCHIVE_FOLLOW", value_name = "BOOL")]
    pub follow: Option<bool>,
    /// Where its source's archive is [default: the archive's]
    #[arg(id = "archive-follow-url", long, env = "GODWIT_ARCHIVE_FOLLOW_URL", value_name = "URL")]
    pub follow_url: Option<String>,
    /// The URL of the S3 store that it is in, if it is not Amazon's [default: the archive's]
    #[arg(
        id = "archive-follow-endpoint",
        long,
        env = "GODWIT_ARCHIVE_FOLLOW_ENDPOINT",
        value_name = "URL"
    )]
    pub follow_endpoint: Option<String>,
    /// The region of its bucket [default: the archive's]
    #[arg(
        id = "archive-follow-region",
        long,
        env = "GODWIT_ARCHIVE_FOLLOW_REGION",
        value_name = "NAME"
    )]
    pub follow_region: Option<String>,
    /// The keys of its repository, with a private one [default: the archive's]
    #[arg(
        id = "archive-follow-key-file",
        long,
        env = "GODWIT_ARCHIVE_FOLLOW_KEY_FILE",
        value_name = "FILE"
    )]
    pub follow_key_file: Option<PathBuf>,
    /// How long the source's sidecar must be away before its archive is read [default: 15s]
    #[arg(
        id = "archive-follow-after",
        long,
        env = "GODWIT_ARCHIVE_FOLLOW_AFTER",
        value_name = "SPAN"
    )]
    pub follow_after: Option<Span>,
    /// How often the archive is asked for more, one request each time while there is none [default: 5s]
    #[arg(
        id = "archive-follow-every",
        long,
        env = "GODWIT_ARCHIVE_FOLLOW_EVERY",
        value_name = "SPAN"
    )]
    pub follow_every: Option<Span>,
}

/// What an archive runs with.
#[derive(Clone, Debug)]
pub struct ArchiveConfig {
    /// Where it goes.
    pub url: BucketAddress,
    /// How to get there.
    pub options: S3Options,
    /// The keys, if it is encrypted.
    pub key_file: Option<PathBuf>,
    /// How long a segment waits for more.
    pub segment_every: Duration,
    /// The bytes that end it sooner.
    pub segment_bytes: u64,
    /// How often a checkpoint is taken.
    pub checkpoint_every: Duration,
    /// What is kept; `None`: all.
    pub retention: Option<Duration>,
    /// The most bytes of log files that wait for the store.
    pub budget: u64,
    /// Bytes a second.
    pub bandwidth: u64,
}

/// The least and the most that make sense, each with its key.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=64 << 20;

impl ArchiveConfig {
    /// Checks the section, in sentences; `None` without a `url`.
    pub fn of(settings: ArchiveSettings) -> Result<Option<Self>, ConfigError> {
        let Some(url) = &settings.url else {
            // What says where another's archive is has a use of its own.
            let rest = ArchiveSettings {
                follow: None,
                follow_url: None,
                follow_endpoint: None,
                follow_region: None,
                follow_key_file: None,
                follow_after: None,
                follow_every: None,
                ..settings
            };
            let empty = serde_json::to_value(ArchiveSettings::default()).ok();
            if serde_json::to_value(&rest).ok() != empty {
                return Err(ConfigError::invalid(
                    "there are settings of the archive and no url: say where it goes, or leave them out",
                ));
            }
            return Ok(None);
        };
        let url =
            url.parse().map_err(|why: store::StoreError| ConfigError::invalid(why.to_string()))?;
        let options = S3Options::with(settings.endpoint, settings.region, settings.sse)
            .map_err(|why| ConfigError::invalid(format!("the archive's settings: {why}")))?;
        let span = |span: Option<Span>, default: Duration| span.map_or(default, |span| span.0);
        let bytes = |size: Option<Size>, default: u64| size.map_or(default, |size| size.0);
        let config = Self {
            url,
            options,
            key_file: settings.key_file,
            segment_every: span(settings.segment_every, Duration::from_secs(60)),
            segment_bytes: bytes(settings.segment_bytes, 8 << 20),
            checkpoint_every: span(settings.checkpoint_every, Duration::from_secs(24 * 3600)),
            retention: settings.retention.map(|span| span.0),
            budget: bytes(settings.budget, 4 << 30),
            bandwidth: bytes(settings.bandwidth, 64 << 20),
        };
        config.validate().map(|()| Some(config))
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |why: String| Err(ConfigError::invalid(why));
        if !SEGMENT_BYTES.contains(&self.segment_bytes) {
            return refuse(format!(
                "archive.segment-bytes of {} bytes: it must be between {} and {}",
                self.segment_bytes,
                SEGMENT_BYTES.start(),
                SEGMENT_BYTES.end()
            ));
        }
        if self.segment_every < Duration::from_millis(100) {
            return refuse("archive.segment-every must be at least 100ms".to_owned());
        }
        if self.checkpoint_every < self.segment_every {
            return refuse(
                "archive.checkpoint-every must not be less than archive.segment-every".to_owned(),
            );
        }
        if self.retention.is_some_and(|retention| retention < self.checkpoint_every) {
            return refuse(
                "archive.retention must not be less than archive.checkpoint-every: the checkpoint that it \
                 needs would always be too old"
                    .to_owned(),
            );
        }
        if self.budget < 1 << 20 || self.bandwidth < 64 << 10 {
            return refuse(
                "archive.budget must be at least 1MiB and archive.bandwidth at least 64KiB"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// The bucket and the keys.
    pub fn open(&self) -> anyhow::Result<(Bucket, Keys)> {
        open_bucket(&self.url, &self.options, self.key_file.as_deref())
    }
}

/// A bucket, and the keys of its repository.
pub fn open_bucket(
    url: &BucketAddress,
    options: &S3Options,
    key_file: Option<&std::path::Path>,
) -> anyhow::Result<(Bucket, Keys)> {
    Ok((Bucket::open(url, options)?, Keys::read_if(key_file)?))
}
