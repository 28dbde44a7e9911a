//! The stage: what was synced is there after a crash, a torn tail is cut off, damage is not believed.
#![allow(clippy::unwrap_used)] // of tests, helpers too

use std::path::{Path, PathBuf};

use godwit_replicator::target::{Place, Stage};
use keyspace::{Cf, Hlc, SlotSet};
use stream::message::Point;
use wal::batch::{BatchBuilder, BatchRef};
use wal::frame::{Codec, FrameBuilder};
use wal::{Chain, Kind, Position, Sequence, Tag, TimelineId};

const START: Point = Point {
    position: Position { timeline: TimelineId(0xa), sequence: Sequence(10) },
    log_chain: Chain(1),
    stream_chain: Chain(2),
};

fn frames(count: u64, codec: Codec) -> Vec<Vec<u8>> {
    let mut builder = FrameBuilder::new(START.position, START.stream_chain, 1, Hlc(0));
    let mut all = Vec::new();
    for i in 0..count {
        let mut batch = BatchBuilder::new(Sequence(11 + i));
        let tag = Tag { kind: Kind::Data, origin: 1, epoch: 1, stamp: Hlc(i), marker: 0 };
        batch.put(Cf::Meta, &[0, 1, i as u8], &[i as u8; 500]).log_data(&tag.encode());
        let bytes = batch.finish();
        builder.push(&BatchRef::parse(&bytes).unwrap(), &SlotSet::all()).unwrap();
        all.extend(builder.finish(codec, Chain(100 + i)));
    }
    all
}

fn open(dir: &Path) -> Stage {
    Stage::open(dir, "demo", &"a/0".parse().unwrap()).unwrap()
}

fn filled(dir: &Path) -> Vec<Vec<u8>> {
    let mut stage = open(dir);
    stage.reset(START).unwrap();
    let frames = frames(5, Codec::Lz4);
    for frame in &frames {
        stage.append(frame).unwrap();
    }
    frames
}

fn read(stage: &mut Stage) -> Vec<Vec<u8>> {
    let (mut all, mut place) = (Vec::new(), Place::default());
    while let Some((bytes, _, after)) = stage.frame_at(place).unwrap() {
        all.push(bytes);
        place = after;
    }
    all
}

fn file(dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(dir.join("stage/a-0")).unwrap();
    files.map(|e| e.unwrap().path()).max().unwrap()
}

#[test]
fn what_was_staged_is_there_again_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let frames = filled(dir.path());
    let mut stage = open(dir.path());
    // From memory, and again from the files.
    assert_eq!(read(&mut stage), frames);
    assert_eq!(read(&mut stage), frames);
    let tip = stage.tip().unwrap();
    assert_eq!((tip.position.sequence, tip.log_chain), (Sequence(15), Chain(104)));
    assert!(
        stage.reaches(Sequence(10)) && !stage.reaches(Sequence(9)) && !stage.reaches(Sequence(16))
    );
    let twice = stage.append(&frames[4]).unwrap_err();
    assert!(twice.to_string().contains("it starts at"), "{twice}");
    stage.forget(Sequence(15)).unwrap();
    assert_eq!(stage.tip(), Some(tip));
}

#[test]
fn a_torn_tail_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let frames = filled(dir.path());
    let bytes = std::fs::read(file(dir.path())).unwrap();
    for cut in [1, frames[4].len() / 2, frames[4].len() - 1] {
        std::fs::write(file(dir.path()), &bytes[..bytes.len() - cut]).unwrap();
        let mut stage = open(dir.path());
        assert_eq!(read(&mut stage), frames[..4], "cut {cut}");
        stage.append(&frames[4]).unwrap();
        assert_eq!(read(&mut stage), frames, "cut {cut}");
        let newest = file(dir.path());
        drop(stage);
        // Back to one file for the next round.
        let mut stage = open(dir.path());
        stage.reset(START).unwrap();
        drop(stage);
        assert_ne!(newest, file(dir.path()));
        std::fs::write(file(dir.path()), &bytes).unwrap();
    }
}

#[test]
fn a_flipped_bit_ends_what_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let frames = filled(dir.path());
    let good = std::fs::read(file(dir.path())).unwrap();
    let path = file(dir.path());
    for at in (0..good.len()).step_by(211) {
        let mut bytes = good.clone();
        bytes[at] ^= 4;
        std::fs::write(&path, &bytes).unwrap();
        let mut stage = open(dir.path());
        let read = read(&mut stage);
        assert!(read.len() < frames.len(), "byte {at}");
        assert_eq!(read, frames[..read.len()], "byte {at}");
        drop(stage);
        std::fs::write(&path, &good).unwrap();
    }
    let mut stage = open(dir.path());
    let mut damaged = frames[0].clone();
    damaged[150] ^= 1;
    stage.reset(START).unwrap();
    assert!(stage.append(&damaged).unwrap_err().to_string().contains("damaged"));
    stage.append(&frames[0]).unwrap();
}
