//! Whoever takes part in a planned switch is killed or frozen at its steps. A few cells of the matrix,
//! drawn from a seed that is printed; `make matrix` plays all of them.

#![allow(clippy::unwrap_used)]

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng, SeedableRng};
use tests::actors;
use tests::story::Story;

/// Cells that are played here; the whole matrix has 72.
const CELLS: usize = 3;

#[test]
fn a_switch_ends_on_one_side_whoever_dies() {
    let count = match std::env::var("GODWIT_ACTORS").as_deref() {
        Ok("all") => usize::MAX,
        Ok(count) => count.parse().unwrap(),
        Err(_) => CELLS,
    };
    let seed: u64 = match std::env::var("GODWIT_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => rand::rng().random(),
    };
    println!("GODWIT_SEED={seed}");
    let mut story = Story::begin();
    let traffic = story.traffic();
    story.more(&traffic, 100);
    let mut cells = actors::cells();
    if count < cells.len() {
        cells.shuffle(&mut StdRng::seed_from_u64(seed));
        cells.truncate(count);
    }
    for cell in cells {
        let began = std::time::Instant::now();
        let played = actors::play(&mut story.clouds, &story.observer, cell);
        let (code, active) = played.unwrap_or_else(|e| panic!("seed {seed}, {cell:?}: {e:#}"));
        println!("{cell:?}: exit {code:?}, {active} is active, {:?}", began.elapsed());
        story.more(&traffic, 50);
    }
    let active = story.observer.active().unwrap();
    let standby = if active == "a" { "b" } else { "a" };
    story.equal(&active, standby);
    let (_, verdict) = story.judge(traffic, &active);
    verdict.assert_good();
}
