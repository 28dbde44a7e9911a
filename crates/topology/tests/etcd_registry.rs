//! The etcd registry passes the conformance suite, and keeps its promises while members die, hang,
//! forget, ask for passwords and are restored from backups.

#![allow(clippy::unwrap_used)] // clippy knows only functions marked #[test]

mod conformance;
#[path = "../../../tests/src/etcd.rs"]
#[allow(dead_code, unreachable_pub)] // it is made for more tests than these
mod server;
mod wire;

use std::time::{Duration, Instant};

use server::Etcd;
use topology::{AnyRegistry, Expect, Outcome, Registry, Revision, Service, View, Write, open};
use wire::Wire;

const PATIENCE: Duration = Duration::from_secs(20);

fn write(key: &str, value: &str) -> Write {
    Write { key: key.to_owned(), value: Some(value.as_bytes().to_vec()), ttl: None }
}

fn leased(key: &str, value: &str, secs: u64) -> Write {
    Write { ttl: Some(Duration::from_secs(secs)), ..write(key, value) }
}

fn committed(outcome: Outcome) -> Revision {
    let Outcome::Committed(revision) = outcome else { panic!("a conflict") };
    revision
}

async fn text(registry: &AnyRegistry, key: &str) -> String {
    String::from_utf8(registry.get(key).await.unwrap().unwrap().value).unwrap()
}

fn has(view: &View, key: &str, value: &str) -> bool {
    view.keys.get(key).is_some_and(|held| held.value == value.as_bytes())
}

async fn until(watch: &mut tokio::sync::watch::Receiver<View>, wanted: impl FnMut(&View) -> bool) {
    tokio::time::timeout(PATIENCE, watch.wait_for(wanted)).await.expect("seen in time").unwrap();
}

/// Blocking work of the test where it may block: other tasks of this test's runtime go on.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

impl conformance::Place for Etcd {
    fn address(&self) -> String {
        self.address()
    }

    fn go_away(&mut self) {
        aside(|| self.kill(0));
    }

    fn come_back(&mut self) {
        aside(|| self.start_again(0));
    }
}

