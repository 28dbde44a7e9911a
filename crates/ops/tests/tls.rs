//! Daemons that know each other by their certificates, and what they say when they do not.
#![allow(clippy::unwrap_used)] // of tests, helpers too

use std::path::Path;
use std::time::Duration;

use ops::shutdown::Shutdown;
use ops::tls::{HandshakeError, Mutual, MutualFiles, PeerName, Socket, TlsError};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

const WITHIN: Duration = Duration::from_secs(10);
/// The first second of 2100.
const YEAR_2100: Duration = Duration::from_secs(4_102_444_800);

/// An authority that signs.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        Self::named("an authority")
    }

    fn named(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Writes a certificate with this name, and who it trusts.
    fn equip(&self, dir: &Path, name: &str, trusted: &Self, year: i32) -> MutualFiles {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.not_before, params.not_after) =
            (date_time_ymd(2020, 1, 1), date_time_ymd(year, 1, 1));
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let file = |what: &str, text: &str| {
            let path = dir.join(format!("{name}.{what}"));
            std::fs::write(&path, text).unwrap();
            path
        };
        MutualFiles {
            ca: file("ca", &trusted.pem),
            cert: file("pem", &cert.pem()),
            key: file("key", &key.serialize_pem()),
        }
    }
}

fn name(text: &str) -> PeerName {
    PeerName::new(text).unwrap()
}

fn open(files: &MutualFiles) -> Mutual {
    Mutual::open(files.clone(), Vec::new()).unwrap()
}

type Shaken = Result<Socket, HandshakeError>;

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (dialled, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (dialled.unwrap(), accepted.unwrap().0)
}

/// Both ends' handshakes: of who dials and wants this name, and of who accepts.
async fn meet(caller: &Mutual, wanted: &str, called: &Mutual) -> (Shaken, Shaken) {
    let (dialled, accepted) = sockets().await;
    let wanted = name(wanted);
    tokio::join!(caller.connect(dialled, &wanted, WITHIN), called.accept(accepted, WITHIN))
}

/// What the caller learns at the latest when it reads.
async fn word(caller: Shaken) -> String {
    match caller {
        Err(error) => error.to_string(),
        Ok(mut socket) => socket.read_u8().await.unwrap_err().to_string(),
    }
}

#[track_caller]
fn says(text: &str, what: &str) {
    assert!(text.contains(what), "`{text}` does not say `{what}`");
}

#[tokio::test]
async fn two_that_trust_each_other_talk_and_know_who_is_there() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let of = |name| open(&authority.equip(dir.path(), name, &authority, 2100));
    let (a, b) = (of("0.a.shop.godwit"), of("0.b.shop.godwit"));
    let (caller, called) = meet(&a, "0.b.shop.godwit", &b).await;
    let (mut caller, mut called) = (caller.unwrap(), called.unwrap());
    let who = called.peer().unwrap();
    who.is_one_of(&[name("9.a.shop.godwit"), name("0.a.shop.godwit")]).unwrap();
    let wrong = who.is_one_of(&[name("1.a.shop.godwit")]).unwrap_err().to_string();
    says(&wrong, "shows a certificate for `0.a.shop.godwit`, and `1.a.shop.godwit` is needed");
    says(&who.is_one_of(&[]).unwrap_err().to_string(), "certificate");

    // Larger than any buffer on the way, and then an end without a goodbye.
    let sent = vec![7; 1 << 20];
    let send = async {
        caller.write_all(&sent).await.unwrap();
        caller.flush().await.unwrap();
        drop(caller);
    };
    let receive = async {
        let mut got = Vec::new();
        called.read_to_end(&mut got).await.unwrap();
        got
    };
    let ((), got) = tokio::join!(send, receive);
    assert!(got == sent);
    assert_eq!(a.expires(), Some(YEAR_2100));
}

#[tokio::test]
async fn who_was_dialled_may_show_a_name_that_was_configured() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let files = |name| authority.equip(dir.path(), name, &authority, 2100);
    let also = vec![name("other.example"), name("dr.example")];
    let a = Mutual::open(files("a.example"), also).unwrap();
    let b = open(&files("dr.example"));
    let (caller, called) = meet(&a, "0.b.shop.godwit", &b).await;
    assert!(caller.is_ok() && called.is_ok(), "{caller:?} {called:?}");

    let (caller, called) = meet(&b, "0.a.shop.godwit", &a).await;
    says(&word(caller).await, "for `a.example`, and `0.a.shop.godwit` is needed");
    says(&called.unwrap_err().to_string(), "does not take our certificate");
}

