//! A planned switchover under load loses nothing and shows no client an error; going back moves
//! what was written, not what there is.

#![allow(clippy::unwrap_used)]

use tests::clouds::observer::sidecar_counter;
use tests::story::Story;

#[test]
fn switch_there_and_back_under_load() {
    let mut story = Story::begin();
    story.load();
    story.equal("a", "b");
    let traffic = story.traffic();
    story.more(&traffic, 500);

    story.switch(&["run", "--to", "b", "--yes"]);
    assert_eq!(story.observer.active().as_deref(), Some("b"));
    story.more(&traffic, 500);

    story.switch(&["failback", "--yes"]);
    assert_eq!(story.observer.active().as_deref(), Some("a"));
    let copied = sidecar_counter(&story.clouds.layout, "b", "godwit_replicator_seed_bytes_total");
    assert_eq!(copied, 0, "going back must not copy checkpoints");
    story.more(&traffic, 500);
    story.equal("a", "b");

    let (ledger, verdict) = story.judge(traffic, "a");
    verdict.assert_good();
    assert_eq!(ledger.client_errors(), 0, "{:?}", ledger.errors);
    assert_eq!((ledger.unknown(), ledger.wrong_reads), (0, 0));
}

#[test]
fn what_was_acknowledged_is_in_the_new_cloud_with_the_old_one_stopped() {
    let mut story = Story::begin();
    let traffic = story.traffic();
    story.more(&traffic, 500);
    story.switch(&["run", "--to", "b", "--yes"]);
    story.more(&traffic, 300);
    let (ledger, verdict) = story.judge(traffic, "b");
    verdict.assert_good();
    assert_eq!((ledger.client_errors(), ledger.unknown()), (0, 0), "{:?}", ledger.errors);
}
