//! Clients by TLS.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::node::Node;

/// An authority that signs.
pub(crate) struct Authority {
    pub(crate) pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub(crate) struct Signed {
    pub(crate) cert: rcgen::Certificate,
    pub(crate) key: KeyPair,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).unwrap();
        let (pem, der) = (cert.pem(), cert.der().clone());
        Self { pem, der, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn sign(&self, name: &str) -> Signed {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        Signed { cert: params.signed_by(&key, &self.issuer).unwrap(), key }
    }

    /// Puts a new certificate of the node's and its key where the node looks for them.
    pub(crate) fn renew(&self, dir: &Path) -> CertificateDer<'static> {
        let signed = self.sign("localhost");
        std::fs::write(dir.join("key.pem"), signed.key.serialize_pem()).unwrap();
        std::fs::write(dir.join("cert.pem"), signed.cert.pem()).unwrap();
        signed.cert.der().clone()
    }
}

type Client = StreamOwned<ClientConnection, TcpStream>;

fn connect(port: u16, trusted: &Authority, own: Option<&Signed>) -> Client {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some(Signed { cert, key }) => {
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            builder.with_client_auth_cert(vec![cert.der().clone()], key).unwrap()
        }
    };
    let name = ServerName::try_from("localhost").unwrap();
    let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), socket)
}

fn ask(client: &mut Client, command: &str, expected: &str) {
    client.write_all(format!("{command}\r\n").as_bytes()).unwrap();
    let mut answer = vec![0; expected.len()];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), expected, "{command}");
}

fn node(dir: &Path, more: &[&str]) -> Node {
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    let mut args = vec!["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    args.extend(more);
    Node::with(&args)
}

#[test]
fn commands_and_large_answers_pass_under_tls() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    authority.renew(dir.path());
    let node = node(dir.path(), &[]);
    let mut client = connect(node.port, &authority, None);
    ask(&mut client, "PING", "+PONG\r\n");
    // Larger than records and buffers, both ways.
    let value = "v".repeat(3 << 20);
    let mut set = Vec::new();
    resp::command::write(&mut set, &[b"SET", b"big", value.as_bytes()]);
    client.write_all(&set).unwrap();
    let mut ok = [0; 5];
    client.read_exact(&mut ok).unwrap();
    assert_eq!(&ok, b"+OK\r\n");
    ask(&mut client, "GET big", &format!("${}\r\n{value}\r\n", value.len()));
    let pipelined = "PING\r\n".repeat(1000);
    ask(&mut client, pipelined.trim_end(), &"+PONG\r\n".repeat(1000));
    // Who does not speak it is not answered.
    let mut plain = TcpStream::connect(("127.0.0.1", node.port)).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    plain.write_all(b"PING\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"+PONG"), "{answer:?}");
}

#[test]
fn a_renewed_certificate_is_used_and_old_connections_go_on() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    authority.renew(dir.path());
    let node = node(dir.path(), &[]);
    let mut old = connect(node.port, &authority, None);
    ask(&mut old, "PING", "+PONG\r\n");
    let renewed = authority.renew(dir.path());
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut new = connect(node.port, &authority, None);
        ask(&mut new, "PING", "+PONG\r\n");
        if new.conn.peer_certificates().unwrap()[0] == renewed {
            break;
        }
        assert!(Instant::now() < deadline, "the old certificate is still used");
    }
    ask(&mut old, "PING", "+PONG\r\n");
}

#[test]
fn clients_need_a_certificate_where_an_authority_is_named() {
    let (dir, authority, stranger) =
        (tempfile::tempdir().unwrap(), Authority::new(), Authority::new());
    authority.renew(dir.path());
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    let node = node(dir.path(), &["--tls-client-ca", ca.to_str().unwrap()]);
    let known = authority.sign("client");
    ask(&mut connect(node.port, &authority, Some(&known)), "PING", "+PONG\r\n");
    let unknown = stranger.sign("client");
    for own in [None, Some(&unknown)] {
        let mut client = connect(node.port, &authority, own);
        let mut answer = Vec::new();
        let refused = client
            .write_all(b"PING\r\n")
            .and_then(|()| client.read_to_end(&mut answer).map(drop))
            .unwrap_err();
        assert_ne!(refused.kind(), ErrorKind::WouldBlock, "{refused}");
        assert_eq!(answer, b"");
    }
}
