//! What stories call: the server at `TOXIPROXY_URL`, a `toxiproxy-server` on the PATH, or ours.

use std::env;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::server::Server;
use crate::wait;

/// A Toxiproxy server to work with. Dropped, it ends the server that it started.
pub struct Toxiproxy {
    url: String,
    http: ureq::Agent,
    ours: Option<Server>,
    child: Option<Child>,
}

impl Toxiproxy {
    /// The server that the environment offers.
    pub fn open() -> Result<Self> {
        if let Ok(url) = env::var("TOXIPROXY_URL") {
            return Ok(Self::at(url.trim_end_matches('/').to_owned(), None, None));
        }
        if let Some(program) = on_path("toxiproxy-server") {
            return Self::spawn(&program);
        }
        Self::ours()
    }

    /// Our own server, whatever the environment offers.
    pub fn ours() -> Result<Self> {
        let server = Server::start("127.0.0.1:0").context("cannot start the toxic proxy server")?;
        Ok(Self::at(format!("http://{}", server.address), Some(server), None))
    }

    fn spawn(program: &PathBuf) -> Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new(program)
            .args(["-host", "127.0.0.1", "-port", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let client = Self::at(format!("http://127.0.0.1:{port}"), None, Some(child));
        wait::until("toxiproxy-server to answer", Duration::from_secs(5), || {
            client.get("/version").map(drop)
        })?;
        Ok(client)
    }

    fn at(url: String, ours: Option<Server>, child: Option<Child>) -> Self {
        // Answers with an error status are answers too: stories look at them.
        let http = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(10)))
            .build()
            .into();
        Self { url, http, ours, child }
    }

    /// Whether this is our own server.
    pub fn is_ours(&self) -> bool {
        self.ours.is_some()
    }

    /// One request: the status and the body.
    pub fn request(&self, method: &str, path: &str, body: Option<Value>) -> Result<(u16, Value)> {
        let url = format!("{}{path}", self.url);
        let text = body.map(|b| b.to_string()).unwrap_or_default();
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(&url)
            .header("content-type", "application/json")
            .body(text)?;
        let answer = self.http.run(request);
        let mut answer = answer.with_context(|| format!("{method} {url} got no answer"))?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().read_to_string()?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    fn done(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
        match self.request(method, path, body)? {
            (200..=299, value) => Ok(value),
            (status, value) => bail!("{method} {path} answered {status}: {value}"),
        }
    }

    fn get(&self, path: &str) -> Result<Value> {
        self.done("GET", path, None)
    }

    /// Makes a proxy (or makes it anew); answers where it listens.
    pub fn proxy(&self, name: &str, listen: &str, upstream: &str) -> Result<String> {
        let _ = self.request("DELETE", &format!("/proxies/{name}"), None)?;
        let body = json!({"name": name, "listen": listen, "upstream": upstream, "enabled": true});
        let made = self.done("POST", "/proxies", Some(body))?;
        Ok(made["listen"].as_str().unwrap_or(listen).to_owned())
    }

    /// Removes a proxy.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.done("DELETE", &format!("/proxies/{name}"), None).map(drop)
    }

    /// Closes all its connections and its port, or opens it again.
    pub fn enable(&self, name: &str, enabled: bool) -> Result<()> {
        self.done("POST", &format!("/proxies/{name}"), Some(json!({"enabled": enabled}))).map(drop)
    }

    /// Adds a toxic (`latency`, `timeout`, ...) to one direction, named `<kind>_<stream>`.
    pub fn toxic(&self, proxy: &str, kind: &str, stream: &str, attributes: Value) -> Result<()> {
        let body = json!({"type": kind, "stream": stream, "attributes": attributes});
        self.done("POST", &format!("/proxies/{proxy}/toxics"), Some(body)).map(drop)
    }

    /// Removes the toxic that [`Self::toxic`] added.
    pub fn heal(&self, proxy: &str, kind: &str, stream: &str) -> Result<()> {
        self.done("DELETE", &format!("/proxies/{proxy}/toxics/{kind}_{stream}"), None).map(drop)
    }
}

impl Drop for Toxiproxy {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}
