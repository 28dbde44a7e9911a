//! Whether the service's record names this sidecar's shard: a cluster is added and removed while its
//! sidecars run.

use std::sync::Arc;

use crate::sidecar::Sidecar;

/// Says at each change, on the health page and in the log, whether this sidecar has anything to do.
pub async fn keep_looking(sidecar: Arc<Sidecar>) {
    let check = sidecar.health.check("record");
    let mut view = sidecar.service.watch();
    let mut belonged = None;
    loop {
        let (shard, service) = (&sidecar.shard, sidecar.service.name());
        let named = view.borrow_and_update().record().map(|r| r.slots_of(shard).is_some());
        let why = match named {
            Some(true) => None,
            Some(false) => Some(format!(
                "the record of service `{service}` has no shard {shard}: cluster `{}` was removed, or never added. It is not followed up and serves nothing; `godwit-switchover cluster add` lets it follow, and what it holds stays as it is until then",
                shard.cluster
            )),
            None => Some(format!(
                "service `{service}` has no record in the registry yet: `godwit-switchover init` makes it"
            )),
        };
        match &why {
            None => check.ok(),
            Some(why) => check.failing(why.clone()),
        }
        if belonged != named {
            match why {
                Some(why) => tracing::warn!("{why}"),
                None if belonged.is_some() => {
                    tracing::info!(%shard, "the record names this shard again")
                }
                None => {}
            }
            belonged = named;
        }
        tokio::select! {
            changed = view.changed() => if changed.is_err() { return },
            () = sidecar.shutdown.cancelled() => return,
        }
    }
}
