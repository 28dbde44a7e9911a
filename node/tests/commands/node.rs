//! A standalone node in a scratch directory, and a client that shows the bytes.

use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use resp::reply::Reply;

/// A running node; killed when dropped.
pub(crate) struct Node {
    child: Child,
    pub(crate) port: u16,
    dir: std::path::PathBuf,
    env: Vec<(String, String)>,
    _scratch: Option<tempfile::TempDir>,
}

impl Node {
    /// A node with nothing in it.
    pub(crate) fn new() -> Self {
        Self::failing("")
    }

    /// A node with nothing in it, and with these failpoints.
    pub(crate) fn failing(points: &str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let mut node = Self::open_with(scratch.path(), &[("GODWIT_FAILPOINTS", points)]);
        node._scratch = Some(scratch);
        node
    }

    /// A node with nothing in it, started with these arguments as well.
    pub(crate) fn with(args: &[&str]) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let mut node = Self::start(scratch.path(), &[], args);
        node._scratch = Some(scratch);
        node
    }

    /// A node on this directory.
    pub(crate) fn open(dir: &std::path::Path) -> Self {
        Self::open_with(dir, &[])
    }

    /// A node on this directory with these variables in its environment, for as long as it lives.
    pub(crate) fn open_with(dir: &std::path::Path, env: &[(&str, &str)]) -> Self {
        Self::start(dir, env, &[])
    }

    fn start(dir: &std::path::Path, env: &[(&str, &str)], args: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // A limit on the size of files is an error to it then, not its end.
        let child = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_godwit-node")])
            .args(["--dir", dir.to_str().unwrap()])
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--workers", "3", "--io-threads", "2", "--log", "warn"])
            .args(args)
            .envs(env.iter().copied())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let env = env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let node = Self { child, port, dir: dir.to_owned(), env, _scratch: None };
        let deadline = Instant::now() + Duration::from_secs(20);
        // It takes its ports one after the other.
        let admin = dir.join("admin.sock");
        while TcpStream::connect(("127.0.0.1", port)).is_err()
            || UnixStream::connect(&admin).is_err()
        {
            assert!(Instant::now() < deadline, "the node does not listen");
            std::thread::yield_now();
        }
        node
    }

    /// Lets no file grow beyond this from here on; none: as large as they like.
    pub(crate) fn limit_files(&self, bytes: Option<u64>) {
        let limit = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
        let pid = self.child.id().to_string();
        // Only the soft limit, so that it can be raised again.
        let args = ["--pid", &pid, &format!("--fsize={limit}:unlimited")];
        assert!(Command::new("prlimit").args(args).status().unwrap().success());
    }

    /// A connection.
    pub(crate) fn client(&self) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client { stream: BufReader::new(stream), unread: Vec::new() }
    }

    /// The client that others wrote.
    pub(crate) fn redis(&self) -> redis::Connection {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.port)).unwrap();
        client.get_connection().unwrap()
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ended(&mut self) {
        self.child.wait().unwrap();
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What it is started with the next time has no variables.
    pub(crate) fn forget_variables(&mut self) {
        self.env.clear();
    }

    /// Kills it with SIGKILL and starts it again on the same directory.
    pub(crate) fn crash(&mut self) {
        self.kill();
        let scratch = self._scratch.take();
        let env = std::mem::take(&mut self.env);
        let env: Vec<_> = env.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        let mut next = Self::open_with(&self.dir, &env);
        next._scratch = scratch;
        *self = next;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection that sends and shows bytes.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    unread: Vec<u8>,
}

impl Client {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// False: the node is gone.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.get_mut().write_all(bytes).is_ok()
    }

    /// One reply; `None`: the node is gone.
    pub(crate) fn try_read(&mut self) -> Option<Reply> {
        loop {
            if let Some((reply, taken)) = Reply::parse(&self.unread).unwrap() {
                self.unread.drain(..taken);
                return Some(reply);
            }
            let mut more = [0; 4096];
            match self.stream.read(&mut more) {
                Ok(count) if count > 0 => self.unread.extend_from_slice(&more[..count]),
                _ => return None,
            }
        }
    }

    /// Sends from another thread, for what may not fit while nothing is read.
    pub(crate) fn send_beside(&self, bytes: Vec<u8>) {
        let mut stream = self.stream.get_ref().try_clone().unwrap();
        std::thread::spawn(move || stream.write_all(&bytes).unwrap());
    }

    /// One reply.
    pub(crate) fn read(&mut self) -> Reply {
        loop {
            if let Some((reply, taken)) = Reply::parse(&self.unread).unwrap() {
                self.unread.drain(..taken);
                return reply;
            }
            let mut more = [0; 4096];
            let count = self.stream.read(&mut more).unwrap();
            assert!(count > 0, "the node closed in the middle of {:?}", self.unread);
            self.unread.extend_from_slice(&more[..count]);
        }
    }

    /// Everything until the node closes.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.unread);
        self.stream.read_to_end(&mut all).unwrap();
        all
    }

    /// A command given as words, and its reply written as words: see [`show`].
    pub(crate) fn ask(&mut self, command: &str) -> String {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let mut bytes = Vec::new();
        resp::command::write(&mut bytes, &words);
        self.send(&bytes);
        show(&self.read())
    }

    /// Sends a command given as words, and reads nothing.
    pub(crate) fn say(&mut self, command: &str) {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let mut bytes = Vec::new();
        resp::command::write(&mut bytes, &words);
        self.send(&bytes);
    }

    /// One reply, or a message that came by itself, in words: see [`show`].
    pub(crate) fn hear(&mut self) -> String {
        match self.read() {
            Reply::Push(parts) => show(&Reply::Array(parts)),
            other => show(&other),
        }
    }

    /// Asks until so many clients wait, for others or for the end of a pause.
    pub(crate) fn see_waiting(&mut self, waiting: usize) {
        let line = format!("blocked_clients:{waiting}\r\n");
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.ask("INFO clients").contains(&line) {
            assert!(Instant::now() < deadline, "there are not {waiting} clients that wait");
        }
    }

    /// Asks each command of a story and compares: lines of `command => reply`.
    pub(crate) fn story(&mut self, text: &str) {
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (command, expected) = line.split_once(" => ").unwrap();
            assert_eq!(self.ask(command), expected, "{command}");
        }
    }
}

/// A reply in one line: `OK`, `(error)`, `nil`, `[a b]`, `{k v}`.
pub(crate) fn show(reply: &Reply) -> String {
    let list = |replies: &[Reply]| replies.iter().map(show).collect::<Vec<_>>().join(" ");
    match reply {
        Reply::Simple(text) => text.clone(),
        Reply::Error(text) => format!("({text})"),
        Reply::Integer(number) => number.to_string(),
        Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Reply::Null => "nil".to_owned(),
        Reply::Array(replies) => format!("[{}]", list(replies)),
        Reply::Set(replies) => format!("~[{}]", list(replies)),
        Reply::Map(pairs) => {
            let pairs = pairs.iter().map(|(k, v)| format!("{} {}", show(k), show(v)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(" "))
        }
        Reply::Double(number) => format!(",{number}"),
        other => format!("{other:?}"),
    }
}
