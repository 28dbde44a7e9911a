//! What is set of the way over the bucket: the keys `follow-*` of the section `[archive]`.

use std::path::PathBuf;
use std::time::Duration;

use ops::config::ConfigError;
use store::bucket::{BucketAddress, S3Options};

use crate::archive::ArchiveSettings;

const AFTER_DEFAULT: Duration = Duration::from_secs(15);
const EVERY_DEFAULT: Duration = Duration::from_secs(5);
/// Asked more often than this a store would cost more than it is worth.
const EVERY_MIN: Duration = Duration::from_millis(100);

/// Where the archives of sources are, and when they are read.
#[derive(Clone, Debug)]
pub struct FollowConfig {
    /// The repository.
    pub url: BucketAddress,
    /// How to get there.
    pub options: S3Options,
    /// The keys, if it is encrypted.
    pub key_file: Option<PathBuf>,
    /// How long the source's sidecar must be away.
    pub after: Duration,
    /// How often it is asked whether there is more.
    pub every: Duration,
}

impl FollowConfig {
    /// Checks what was set, in sentences; `None` if no archive is followed.
    pub fn of(settings: &ArchiveSettings) -> Result<Option<Self>, ConfigError> {
        let url = settings.follow_url.as_ref().or(settings.url.as_ref());
        let (Some(url), true) = (url, settings.follow.unwrap_or(true)) else {
            let asks = settings.follow == Some(true)
                || settings.follow_endpoint.is_some()
                || settings.follow_key_file.is_some();
            if url.is_none() && asks {
                return Err(ConfigError::invalid(
                    "archive.follow says to read the archive of a source, and neither archive.follow-url nor \
                     archive.url says where that is",
                ));
            }
            return Ok(None);
        };
        let url =
            url.parse().map_err(|why: store::StoreError| ConfigError::invalid(why.to_string()))?;
        let or = |own: &Option<String>, archive: &Option<String>| own.clone().or(archive.clone());
        let options = S3Options::with(
            or(&settings.follow_endpoint, &settings.endpoint),
            or(&settings.follow_region, &settings.region),
            None,
        );
        let options = options.map_err(|why| ConfigError::invalid(why.to_string()))?;
        let config = Self {
            url,
            options,
            key_file: settings.follow_key_file.clone().or(settings.key_file.clone()),
            after: settings.follow_after.map_or(AFTER_DEFAULT, |span| span.0),
            every: settings.follow_every.map_or(EVERY_DEFAULT, |span| span.0),
        };
        if config.every < EVERY_MIN {
            return Err(ConfigError::invalid(format!(
                "archive.follow-every of {:?} is too short: at least {EVERY_MIN:?}",
                config.every
            )));
        }
        Ok(Some(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: Option<&str>, follow_url: Option<&str>) -> ArchiveSettings {
        let owned = |url: Option<&str>| url.map(str::to_owned);
        ArchiveSettings {
            url: owned(url),
            follow_url: owned(follow_url),
            ..ArchiveSettings::default()
        }
    }

    #[test]
    fn who_archives_follows_the_same_place_unless_another_is_named() {
        let place = |settings: &ArchiveSettings| {
            FollowConfig::of(settings).unwrap().map(|config| format!("{}", config.url))
        };
        assert_eq!(place(&settings(None, None)), None);
        assert_eq!(place(&settings(Some("/a"), None)), place(&settings(None, Some("/a"))));
        assert_ne!(place(&settings(Some("/a"), None)), place(&settings(Some("/a"), Some("/b"))));
        let off = ArchiveSettings { follow: Some(false), ..settings(Some("/a"), None) };
        assert_eq!(place(&off), None);
    }

    #[test]
    fn what_cannot_work_is_refused_in_a_sentence() {
        let on = ArchiveSettings { follow: Some(true), ..settings(None, None) };
        assert!(FollowConfig::of(&on).unwrap_err().to_string().contains("follow-url"));
        let often = ArchiveSettings {
            follow_every: Some(ops::units::Span(Duration::from_millis(1))),
            ..settings(Some("/a"), None)
        };
        assert!(FollowConfig::of(&often).unwrap_err().to_string().contains("too short"));
    }
}
