//! Each command takes effect once, on both sides, though nodes and sidecars are killed at random.
//! `make soak-once` does the same a hundred times in a row.

#![allow(clippy::unwrap_used)]

use tests::once;
use tests::story::Story;

/// Kills; the soak has more.
const KILLS: u32 = 6;

#[test]
fn increments_take_effect_once_whatever_is_killed() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut story = Story::begin();
    let once = once::run(&mut story.clouds, &story.observer, KILLS, seed);
    let once = once.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
    println!("{once:?}");
    assert_eq!(once.kills, KILLS);
}
