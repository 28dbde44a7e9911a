//! Whoever takes part in a switch, planned or not, is killed or frozen at its steps. A few cells of the
//! matrix, drawn from a seed that is printed; `make matrix` plays all of them.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // the seed is shown where it fails

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng, SeedableRng};
use tests::actors::{Cell, Matrix, Registry, cells};

/// Plays the cells that `GODWIT_CELLS` names by a part of their names (`unplanned/old-sidecar`), and of
/// those `GODWIT_ACTORS` many, or `few`.
fn play(registry: Registry, few: usize) {
    let all = std::env::var("GODWIT_ACTORS");
    let count = match all.as_deref() {
        Ok("all") => usize::MAX,
        Ok(count) => count.parse().unwrap(),
        Err(_) => few,
    };
    let seed: u64 = match std::env::var("GODWIT_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => rand::rng().random(),
    };
    println!("GODWIT_SEED={seed}");
    let filter = std::env::var("GODWIT_CELLS").unwrap_or_default();
    let mut cells: Vec<Cell> =
        cells(registry).into_iter().filter(|cell| cell.to_string().contains(&filter)).collect();
    if count < cells.len() {
        cells.shuffle(&mut StdRng::seed_from_u64(seed));
        cells.truncate(count);
    }
    Matrix::play(registry, &cells).assert_good();
}

#[test]
fn a_switch_ends_on_one_side_whoever_dies() {
    play(Registry::File, 3);
}

#[test]
fn a_switch_ends_on_one_side_whoever_dies_and_etcd_too() {
    play(Registry::Etcd, 2);
}
