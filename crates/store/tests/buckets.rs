//! A directory and a bucket, held to the same stories. The bucket is `moto_server`'s, from
//! `pip install 'moto[s3,server]'` (`scripts/deps.sh tests` does that).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod moto;

use std::net::TcpListener;

use moto::Moto;
use store::bucket::{Bucket, BucketAddress, Put, S3Options};

fn options(endpoint: &str) -> S3Options {
    S3Options {
        endpoint: Some(endpoint.to_owned()),
        path_style: true,
        access_key: Some("key".to_owned()),
        secret_key: Some("secret".to_owned()),
        ..S3Options::default()
    }
}

fn open(moto: &Moto, address: &str) -> Bucket {
    Bucket::open(&address.parse::<BucketAddress>().unwrap(), &options(&moto.url)).unwrap()
}

async fn objects_are_whole_or_not_there(bucket: &Bucket) {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(bucket.get("a/one", 100).await.unwrap(), None);
    assert_eq!(bucket.head("a/one").await.unwrap(), None);
    assert_eq!(bucket.list("").await.unwrap(), []);
    bucket.put("a/one", b"first".to_vec()).await.unwrap();
    bucket.put("a/one", b"second".to_vec()).await.unwrap();
    bucket.put("b/two", Vec::new()).await.unwrap();
    assert_eq!(bucket.get("a/one", 6).await.unwrap().as_deref(), Some(&b"second"[..]));
    assert!(bucket.get("a/one", 5).await.unwrap_err().to_string().contains("longer than 5"));
    assert_eq!(bucket.head("a/one").await.unwrap(), Some(6));
    // Of several who put a new one, one does.
    let puts = (0..4_u8).map(|n| bucket.put_new("new", vec![n; 3]));
    let puts = futures_util::future::try_join_all(puts).await.unwrap();
    assert_eq!(puts.iter().filter(|put| **put == Put::New).count(), 1, "{puts:?}");
    let new = bucket.get("new", 3).await.unwrap().unwrap();
    assert_eq!(bucket.put_new("new", b"other".to_vec()).await.unwrap(), Put::Exists);
    assert_eq!(bucket.get("new", 3).await.unwrap(), Some(new));
    assert_eq!(bucket.get_range("a/one", 2, 3).await.unwrap().as_deref(), Some(&b"con"[..]));
    assert_eq!(bucket.get_range("a/one", 4, 9).await.unwrap().as_deref(), Some(&b"nd"[..]));
    assert_eq!(bucket.get_range("gone", 0, 9).await.unwrap(), None);
    bucket.delete("new").await.unwrap();
    bucket.delete("new").await.unwrap();
    assert_eq!(bucket.head("new").await.unwrap(), None);
    let names = |listed: Vec<store::bucket::Object>| {
        listed.into_iter().map(|object| (object.name, object.size)).collect::<Vec<_>>()
    };
    let all = [("a/one".to_owned(), 6), ("b/two".to_owned(), 0)];
    assert_eq!(names(bucket.list("").await.unwrap()), all);
    assert_eq!(names(bucket.list("b/").await.unwrap()), all[1..]);
    // More than goes in one piece, or two.
    let large: Vec<u8> = (0..(70_u32 << 20)).map(|n| (n % 251) as u8).collect();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    std::fs::write(&from, &large).unwrap();
    bucket.put_file("large", &from).await.unwrap();
    assert_eq!(bucket.head("large").await.unwrap(), Some(large.len() as u64));
    bucket.fetch("large", large.len() as u64, &to).await.unwrap();
    assert!(std::fs::read(&to).unwrap() == large, "other bytes came back");
    let short = dir.path().join("short");
    assert!(
        bucket.fetch("large", 5, &short).await.unwrap_err().to_string().contains("not 5 bytes")
    );
    let gone = bucket.fetch("gone", 5, &dir.path().join("gone")).await.unwrap_err();
    assert!(gone.to_string().contains("there is none"), "{gone}");
    for bad in ["../x", "/etc/passwd", "a//b", ""] {
        assert!(bucket.get(bad, 1).await.is_err(), "{bad}");
    }
}

#[tokio::test]
async fn a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let address = BucketAddress::Directory(dir.path().join("objects"));
    let bucket = Bucket::open(&address, &S3Options::default()).unwrap();
    objects_are_whole_or_not_there(&bucket).await;
}

#[tokio::test]
async fn a_bucket() {
    let Some(moto) = Moto::start() else { return };
    objects_are_whole_or_not_there(&open(&moto, "s3://loads/some/prefix")).await;
    // More names than a page of a listing has.
    let many = open(&moto, "s3://loads/many");
    for n in 0..1_050 {
        many.put(&format!("{n:04}"), vec![1]).await.unwrap();
    }
    assert_eq!(many.list("").await.unwrap().len(), 1_050);
    let nowhere = open(&moto, "s3://nowhere/x").get("a", 1).await.unwrap_err().to_string();
    assert!(nowhere.contains("NoSuchBucket"), "{nowhere}");
}

#[tokio::test]
async fn a_store_that_is_not_there_is_said_so() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let options = options(&format!("http://127.0.0.1:{port}"));
    let address: BucketAddress = "s3://loads/x".parse().unwrap();
    let why = Bucket::open(&address, &options).unwrap().get("a", 1).await.unwrap_err().to_string();
    assert!(why.contains("could not get a"), "{why}");
    let why = Bucket::open(&address, &S3Options::default()).unwrap_err().to_string();
    assert!(why.contains("AWS_ACCESS_KEY_ID"), "{why}");
}
