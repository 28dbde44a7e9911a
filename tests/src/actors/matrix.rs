//! Cells one after the other on the same clouds, a line for each, and a table at the end.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::STUCK;
use super::cell::{Actor, Blow, Cell, Registry, Switch};
use super::play::{Played, Stage, other};
use crate::clouds::Plan;
use crate::clouds::start::checkout;
use crate::etcd::Etcd;
use crate::load::Traffic;
use crate::story::Story;
use crate::wait;

/// How long a proxy of the matrix holds a write.
pub(super) const HOLD_TIME: Duration = Duration::from_secs(10);
/// The leases of the matrix: many cells wait for one.
const LEASE: Duration = Duration::from_millis(1500);
/// No cell takes longer, or something is stuck that should have ended.
const CELL_MAX: Duration = Duration::from_secs(150);
/// Writes of the traffic after each cell, so that it is seen that they go on.
const WRITES: u64 = 50;

/// Two clouds with traffic.
struct Scene {
    story: Story,
    traffic: Traffic,
    // Ends after the clouds.
    etcd: Option<Etcd>,
}

impl Scene {
    fn begin(registry: Registry) -> Self {
        let etcd = (registry == Registry::Etcd).then(Etcd::start);
        let address = etcd.as_ref().map(|etcd| format!("{}?timeout=1s", etcd.address()));
        let story = Story::begin_with(|plan| {
            let mut plan = match &address {
                Some(address) => plan.on(address),
                None => plan,
            };
            let hold = ["--hold-time".to_owned(), format!("{}s", HOLD_TIME.as_secs())];
            plan.args.push(("godwit-proxy".to_owned(), hold.into()));
            Plan { lease: LEASE, ..plan }
        });
        let traffic = story.traffic();
        Self { story, traffic, etcd }
    }

    fn play(&mut self, cell: Cell) -> Result<Played> {
        let began = Instant::now();
        let Story { clouds, observer } = &mut self.story;
        let played = Stage { clouds, observer, etcd: self.etcd.as_mut() }.play(cell)?;
        let enough = self.traffic.acknowledged() + WRITES;
        wait::until("writes to go on", STUCK, || {
            let acknowledged = self.traffic.acknowledged();
            ensure!(acknowledged >= enough, "{acknowledged} of {enough} are acknowledged");
            Ok(())
        })?;
        ensure!(began.elapsed() < CELL_MAX, "it took {:?}", began.elapsed());
        Ok(played)
    }

    /// Both clouds hold the same, and all that was acknowledged.
    fn end(mut self) {
        let active = self.story.observer.active().unwrap_or_default();
        self.story.equal(&active, other(&active));
        let (_, verdict) = self.story.judge(self.traffic, &active);
        verdict.assert_good();
    }

    /// Keeps the logs of a cell that failed; where.
    fn keep(&self, cell: Cell) -> Result<PathBuf> {
        let kept = checkout()?.join("target/matrix").join(cell.to_string().replace('/', "-"));
        let _ = fs::remove_dir_all(&kept);
        let dir = &self.story.clouds.layout.dir;
        for part in ["log", "journal"] {
            copy(&dir.join(part), &kept.join(part))?;
        }
        Ok(kept)
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    let Ok(entries) = fs::read_dir(from) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// What became of the cells of one row of the table.
#[derive(Default)]
struct Row {
    stayed: usize,
    moved: usize,
    failed: usize,
    held: Duration,
    took: Duration,
}

/// Cells and how they ended.
pub struct Matrix {
    registry: Registry,
    rows: BTreeMap<(Switch, Actor, Blow), Row>,
    failed: Vec<String>,
}

#[allow(clippy::print_stdout)] // what a run of the matrix shows
impl Matrix {
    /// Plays cells of one registry, each on the clouds of the one before unless that failed. Prints a line
    /// for each, and a table.
    pub fn play(registry: Registry, cells: &[Cell]) -> Self {
        let mut matrix = Self { registry, rows: BTreeMap::new(), failed: Vec::new() };
        let mut scene = None;
        for (number, cell) in cells.iter().enumerate() {
            let began = Instant::now();
            let on = scene.get_or_insert_with(|| Scene::begin(registry));
            let played = on.play(*cell);
            let took = began.elapsed();
            let row = matrix.rows.entry((cell.switch, cell.actor, cell.blow)).or_default();
            row.took = row.took.max(took);
            let place = format!("{}/{} {cell}", number + 1, cells.len());
            match played {
                Ok(played) => {
                    row.held = row.held.max(played.held);
                    if played.moved {
                        row.moved += 1
                    } else {
                        row.stayed += 1
                    }
                    let end = if played.moved { "new" } else { "old" };
                    let code = played.code.map_or("-".to_owned(), |code| code.to_string());
                    println!("{place}: {end}, exit {code}, held {:.1?}, {took:.1?}", played.held);
                }
                Err(why) => {
                    row.failed += 1;
                    let kept = on.keep(*cell).map(|path| path.display().to_string());
                    let kept = kept.unwrap_or_else(|why| format!("nowhere: {why:#}"));
                    println!("{place}: FAILED after {took:.1?}, logs in {kept}: {why:#}");
                    matrix.failed.push(format!("{cell}: {why:#}"));
                    if let Some(broken) = scene.take() {
                        drop(broken.traffic.stop());
                    }
                }
            }
        }
        if let Some(scene) = scene {
            scene.end();
        }
        matrix.print();
        matrix
    }

    fn print(&self) {
        println!("{:?} registry", self.registry);
        println!("switch     actor        blow    old  new  failed  held, most  took, most");
        for ((switch, actor, blow), row) in &self.rows {
            println!(
                "{:<10} {actor:<12} {:<6} {:>4} {:>4} {:>7}  {:>10.1?}  {:>10.1?}",
                format!("{switch:?}"),
                format!("{blow:?}"),
                row.stayed,
                row.moved,
                row.failed,
                row.held,
                row.took
            );
        }
    }

    /// Fails the test if a cell has failed.
    pub fn assert_good(&self) {
        assert!(self.failed.is_empty(), "{} cells failed: {:#?}", self.failed.len(), self.failed);
    }
}