#[tokio::test]
async fn an_expired_certificate_is_named_on_both_sides() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let of = |name, year| open(&authority.equip(dir.path(), name, &authority, year));
    let (good, old) = (of("good", 2100), of("old", 2021));
    let (caller, called) = meet(&good, "old", &old).await;
    says(&word(caller).await, "has expired: renew it there");
    says(&called.unwrap_err().to_string(), "says that our certificate is expired");
    let (caller, called) = meet(&old, "good", &good).await;
    says(&called.unwrap_err().to_string(), "has expired: renew it there");
    says(&word(caller).await, "says that our certificate is expired");
}

#[tokio::test]
async fn another_authority_is_named_on_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(), Authority::named("another"));
    let here = open(&ours.equip(dir.path(), "here", &ours, 2100));
    let there = open(&theirs.equip(dir.path(), "there", &ours, 2100));
    let (caller, called) = meet(&here, "there", &there).await;
    says(&word(caller).await, "of an authority that we do not know: our tls-ca must hold it");
    says(&called.unwrap_err().to_string(), "does not know the authority of our certificate");
    let (caller, called) = meet(&there, "here", &here).await;
    says(&called.unwrap_err().to_string(), "of an authority that we do not know");
    says(&word(caller).await, "does not know the authority of our certificate");

    // Made anew, under the same name.
    let again = open(&Authority::new().equip(dir.path(), "again", &ours, 2100));
    let (caller, called) = meet(&again, "here", &here).await;
    says(&called.unwrap_err().to_string(), "of an authority that we do not know");
    says(&word(caller).await, "does not");
}

#[tokio::test]
async fn plain_and_tls_do_not_mix_and_say_so() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let secret = open(&authority.equip(dir.path(), "a", &authority, 2100));
    let (mut dialled, accepted) = sockets().await;
    dialled.write_all(b"GS\x01\x01 and so on, in plain").await.unwrap();
    let refused = secret.accept(accepted, WITHIN).await.unwrap_err().to_string();
    says(&refused, "does not speak TLS: give it a certificate");

    let (dialled, mut accepted) = sockets().await;
    accepted.write_all(b"GS\x01\x01 and so on, in plain").await.unwrap();
    let refused = secret.connect(dialled, &name("a"), WITHIN).await.unwrap_err().to_string();
    says(&refused, "does not speak TLS");

    let (dialled, _silent) = sockets().await;
    let soon = Duration::from_millis(50);
    let refused = secret.connect(dialled, &name("a"), soon).await.unwrap_err().to_string();
    says(&refused, "did not shake hands within 50ms");
}

#[tokio::test]
async fn files_are_read_again_at_a_hangup_and_bad_ones_are_named() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let files = authority.equip(dir.path(), "a", &authority, 2021);
    let mutual = open(&files);
    // From here on a hangup does not end this process.
    let _heard = signal(SignalKind::hangup()).unwrap();
    let shutdown = Shutdown::new();
    let following = tokio::spawn(mutual.clone().follow(shutdown.clone()));
    std::fs::write(&files.cert, "no certificate").unwrap();
    let us = rustix::process::getpid();
    let renewed = async {
        let mut looked = 0;
        while mutual.expires() != Some(YEAR_2100) {
            rustix::process::kill_process(us, rustix::process::Signal::HUP).unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            looked += 1;
            if looked == 3 {
                authority.equip(dir.path(), "a", &authority, 2100);
            }
        }
    };
    tokio::time::timeout(WITHIN, renewed).await.unwrap();
    shutdown.request();
    following.await.unwrap().unwrap();

    std::fs::write(&files.ca, "").unwrap();
    let none = Mutual::open(files.clone(), Vec::new()).unwrap_err();
    assert!(matches!(none, TlsError::NoAuthority(_)), "{none}");
    std::fs::write(&files.key, "no key").unwrap();
    let none = Mutual::open(files, Vec::new()).unwrap_err();
    says(&none.to_string(), "cannot read the private key");
    assert!(PeerName::new("no name").is_err());
}
