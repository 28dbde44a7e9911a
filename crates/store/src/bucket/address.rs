//! Where objects are, and how to ask for them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::StoreError;

/// A directory, or a part of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BucketAddress {
    /// `/path`, `file:///path`, or a relative path.
    Directory(PathBuf),
    /// `s3://bucket/prefix`.
    S3 {
        /// The bucket.
        bucket: String,
        /// What all names in it begin with, without a slash at its end; empty for the whole bucket.
        prefix: String,
    },
}

impl FromStr for BucketAddress {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let error =
            |why: &str| StoreError::Address { address: text.to_owned(), why: why.to_owned() };
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            if bucket.is_empty() || !bucket.bytes().all(allowed) {
                return Err(error("write `s3://bucket/prefix`"));
            }
            let prefix = prefix.trim_end_matches('/').to_owned();
            return Ok(Self::S3 { bucket: bucket.to_owned(), prefix });
        }
        if let Some(path) = text.strip_prefix("file://") {
            return Ok(Self::Directory(PathBuf::from(path)));
        }
        match text.split_once("://") {
            Some((scheme, _)) => Err(error(&format!(
                "`{scheme}://` is not known: write a directory, or `s3://bucket/prefix`"
            ))),
            None => Ok(Self::Directory(PathBuf::from(text))),
        }
    }
}

impl fmt::Display for BucketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// How to reach an S3 store. Nothing of it is needed for directories.
#[derive(Clone, Default)]
pub struct S3Options {
    /// The URL of a store that is not Amazon's.
    pub endpoint: Option<String>,
    /// The region; many stores take any.
    pub region: Option<String>,
    /// The bucket's name stands in the path, not in the host: for most stores that are not Amazon's.
    pub path_style: bool,
    /// Who asks.
    pub access_key: Option<String>,
    /// The secret that goes with it.
    pub secret_key: Option<String>,
    /// For keys that end.
    pub session_token: Option<String>,
    /// How the store encrypts what it keeps: `AES256` or `aws:kms`; none leaves it to the bucket.
    pub sse: Option<String>,
}

impl S3Options {
    /// From the variables that every S3 tool reads: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
    /// `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`. With an
    /// endpoint the path style is chosen.
    pub fn from_env() -> Self {
        let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = read("AWS_ENDPOINT_URL_S3").or_else(|| read("AWS_ENDPOINT_URL"));
        Self {
            path_style: endpoint.is_some(),
            endpoint,
            region: read("AWS_REGION").or_else(|| read("AWS_DEFAULT_REGION")),
            access_key: read("AWS_ACCESS_KEY_ID"),
            secret_key: read("AWS_SECRET_ACCESS_KEY"),
            session_token: read("AWS_SESSION_TOKEN"),
            sse: None,
        }
    }

    /// The same, with what was set instead.
    ///
    /// # Errors
    /// `sse` is not known.
    pub fn with(
        endpoint: Option<String>,
        region: Option<String>,
        sse: Option<String>,
    ) -> Result<Self, StoreError> {
        let mut options = Self::from_env();
        if let Some(endpoint) = endpoint {
            options.endpoint = Some(endpoint);
            options.path_style = true;
        }
        options.region = region.or(options.region);
        if let Some(other) = sse.as_deref().filter(|sse| !matches!(*sse, "AES256" | "aws:kms")) {
            let why = "write AES256 or aws:kms".to_owned();
            return Err(StoreError::Rejected { name: format!("sse `{other}`"), why });
        }
        options.sse = sse;
        Ok(options)
    }
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nothing that opens a store goes into a log.
        f.debug_struct("S3Options")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("path_style", &self.path_style)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_and_secrets_are_not_printed() {
        let s3: BucketAddress = "s3://loads/people/2026/".parse().unwrap();
        assert_eq!(s3.to_string(), "s3://loads/people/2026");
        assert_eq!("s3://loads".parse::<BucketAddress>().unwrap().to_string(), "s3://loads/");
        let path = BucketAddress::Directory("/srv/load".into());
        assert_eq!("/srv/load".parse::<BucketAddress>().unwrap(), path);
        assert_eq!("file:///srv/load".parse::<BucketAddress>().unwrap(), path);
        for bad in ["s3://", "s3:///x", "s3://a b/x", "gs://bucket/x"] {
            assert!(bad.parse::<BucketAddress>().is_err(), "{bad}");
        }
        let options = S3Options { secret_key: Some("hush".to_owned()), ..S3Options::default() };
        assert!(!format!("{options:?}").contains("hush"));
    }
}
