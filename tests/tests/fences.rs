//! A proxy that is cut off from the registry, and not from the old primary: what it still believes is
//! refused by the nodes.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use anyhow::ensure;
use tests::client::Client;
use tests::clouds::Plan;
use tests::etcd::Etcd;
use tests::story::{STUCK, Story};
use tests::toxi::Toxiproxy;
use tests::wait;

const HOLD_TIME: Duration = Duration::from_secs(3);
/// A held write is refused by then; a busy machine takes its time.
const ANSWERED: Duration = Duration::from_secs(8);

#[test]
fn a_proxy_that_is_cut_off_from_the_registry_has_its_writes_refused_once_another_cloud_took_over() {
    let etcd = Etcd::start();
    let toxics = Toxiproxy::open().unwrap();
    let direct = format!("127.0.0.1:{}", etcd.ports()[0]);
    let wire = toxics.proxy("etcd-of-the-proxy", "127.0.0.1:0", &direct).unwrap();
    let mut story = Story::begin_with(|plan| {
        let hold = ["--hold-time".to_owned(), format!("{}s", HOLD_TIME.as_secs())];
        let mut plan = Plan { lease: Duration::from_millis(1500), ..plan.on(etcd.address()) };
        plan.args.push(("godwit-proxy".to_owned(), hold.into()));
        plan
    });
    // The proxy of a alone reaches the registry by a wire that can be cut.
    let (whole, cut) = (etcd.address(), format!("etcd://{wire}"));
    let proxy = &mut story.clouds.cloud_mut("a").proxies[0];
    for arg in proxy.process.args.iter_mut().filter(|arg| **arg == whole) {
        arg.clone_from(&cut);
    }
    let through = proxy.client.clone();
    proxy.process.kill9().unwrap();
    proxy.process.start().unwrap();
    let mut client = wait::until("the proxy to serve", STUCK, || {
        let mut client = Client::connect_with(&through, ANSWERED)?;
        client.call(&["SET", "{b}key", "before"])?;
        Ok(client)
    })
    .unwrap();
    story.equal("a", "b");

    toxics.enable("etcd-of-the-proxy", false).unwrap();
    client.call(&["SET", "{b}key", "cut off, and a is primary"]).unwrap();
    let run = story.switchover(&["run", "--to", "b", "--yes", "--timeout", "2s"]);
    // It waits for the proxy's word until the proxy's key has ended.
    assert!(matches!(run.code, 0 | 5), "{}", run.said);
    assert_eq!(story.observer.active().as_deref(), Some("b"));

    let began = Instant::now();
    let refused = client.call(&["SET", "{b}key", "late"]).unwrap_err();
    let refused = format!("{refused:#}");
    assert!(refused.contains("TRYAGAIN") && refused.contains("was not run"), "{refused}");
    assert!(began.elapsed() < ANSWERED, "{:?}", began.elapsed());
    let mut other = story.clouds.client("b").unwrap();
    assert_eq!(other.text(&["GET", "{b}key"]).unwrap(), "cut off, and a is primary");

    toxics.enable("etcd-of-the-proxy", true).unwrap();
    wait::until("the proxy to follow", STUCK, || {
        let mut client = Client::connect_with(&through, ANSWERED)?;
        client.call(&["SET", "{b}key", "after"])?;
        Ok(())
    })
    .unwrap();
    assert_eq!(other.text(&["GET", "{b}key"]).unwrap(), "after");
    wait::until("the proxy to be registered", STUCK, || {
        let epochs: Vec<_> =
            story.observer.view().proxies.values().map(|proxy| proxy.epoch.0).collect();
        ensure!(epochs.len() == 2 && epochs.iter().all(|epoch| *epoch >= 2), "{epochs:?}");
        Ok(())
    })
    .unwrap();
}
