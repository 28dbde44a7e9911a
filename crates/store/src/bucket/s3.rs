//! Objects in a bucket of an S3 store.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, ServerSideEncryption};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;

use super::{CONCURRENT_MAX, LISTED_MAX, Object, Put, S3Options, failed};
use crate::StoreError;

/// Files beyond this are sent in parts.
const WHOLE_MAX: u64 = 32 << 20;
/// The least length of a part; a file has at most [`PARTS_MAX`].
const PART_MIN: u64 = 32 << 20;
const PARTS_MAX: u64 = 9_000;
/// Parts of one file that are in memory and on their way.
const PARTS_AT_A_TIME: usize = 4;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long one try of a request may take, a part of 32 MiB included.
const TRY_WITHIN: Duration = Duration::from_secs(120);
/// Nothing moves for so long while an object is read: it is given up.
const READ_WITHIN: Duration = Duration::from_secs(30);
const TRIES: u32 = 4;
/// How often a conditional put is made again that met another of its name, and the pause between.
const CONFLICTS_MAX: u32 = 8;
const CONFLICT_PAUSE: Duration = Duration::from_millis(100);
/// Where nobody says.
const REGION: &str = "us-east-1";

#[derive(Clone)]
pub(super) struct S3 {
    client: Client,
    bucket: String,
    prefix: String,
    sse: Option<ServerSideEncryption>,
    places: Arc<Semaphore>,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl S3 {
    pub(super) fn new(bucket: &str, prefix: &str, options: &S3Options) -> Result<Self, StoreError> {
        let keys = options.access_key.as_ref().zip(options.secret_key.as_ref());
        let (access, secret) = keys.ok_or_else(|| StoreError::Address {
            address: format!("s3://{bucket}/{prefix}"),
            why: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".to_owned(),
        })?;
        let token = options.session_token.clone();
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_WITHIN)
            .read_timeout(READ_WITHIN)
            .operation_attempt_timeout(TRY_WITHIN)
            .build();
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(options.region.clone().unwrap_or_else(|| REGION.to_owned())))
            .credentials_provider(Credentials::new(access, secret, token, None, "options"))
            .force_path_style(options.path_style)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(TRIES));
        if let Some(endpoint) = &options.endpoint {
            config = config.endpoint_url(endpoint);
        }
        Ok(Self {
            client: Client::from_conf(config.build()),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            sse: options.sse.as_deref().map(ServerSideEncryption::from),
            places: Arc::new(Semaphore::new(CONCURRENT_MAX)),
        })
    }

    fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) }
    }

    async fn place(&self) -> SemaphorePermit<'_> {
        self.places.acquire().await.expect("it is never closed")
    }

    pub(super) async fn get(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let _place = self.place().await;
        let Some(mut body) = self.open(name).await? else { return Ok(None) };
        let mut bytes = Vec::new();
        while let Some(piece) = body.try_next().await.map_err(|why| failed("read", name, why))? {
            if bytes.len() as u64 + piece.len() as u64 > max {
                return Err(super::too_long(name, max));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(Some(bytes))
    }

    async fn open(&self, name: &str) -> Result<Option<ByteStream>, StoreError> {
        match self.client.get_object().bucket(&self.bucket).key(self.key(name)).send().await {
            Ok(found) => Ok(Some(found.body)),
            Err(why) if why.as_service_error().is_some_and(|e| e.is_no_such_key()) => Ok(None),
            Err(why) => Err(failed("get", name, said(&why))),
        }
    }

    pub(super) async fn fetch(&self, name: &str, size: u64, to: &Path) -> Result<(), StoreError> {
        let _place = self.place().await;
        let body = self.open(name).await?;
        let mut body = body.ok_or_else(|| failed("fetch", name, "there is none"))?;
        let mut out = File::create_new(to).await.map_err(StoreError::io("create", to))?;
        let mut got = 0;
        while let Some(piece) = body.try_next().await.map_err(|why| failed("fetch", name, why))? {
            got += piece.len() as u64;
            if got > size {
                break;
            }
            out.write_all(&piece).await.map_err(StoreError::io("write", to))?;
        }
        if got != size {
            return Err(failed("fetch", name, format!("it has not {size} bytes")));
        }
        out.sync_all().await.map_err(StoreError::io("sync", to))
    }

    pub(super) async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        let _place = self.place().await;
        let put = self.client.put_object().bucket(&self.bucket).key(self.key(name));
        let put = put.set_server_side_encryption(self.sse.clone());
        let put = put.body(ByteStream::from(bytes)).send().await;
        put.map(drop).map_err(|why| failed("put", name, said(&why)))
    }

    pub(super) async fn put_file(&self, name: &str, from: &Path) -> Result<(), StoreError> {
        let mut file = File::open(from).await.map_err(StoreError::io("open", from))?;
        let size = file.metadata().await.map_err(StoreError::io("look at", from))?.len();
        if size <= WHOLE_MAX {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).await.map_err(StoreError::io("read", from))?;
            return self.put(name, bytes).await;
        }
        let key = self.key(name);
        let before = self.stat(name).await?.map(|(_, tag)| tag);
        let begun = self.client.create_multipart_upload().bucket(&self.bucket).key(&key);
        let begun = begun.send().await.map_err(|why| failed("put", name, said(&why)))?;
        let upload =
            begun.upload_id().ok_or_else(|| failed("put", name, "the upload has no id"))?;
        let sent = self.send_parts(name, &key, upload, file, size, from).await;
        if sent.is_err() {
            // The last answer may have been lost, or be one that the library cannot read: a new
            // object of this length is there only if all of it arrived.
            let now = self.stat(name).await.ok().flatten();
            if now.is_some_and(|(len, tag)| len == size && Some(tag) != before) {
                return Ok(());
            }
            // What is left of it costs space until the bucket's own rules remove it.
            let _ = self
                .client
                .abort_multipart_upload()
                .bucket(&self.bucket)
                .key(&key)
                .upload_id(upload)
                .send()
                .await;
        }
        sent
    }

    async fn send_parts(
        &self,
        name: &str,
        key: &str,
        upload: &str,
        mut file: File,
        size: u64,
        from: &Path,
    ) -> Result<(), StoreError> {
        let part_len = PART_MIN.max(size.div_ceil(PARTS_MAX));
        let mut running = JoinSet::new();
        let mut parts = Vec::new();
        // An error drops those that are on their way.
        for number in 1.. {
            if running.len() >= PARTS_AT_A_TIME {
                parts.extend(joined(&mut running, name).await?);
            }
            let place = self.places.clone().acquire_owned().await.expect("it is never closed");
            let mut bytes = Vec::new();
            let mut piece = (&mut file).take(part_len);
            piece.read_to_end(&mut bytes).await.map_err(StoreError::io("read", from))?;
            if bytes.is_empty() {
                break;
            }
            let send = self.client.upload_part().bucket(&self.bucket).key(key).upload_id(upload);
            let send = send.part_number(number).body(ByteStream::from(bytes));
            running.spawn(async move {
                let sent = send.send().await;
                drop(place);
                let part = CompletedPart::builder().part_number(number);
                sent.map(|sent| part.set_e_tag(sent.e_tag().map(str::to_owned)).build())
                    .map_err(|why| said(&why))
            });
        }
        while !running.is_empty() {
            parts.extend(joined(&mut running, name).await?);
        }
        parts.sort_unstable_by_key(CompletedPart::part_number);
        let whole = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let done = self.client.complete_multipart_upload().bucket(&self.bucket).key(key);
        let done = done.upload_id(upload).multipart_upload(whole).send().await;
        done.map(drop).map_err(|why| failed("put", name, said(&why)))
    }

    pub(super) async fn put_new(&self, name: &str, bytes: Vec<u8>) -> Result<Put, StoreError> {
        let _place = self.place().await;
        let bytes = bytes::Bytes::from(bytes);
        for left in (0..CONFLICTS_MAX).rev() {
            let put = self.client.put_object().bucket(&self.bucket).key(self.key(name));
            let put = put.if_none_match("*").set_server_side_encryption(self.sse.clone());
            let put = put.body(ByteStream::from(bytes.clone())).send().await;
            let why = match put {
                Ok(_) => return Ok(Put::New),
                Err(why) => why,
            };
            match why.raw_response().map(|response| response.status().as_u16()) {
                Some(412) => return Ok(Put::Exists),
                // Another write of this name is under way: what came of it is not known yet.
                Some(409) if left > 0 => {
                    let pause = CONFLICT_PAUSE.mul_f64(rand::random_range(0.5..1.5));
                    tokio::time::sleep(pause).await;
                }
                _ => return Err(failed("put", name, said(&why))),
            }
        }
        Err(failed("put", name, "others write it all the time"))
    }

    pub(super) async fn get_range(
        &self,
        name: &str,
        offset: u64,
        len: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let _place = self.place().await;
        let range = format!("bytes={offset}-{}", offset.saturating_add(len.max(1)) - 1);
        let get = self.client.get_object().bucket(&self.bucket).key(self.key(name)).range(range);
        let mut body = match get.send().await {
            Ok(found) => found.body,
            Err(why) if why.as_service_error().is_some_and(|e| e.is_no_such_key()) => {
                return Ok(None);
            }
            // Nothing is there from `offset` on.
            Err(why) if why.raw_response().is_some_and(|r| r.status().as_u16() == 416) => {
                return Ok(Some(Vec::new()));
            }
            Err(why) => return Err(failed("get", name, said(&why))),
        };
        let mut bytes = Vec::new();
        while let Some(piece) = body.try_next().await.map_err(|why| failed("read", name, why))? {
            if bytes.len() as u64 + piece.len() as u64 > len {
                return Err(failed("read", name, "more came than was asked for"));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(Some(bytes))
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), StoreError> {
        let _place = self.place().await;
        let gone = self.client.delete_object().bucket(&self.bucket).key(self.key(name));
        gone.send().await.map(drop).map_err(|why| failed("delete", name, said(&why)))
    }

    pub(super) async fn head(&self, name: &str) -> Result<Option<u64>, StoreError> {
        Ok(self.stat(name).await?.map(|(len, _)| len))
    }

    /// The length of an object, and a tag that changes with its bytes.
    async fn stat(&self, name: &str) -> Result<Option<(u64, String)>, StoreError> {
        let _place = self.place().await;
        match self.client.head_object().bucket(&self.bucket).key(self.key(name)).send().await {
            Ok(found) => {
                let len = found.content_length().and_then(|len| u64::try_from(len).ok());
                Ok(len.map(|len| (len, found.e_tag().unwrap_or_default().to_owned())))
            }
            Err(why) if why.as_service_error().is_some_and(|e| e.is_not_found()) => Ok(None),
            Err(why) => Err(failed("look at", name, said(&why))),
        }
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        let _place = self.place().await;
        let (mut found, mut token) = (Vec::new(), None::<String>);
        let root = self.key("");
        loop {
            let page = self.client.list_objects_v2().bucket(&self.bucket).prefix(self.key(prefix));
            let page = page.set_continuation_token(token.take()).send().await;
            let page = page.map_err(|why| failed("list", prefix, said(&why)))?;
            for object in page.contents() {
                let name = object.key().and_then(|key| key.strip_prefix(&root));
                let size = object.size().and_then(|size| u64::try_from(size).ok());
                let Some((name, size)) = name.zip(size) else { continue };
                found.push(Object { name: name.to_owned(), size });
            }
            if found.len() > LISTED_MAX {
                return Err(failed("list", prefix, format!("more than {LISTED_MAX} names")));
            }
            token = page.next_continuation_token().map(str::to_owned);
            if token.is_none() {
                return Ok(found);
            }
        }
    }
}

/// The next part that has arrived.
async fn joined(
    running: &mut JoinSet<Result<CompletedPart, String>>,
    name: &str,
) -> Result<Option<CompletedPart>, StoreError> {
    let lost = |why: String| failed("put a part of", name, why);
    let Some(sent) = running.join_next().await else { return Ok(None) };
    sent.map_err(|why| lost(why.to_string()))?.map(Some).map_err(lost)
}

/// In words: what the store says, or why it was not reached.
fn said<E, R>(why: &SdkError<E, R>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: fmt::Debug,
{
    match (why.code(), why.message()) {
        (Some(code), message) => format!("{code}: {}", message.unwrap_or("no more is said")),
        (None, _) => DisplayErrorContext(why).to_string(),
    }
}