#[tokio::test]
async fn child() {
    conformance::childs_work().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_passes_the_conformance_suite() {
    conformance::suite(&mut aside(Etcd::start)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_opened_while_it_is_silent_is_seen_as_soon_as_it_answers() {
    let mut etcd = aside(Etcd::start);
    let address = format!("{}?timeout=300ms", etcd.address());
    let record = "services/shop/note/drill";
    let note = r#"{"at":1,"says":"it was there before","good":true}"#;
    open(&address).unwrap().commit(&[], &[write(record, note)]).await.unwrap();
    aside(|| etcd.kill(0));
    let error = Service::open(open(&address).unwrap(), "shop").await.unwrap_err().to_string();
    assert!(error.contains("no answer within 300 ms"), "{error}");
    let service = Service::open_patient(open(&address).unwrap(), "shop").unwrap();
    let mut watch = service.watch();
    assert!(watch.borrow_and_update().notes.is_empty());
    aside(|| etcd.start_again(0));
    let seen = tokio::time::timeout(PATIENCE, watch.wait_for(|view| !view.notes.is_empty())).await;
    assert!(seen.expect("seen in time").unwrap().notes["drill"].good);
    assert!(Service::open_patient(open(&address).unwrap(), "no/name").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_was_cut_off_goes_on_though_its_history_was_compacted() {
    let etcd = aside(Etcd::start);
    let (wire, near) = (Wire::to(etcd.ports()[0]).await, open(&etcd.address()).unwrap());
    let far = open(&wire.address()).unwrap();
    near.commit(&[], &[write("w/stays", "1"), write("w/goes", "1")]).await.unwrap();
    let mut watch = far.watch("w/").await.unwrap();
    wire.cut();
    let goes = Write { value: None, ..write("w/goes", "") };
    near.commit(&[], &[goes, write("w/new", "1")]).await.unwrap();
    for n in 0..20 {
        near.commit(&[], &[write("w/stays", &n.to_string())]).await.unwrap();
    }
    aside(|| etcd.compact());
    assert!(has(&watch.borrow(), "w/goes", "1"), "the view stands still");
    wire.mend();
    until(&mut watch, |view| has(view, "w/stays", "19")).await;
    let keys: Vec<_> = watch.borrow().keys.keys().cloned().collect();
    assert_eq!(keys, ["w/new", "w/stays"]);
    // And it is a watch, not one list.
    near.commit(&[], &[write("w/new", "2")]).await.unwrap();
    until(&mut watch, |view| has(view, "w/new", "2")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_member_is_survived_and_a_lost_quorum_is_silence() {
    let mut etcd = aside(|| Etcd::cluster(3, None));
    let registry = open(&etcd.address()).unwrap();
    committed(registry.commit(&[], &[write("k", "0")]).await.unwrap());
    let mut watch = registry.watch("").await.unwrap();
    // Whichever member is in use, or leads: each is killed, and each hangs, once.
    for member in 0..3 {
        for hang in [true, false] {
            if hang {
                etcd.freeze(member)
            } else {
                aside(|| etcd.kill(member))
            }
            let value = format!("{member}-{hang}");
            let deadline = Instant::now() + PATIENCE;
            while let Err(why) = registry.commit(&[], &[write("k", &value)]).await {
                assert!(Instant::now() < deadline, "{why}");
            }
            until(&mut watch, |view| has(view, "k", &value)).await;
            if hang {
                etcd.thaw(member);
                aside(|| etcd.wait_well().unwrap());
            } else {
                aside(|| etcd.start_again(member));
            }
        }
    }
    let last = text(&registry, "k").await;
    aside(|| {
        etcd.kill(0);
        etcd.kill(1);
    });
    let began = Instant::now();
    let error = registry.commit(&[], &[write("k", "lost")]).await.unwrap_err().to_string();
    assert!(error.contains("did not answer"), "{error}");
    // No member that lives may answer alone, by what it remembers.
    assert!(registry.get("k").await.is_err());
    assert!(began.elapsed() < PATIENCE);
    assert!(has(&watch.borrow(), "k", &last));
    aside(|| etcd.start_again(0));
    let deadline = Instant::now() + PATIENCE;
    while registry.commit(&[], &[write("k", "again")]).await.is_err() {
        assert!(Instant::now() < deadline, "a quorum is there again");
    }
    until(&mut watch, |view| has(view, "k", "again")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_answers_are_waited_for_and_too_late_ones_leave_the_outcome_unknown() {
    let etcd = aside(Etcd::start);
    let wire = Wire::to(etcd.ports()[0]).await;
    let registry = open(&format!("{}?timeout=1500ms", wire.address())).unwrap();
    let at = committed(registry.commit(&[], &[write("k", "1")]).await.unwrap());
    wire.delay(Duration::from_millis(150));
    let held = [Expect { key: "k".to_owned(), revision: Some(at), value: None }];
    let at = committed(registry.commit(&held, &[write("k", "2")]).await.unwrap());
    assert_eq!(text(&registry, "k").await, "2");
    wire.delay(Duration::from_secs(30));
    let began = Instant::now();
    let held = [Expect { key: "k".to_owned(), revision: Some(at), value: None }];
    let error = registry.commit(&held, &[write("k", "3")]).await.unwrap_err().to_string();
    assert!(error.contains("whether it was committed must be read"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    wire.delay(Duration::ZERO);
    // It was: only the answer was late. A second swap of the same revision answers so.
    assert_eq!(text(&registry, "k").await, "3");
    assert_eq!(registry.commit(&held, &[write("k", "4")]).await.unwrap(), Outcome::Conflict);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ended_behind_its_writer_is_taken_anew() {
    let etcd = aside(Etcd::start);
    let registry = open(&etcd.address()).unwrap();
    registry.commit(&[], &[leased("l", "1", 60)]).await.unwrap();
    let leases = aside(|| etcd.ctl(&["lease", "list"]));
    let id = leases.lines().last().unwrap().to_owned();
    aside(|| etcd.ctl(&["lease", "revoke", &id]));
    assert_eq!(registry.get("l").await.unwrap(), None);
    registry.commit(&[], &[leased("l", "2", 60)]).await.unwrap();
    assert_eq!(text(&registry, "l").await, "2");
    // One lease a key, however often it is written.
    for n in 0..20 {
        registry.commit(&[], &[leased("l", &n.to_string(), 60)]).await.unwrap();
    }
    let leases = aside(|| etcd.ctl(&["lease", "list"]));
    assert!(leases.contains("found 1 leases"), "{leases}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_longer_than_a_message_is_read_in_pages() {
    let etcd = aside(Etcd::start);
    let registry = open(&etcd.address()).unwrap();
    let value = "x".repeat(500 << 10);
    for n in 0..20 {
        let key = format!("big/{n:02}");
        registry.commit(&[], &[write(&key, &value)]).await.unwrap();
    }
    let view = registry.list("big/").await.unwrap();
    assert_eq!(view.keys.len(), 20);
    assert!(view.keys.values().all(|held| held.value.len() == value.len()));
    let watch = registry.watch("big/").await.unwrap();
    assert_eq!(*watch.borrow(), view);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_passwords_are_asked_for_and_said_when_they_are_wrong() {
    let etcd = aside(Etcd::start);
    aside(|| {
        for args in [
            &["user", "add", "root:rootpw"][..],
            &["user", "grant-role", "root", "root"],
            &["role", "add", "godwit"],
            &["role", "grant-permission", "godwit", "readwrite", "--prefix=true", "godwit/"],
            &["user", "add", "shop:secret"],
            &["user", "grant-role", "shop", "godwit"],
            &["auth", "enable"],
        ] {
            etcd.ctl(args);
        }
    });
    let file = etcd.dir().join("password");
    std::fs::write(&file, "secret\n").unwrap();
    let with = |path: &str| {
        open(&format!("{}{path}?user=shop&password-file={}", etcd.address(), file.display()))
    };
    let registry = with("").unwrap();
    registry.commit(&[], &[leased("k", "1", 60), write("kept", "1")]).await.unwrap();
    let mut watch = registry.watch("").await.unwrap();
    // A change of users makes every token given before useless: nobody notices.
    aside(|| etcd.ctl(&["--user", "root:rootpw", "user", "add", "other:pw"]));
    let expect = Expect {
        key: "kept".into(),
        revision: registry.get("kept").await.unwrap().map(|k| k.revision),
        value: Some(b"1".to_vec()),
    };
    committed(registry.commit(&[expect], &[write("kept", "2")]).await.unwrap());
    until(&mut watch, |view| has(view, "kept", "2")).await;

    let elsewhere = with("/other").unwrap().get("k").await.unwrap_err().to_string();
    assert!(elsewhere.contains("permission denied"), "{elsewhere}");
    let nobody = open(&etcd.address()).unwrap().get("k").await.unwrap_err().to_string();
    assert!(nobody.contains("user=NAME&password-file=FILE"), "{nobody}");
    std::fs::write(&file, "wrong").unwrap();
    let wrong = with("").unwrap().get("k").await.unwrap_err().to_string();
    assert!(
        wrong.contains("user `shop`") && wrong.contains("invalid user ID or password"),
        "{wrong}"
    );
    assert!(!wrong.contains("secret"));
    std::fs::remove_file(&file).unwrap();
    let gone = with("").unwrap().get("k").await.unwrap_err().to_string();
    assert!(gone.contains("password's file") && gone.contains("No such file"), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_checked_on_both_sides_and_may_say_who_asks() {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let dir = tempfile::tempdir().unwrap();
    let authority = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let path = dir.path().join(format!("{name}.pem"));
        std::fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
        (path, Issuer::new(params, key))
    };
    let ((ca, issuer), (other_ca, _)) = (authority("ours"), authority("theirs"));
    let sign = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let paths = ["cert", "key"].map(|what| dir.path().join(format!("{name}.{what}")));
        std::fs::write(&paths[0], params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        std::fs::write(&paths[1], key.serialize_pem()).unwrap();
        paths
    };
    let [cert, key] = sign("root");
    let [shop_cert, shop_key] = sign("shop");
    let tls = server::Tls { ca: ca.clone(), cert, key };
    let etcd = aside(|| Etcd::cluster(1, Some(tls)));
    aside(|| {
        for args in [
            &["user", "add", "root:rootpw"][..],
            &["user", "grant-role", "root", "root"],
            &["role", "add", "godwit"],
            &["role", "grant-permission", "godwit", "readwrite", "--prefix=true", "godwit/"],
            &["user", "add", "shop:unused"],
            &["user", "grant-role", "shop", "godwit"],
            &["auth", "enable"],
        ] {
            etcd.ctl(args);
        }
    });
    let own = format!("cert={}&key={}", shop_cert.display(), shop_key.display());
    let with =
        |path: &str, options: &str| open(&format!("{}{path}?{options}", etcd.address())).unwrap();
    let registry = with("", &format!("ca={}&{own}", ca.display()));
    registry.commit(&[], &[leased("k", "1", 60)]).await.unwrap();
    let mut watch = registry.watch("").await.unwrap();
    registry.commit(&[], &[leased("k", "2", 60)]).await.unwrap();
    until(&mut watch, |view| has(view, "k", "2")).await;
    // The certificate's common name is the user.
    let elsewhere = with("/other", &format!("ca={}&{own}", ca.display())).get("k").await;
    let elsewhere = elsewhere.unwrap_err().to_string();
    assert!(elsewhere.contains("permission denied"), "{elsewhere}");

    let foreign = with("", &format!("ca={}&{own}", other_ca.display())).get("k").await;
    let foreign = foreign.unwrap_err().to_string();
    assert!(foreign.contains("TLS"), "{foreign}");
    let bare = with("", &format!("ca={}", ca.display())).get("k").await.unwrap_err().to_string();
    assert!(bare.contains("certificate") || bare.contains("TLS"), "{bare}");
    let plain = open(&etcd.address()).unwrap().get("k").await.unwrap_err().to_string();
    assert!(plain.contains("did not answer"), "{plain}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_restored_from_a_backup_is_seen_and_old_revisions_conflict() {
    let mut etcd = aside(Etcd::start);
    let registry = open(&etcd.address()).unwrap();
    registry.commit(&[], &[write("k", "old")]).await.unwrap();
    let backup = aside(|| etcd.backup("backup"));
    let mut watch = registry.watch("").await.unwrap();
    for n in 0..10 {
        registry.commit(&[], &[write("k", &n.to_string())]).await.unwrap();
    }
    until(&mut watch, |view| has(view, "k", "9")).await;
    let seen = watch.borrow().keys["k"].revision;
    aside(|| etcd.restore(&backup));
    until(&mut watch, |view| has(view, "k", "old")).await;
    let held = [Expect { key: "k".to_owned(), revision: Some(seen), value: None }];
    assert_eq!(registry.commit(&held, &[write("k", "x")]).await.unwrap(), Outcome::Conflict);
    registry.commit(&[], &[write("k", "new")]).await.unwrap();
    until(&mut watch, |view| has(view, "k", "new")).await;
}
