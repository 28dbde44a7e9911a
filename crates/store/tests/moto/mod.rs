//! An S3 server with the bucket `loads`: `moto_server`, from `pip install 'moto[s3,server]'`
//! (`scripts/deps.sh tests` does that).

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server that is killed when the story ends.
pub(crate) struct Moto {
    child: Child,
    pub(crate) url: String,
}

impl Drop for Moto {
    fn drop(&mut self) {
        // It may have ended by itself; nothing is left then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Moto {
    /// `None`: there is none on this machine, and it could not be installed.
    pub(crate) fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let own =
            std::env::home_dir().unwrap_or_default().join(".cache/godwit/moto/bin/moto_server");
        let child = Command::new(if own.exists() { own } else { "moto_server".into() })
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = match child {
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
                eprintln!("SKIPPED: moto_server is not there (scripts/deps.sh tests installs it)");
                return None;
            }
            child => child.unwrap(),
        };
        let moto = Self { child, url: format!("http://127.0.0.1:{port}") };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "moto_server does not listen");
            std::thread::yield_now();
        }
        moto.put("loads", None);
        Some(moto)
    }

    /// Puts a file there, or makes a bucket.
    pub(crate) fn put(&self, name: &str, file: Option<&Path>) {
        let scope =
            "Authorization: AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request";
        let mut curl = Command::new("curl");
        curl.args(["-sf", "-X", "PUT", "-H", scope, &format!("{}/{name}", self.url)]);
        if let Some(file) = file {
            // Without a type the server takes the bytes for a form.
            curl.args(["-H", "Content-Type: application/octet-stream", "--data-binary"]);
            curl.arg(format!("@{}", file.display()));
        }
        assert!(curl.stdout(Stdio::null()).status().unwrap().success(), "{name} was not put");
    }
}
