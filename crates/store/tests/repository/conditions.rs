//! A store that overwrites what it should not.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use store::bucket::{Bucket, S3Options};
use store::repository::{Keys, Repository};

/// An S3 store that overwrites whatever it is told: it knows GET, HEAD and PUT, and no conditions.
fn careless_store() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let objects = Arc::new(Mutex::new(HashMap::<String, Vec<u8>>::new()));
    std::thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            let objects = objects.clone();
            std::thread::spawn(move || answer_all(socket, &objects));
        }
    });
    format!("http://{address}")
}

fn answer_all(mut socket: TcpStream, objects: &Mutex<HashMap<String, Vec<u8>>>) {
    let (mut held, mut buf) = (Vec::new(), [0; 4096]);
    loop {
        let Some(head) = held.windows(4).position(|w| w == b"\r\n\r\n") else {
            match socket.read(&mut buf) {
                Ok(n) if n > 0 => held.extend_from_slice(&buf[..n]),
                _ => return,
            }
            continue;
        };
        let text = String::from_utf8(held[..head].to_vec()).unwrap();
        let line: Vec<_> = text.lines().next().unwrap().split(' ').map(str::to_owned).collect();
        let length = text.lines().find_map(|l| {
            l.to_lowercase().strip_prefix("content-length: ").map(|n| n.parse().unwrap())
        });
        let end = head + 4 + length.unwrap_or(0);
        while held.len() < end {
            let n = socket.read(&mut buf).unwrap();
            held.extend_from_slice(&buf[..n]);
        }
        let path = line[1].split('?').next().unwrap().to_owned();
        let mut objects = objects.lock().unwrap();
        let (status, body) = match (line[0].as_str(), objects.get(&path)) {
            ("PUT", _) => {
                objects.insert(path, held[head + 4..end].to_vec());
                ("200 OK", Vec::new())
            }
            (_, Some(bytes)) => ("200 OK", bytes.clone()),
            _ => ("404 Not Found", b"<Error><Code>NoSuchKey</Code></Error>".to_vec()),
        };
        drop(objects);
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\netag: \"x\"\r\n\r\n", body.len());
        socket.write_all(head.as_bytes()).unwrap();
        if line[0] != "HEAD" {
            socket.write_all(&body).unwrap();
        }
        held.drain(..end);
    }
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_not_written_to() {
    let options = S3Options {
        endpoint: Some(careless_store()),
        path_style: true,
        access_key: Some("key".to_owned()),
        secret_key: Some("secret".to_owned()),
        ..S3Options::default()
    };
    let bucket = Bucket::open(&"s3://b/x".parse().unwrap(), &options).unwrap();
    let made = Repository::create(bucket, Keys::none(), Duration::ZERO).await;
    let why = made.unwrap_err().to_string();
    assert!(why.contains("If-None-Match"), "{why}");
}
