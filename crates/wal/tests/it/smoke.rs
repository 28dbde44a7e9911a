//! The fuzz targets' checks, on stable and on every run: over the fixtures, and over fixtures with
//! a few bytes changed.

use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[path = "../../fuzz/checks.rs"]
mod checks;

const HISTORY: &str = r#"[{"timeline":"0000000000000000000000000000000b","first":1,
    "parents":[],"epoch":1},{"timeline":"000000000000000000000000000000b2","first":91,
    "parents":["0000000000000000000000000000000b@90","0000000000000000000000000000000a@500"],
    "epoch":2}]"#;

#[test]
fn fixtures_and_their_mutants_keep_what_the_fuzz_targets_check() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    let files = std::fs::read_dir(dir).unwrap();
    let mut seeds: Vec<_> = files.map(|f| std::fs::read(f.unwrap().path()).unwrap()).collect();
    assert!(seeds.len() >= 5);
    seeds.push(HISTORY.as_bytes().to_vec());
    seeds.push(crate::rocks::marked(1).encode().to_vec());
    // The batch that the real log begins with.
    let batches: Vec<_> = seeds.iter().filter_map(|s| s.get(7..).map(<[u8]>::to_vec)).collect();
    seeds.extend(batches);

    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for original in seeds {
        check(&original);
        for _ in 0..300 {
            let mut bytes = original.clone();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..bytes.len());
                match random.random_range(0..3) {
                    0 => bytes[at] = random.random(),
                    1 => bytes[at] ^= 1 << random.random_range(0..8),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            check(&bytes);
        }
    }
}

fn check(bytes: &[u8]) {
    for check in
        [checks::log, checks::batch, checks::frame, checks::segment, checks::tag, checks::history]
    {
        check(bytes);
    }
}
