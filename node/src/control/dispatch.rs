//! One control command: from its arguments to its answer.

use admin::{Code, Request};
use resp::Version;
use resp::reply::Writer;
use serde::Serialize;

use super::{Control, Fault};

impl Control {
    /// Carries out one command and appends its answer. Blocks.
    pub fn answer(&self, args: &[&[u8]], out: &mut Vec<u8>) {
        let before = out.len();
        let mut writer = Writer::new(out, Version::V2);
        let outcome = Request::parse(args)
            .map_err(|why| Fault::new(Code::Err, why.to_string()))
            .and_then(|request| self.carry_out(&request, &mut writer));
        if let Err(fault) = outcome {
            out.truncate(before);
            Writer::new(out, Version::V2).error(&fault.to_string().replace(['\r', '\n'], " "));
        }
    }

    fn carry_out(&self, request: &Request<'_>, out: &mut Writer<'_>) -> Result<(), Fault> {
        match request {
            Request::Ping => out.simple("PONG"),
            // Nobody is asked here who is not known: the listener has seen to that.
            Request::Auth { .. } => out.simple("OK"),
            Request::On { timeline, request } => {
                let meant = self.on(*timeline);
                // What needs no database is not done beside another one either.
                meant.store()?;
                return meant.carry_out(request, out);
            }
            Request::Status => json(out, &self.status()?),
            Request::Position => out.bulk(self.store()?.position().to_string().as_bytes()),
            Request::Role => {
                let role = self.role(&*self.store()?);
                let text = serde_json::to_string(&role).expect("a role has a name");
                out.bulk(text.trim_matches('"').as_bytes());
            }
            Request::Sync => json(out, &self.sync()?),
            Request::Compact => ok(out, self.compact()?),
            Request::Checkpoint(name) => json(out, &self.checkpoint(name)?),
            Request::DropCheckpoint(name) => ok(out, self.drop_checkpoint(name)?),
            Request::Apply { source, frame } => {
                let applied = self.apply(source, frame)?;
                out.integer(i64::try_from(applied.0).unwrap_or(i64::MAX));
            }
            Request::Follow(follow) => ok(out, self.follow(follow)?),
            Request::Seed { path, adopt } => ok(out, self.seed(path, adopt)?),
            Request::Activate { path, adopt, copy } => ok(out, self.activate(path, adopt, *copy)?),
            Request::SeedSlots { path, slice } => ok(out, self.seed_slots(path, slice)?),
            Request::Ingest { path, link } => json(out, &self.ingest(path, *link)?),
            Request::DumpSlots { slots, path } => json(out, &self.dump_slots(slots, path)?),
            Request::DeleteSlots { slots, yes } => json(out, &self.delete_slots(slots, *yes)?),
            Request::Export(keys) => {
                let exported = self.export(keys)?;
                out.array(2);
                out.bulk(exported.position.to_string().as_bytes());
                out.bulk(&exported.batch);
            }
            Request::Records(keys) => {
                let exported = self.records(keys)?;
                out.array(2);
                out.bulk(exported.position.to_string().as_bytes());
                out.bulk(&exported.batch);
            }
            Request::RewindRecords { keys, batch } => ok(out, self.rewind_records(keys, batch)?),
            Request::RewindBegin { source, fork } => ok(out, self.rewind_begin(source, *fork)?),
            Request::RewindKeys { keys, batch } => ok(out, self.rewind_keys(keys, batch)?),
            Request::Measure(slots) => json(out, &self.measure(slots)?),
            Request::ExportSlots { slots, after } => {
                let exported = self.export_slots(slots, after)?;
                out.array(3);
                out.bulk(exported.position.to_string().as_bytes());
                optional(out, exported.next.as_deref());
                out.bulk(&exported.batch);
            }
            Request::Stamped { slots, stamp, after } => {
                let found = self.stamped(slots, *stamp, after)?;
                out.array(1 + found.keys.len());
                optional(out, found.next.as_deref());
                found.keys.iter().for_each(|key| out.bulk(key));
            }
            Request::RewindSlots(slots) => ok(out, self.rewind_slots(slots)?),
            Request::RewindPut { slots, batch } => ok(out, self.rewind_put(slots, batch)?),
            Request::RewindForget(load) => ok(out, self.rewind_forget(*load)?),
            Request::RewindEnd(follow) => ok(out, self.rewind_end(follow)?),
            Request::Replay(replay) => json(out, &self.replay(replay)?),
            Request::Barrier => {
                let barrier = self.barrier()?;
                out.array(2);
                out.bulk(format!("{:032x}", barrier.id).as_bytes());
                out.bulk(barrier.position.to_string().as_bytes());
            }
            Request::Digest(id) => json(out, &self.0.digests.get(*id)?),
            Request::DigestKeys { id, slot, after } => {
                let found = self.0.digests.keys(*id, *slot, after)?;
                out.array(1 + 2 * found.keys.len());
                optional(out, found.next.as_deref());
                for (key, digest) in &found.keys {
                    out.bulk(key);
                    out.bulk(format!("{digest:032x}").as_bytes());
                }
            }
            Request::Repair(keys) => json(out, &self.repair(keys)?),
            Request::DropDigest(id) => {
                self.0.digests.remove(*id);
                out.simple("OK");
            }
            Request::Freeze { id, deadline } => ok(out, self.freeze(*id, *deadline)?),
            Request::Fence(epoch) => ok(out, self.fence(*epoch)?),
            Request::Promote(epoch) => ok(out, self.promote(*epoch)?),
            Request::PromiseWanted => json(out, &self.promise_wanted()),
            Request::PromiseHave { id, of } => ok(out, self.promise_have(*id, of)?),
            Request::PromiseGive { primary, epoch, lease_ms } => {
                ok(out, self.promise_give(primary, *epoch, *lease_ms)?);
            }
        }
        Ok(())
    }
}

fn optional(out: &mut Writer<'_>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => out.bulk(bytes),
        None => out.null(),
    }
}

fn ok(out: &mut Writer<'_>, (): ()) {
    out.simple("OK");
}

fn json(out: &mut Writer<'_>, value: &impl Serialize) {
    let text = serde_json::to_vec(value).expect("statuses and digests have a JSON form");
    out.bulk(&text);
}
