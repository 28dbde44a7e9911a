//! Control commands from other machines: who shows a certificate, or knows the password.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use redis::Commands;

use crate::node::Node;
use crate::tls::Authority;

/// Long enough for a busy machine; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn path<'a>(dir: &'a Path, name: &str) -> std::borrow::Cow<'a, str> {
    dir.join(name).to_str().unwrap().to_owned().into()
}

/// A node that listens there by TLS, for those who have a certificate of `tools` or the password.
fn node(dir: &Path, nodes: &Authority, tools: &Authority, port: u16) -> Node {
    nodes.renew(dir);
    std::fs::write(dir.join("nodes.pem"), &nodes.pem).unwrap();
    std::fs::write(dir.join("tools.pem"), &tools.pem).unwrap();
    let (cert, key) = (path(dir, "cert.pem"), path(dir, "key.pem"));
    let (listen, tools) = (format!("tls://127.0.0.1:{port}"), path(dir, "tools.pem"));
    let login = ["--admin-user", "ops", "--admin-password", "open sesame"];
    let files =
        ["--admin-tls-cert", &cert, "--admin-tls-key", &key, "--admin-tls-client-ca", &tools];
    Node::with(&[&["--admin-listen", &listen], &files[..], &login[..]].concat())
}

/// The certificate of a tool, where it is written.
fn equip(dir: &Path, authority: &Authority, name: &str) -> [String; 2] {
    let signed = authority.sign("a.tool");
    let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
    std::fs::write(dir.join(&cert), signed.cert.pem()).unwrap();
    std::fs::write(dir.join(&key), signed.key.serialize_pem()).unwrap();
    [path(dir, &cert).into_owned(), path(dir, &key).into_owned()]
}

/// `godwit-node delete`, which shows whether the node did as it was told.
fn delete(admin: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_godwit-node"));
    command.args(["delete", "0-16383", "--yes", "--admin", admin]).args(args).output().unwrap()
}

fn refused(output: &Output, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(why), "{said}");
}

#[test]
fn a_certificate_or_a_password_opens_it_and_nothing_else() {
    let (dir, nodes, tools) = (tempfile::tempdir().unwrap(), Authority::new(), Authority::new());
    let (dir, port) = (dir.path(), free_port());
    let node = node(dir, &nodes, &tools, port);
    let mut client = node.redis();
    let admin = format!("tls://localhost:{port}");
    let believes = path(dir, "nodes.pem");
    let ca = ["--admin-ca", &believes];
    let [cert, key] = equip(dir, &tools, "tool");
    let [other_cert, other_key] = equip(dir, &nodes, "other");
    let () = client.set("key", "value").unwrap();
    let with = |more: &[&str]| delete(&admin, &[&ca[..], more].concat());
    refused(&with(&[]), "say who you are first");
    let login = |user, password| with(&["--admin-user", user, "--admin-password", password]);
    refused(&login("ops", "open sesam"), "not the user and the password");
    refused(&login("root", "open sesame"), "not the user and the password");
    let shows = |cert, key| with(&["--admin-cert", cert, "--admin-key", key]);
    refused(&shows(&other_cert, &other_key), "cannot be called");
    refused(&delete(&admin, &[]), "--admin-ca");
    let wrong = ["--admin-ca", &path(dir, "tools.pem")[..]];
    refused(&delete(&admin, &wrong), "of an authority that we do not know");
    refused(&delete(&format!("tls://127.0.0.1:{port}"), &ca), "`127.0.0.1` is needed");
    refused(&delete(&format!("tcp://localhost:{port}"), &[]), "cannot be called");
    assert_eq!(client.get::<_, String>("key").unwrap(), "value", "somebody got in");
    let opens: [&dyn Fn() -> Output; 2] = [&|| login("ops", "open sesame"), &|| shows(&cert, &key)];
    for opens in opens {
        let output = opens();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(!client.exists::<_, bool>("key").unwrap());
        let () = client.set("key", "again").unwrap();
    }
    // The socket for this machine is as it was.
    let unix = format!("unix:{}", node.dir().join("admin.sock").display());
    assert!(delete(&unix, &[]).status.success());
}

#[test]
fn a_renewed_certificate_is_used_from_then_on() {
    let (dir, nodes, tools) = (tempfile::tempdir().unwrap(), Authority::new(), Authority::new());
    let (dir, port) = (dir.path(), free_port());
    let _node = node(dir, &nodes, &tools, port);
    let admin = format!("tls://localhost:{port}");
    let [cert, key] = equip(dir, &tools, "tool");
    let renewed = Authority::new();
    renewed.renew(dir);
    let believes = dir.join("renewed.pem");
    std::fs::write(&believes, &renewed.pem).unwrap();
    let args =
        ["--admin-ca", believes.to_str().unwrap(), "--admin-cert", &cert, "--admin-key", &key];
    let deadline = Instant::now() + PATIENCE;
    while !delete(&admin, &args).status.success() {
        assert!(Instant::now() < deadline, "the new certificate is not used");
    }
}

#[test]
fn without_tls_it_takes_saying_so_and_a_password() {
    let port = free_port();
    let listen = format!("tcp://127.0.0.1:{port}");
    let node =
        Node::with(&["--admin-listen", &listen, "--admin-user", "ops", "--admin-password", "x"]);
    let () = node.redis().set("key", "value").unwrap();
    refused(&delete(&listen, &[]), "say who you are first");
    // It is not heard, and not listened to, before it has said who it is.
    for said in [&b"*1\r\n$4\r\nPING\r\n"[..], b"*2\r\n$4\r\nAUTH\r\n$99999999\r\n"] {
        let mut stranger = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        stranger.write_all(said).unwrap();
        let mut answer = String::new();
        stranger.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("-NOAUTH") || answer.starts_with("-ERR"), "{answer}");
        assert_eq!(answer.lines().count(), 1, "{answer}");
    }
    assert!(node.redis().exists::<_, bool>("key").unwrap());
    let output = delete(&listen, &["--admin-user", "ops", "--admin-password", "x"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!node.redis().exists::<_, bool>("key").unwrap());
    // Other machines reach it: that has to be said, one way or the other.
    let check = |admin: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_godwit-node"));
        command.args(["--dir", "/nowhere", "--listen", "127.0.0.1:0", "--check-config"]);
        command.args(["--admin-listen", admin]).output().unwrap()
    };
    refused(&check("0.0.0.0:7000"), "reachable from other machines");
    refused(&check("tcp://0.0.0.0:7000"), "`admin-user`");
}
