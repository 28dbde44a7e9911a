//! Whether a node that has a snapshot can go on with the log of its source.

use std::time::Duration;

use admin::Follow;
use anyhow::bail;
use ops::tls::Mutual;
use stream::export::{After, Open};
use topology::service::Service;
use wal::Chain;

use crate::materialise::Record;
use crate::push::discover::Target;
use crate::push::session::Session;

/// How long the registry may take to show the source's sidecar.
const REGISTRY_WITHIN: Duration = Duration::from_secs(5);

/// The log that follows on a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Log {
    /// It is at the source, about so many bytes of it as they are sent.
    There(u64),
    /// It is not, and why.
    Gone(String),
    /// Nobody could be asked, and why.
    Unknown(String),
}

impl Log {
    /// Why it is better not gone on, if it is.
    pub(super) fn refusal(&self) -> Option<String> {
        match self {
            Self::There(_) => None,
            Self::Gone(why) => Some(format!("{why}, so its source would seed it and replace it")),
            Self::Unknown(why) => Some(format!(
                "it is not known whether its source still has the log that follows on it ({why}), and if not, a seed would replace it"
            )),
        }
    }

    /// About how many bytes of log are to come.
    pub(super) fn bytes(&self) -> Option<u64> {
        match self {
            Self::There(bytes) => Some(*bytes),
            Self::Gone(_) | Self::Unknown(_) => None,
        }
    }
}

/// Asks the sidecar of the source.
pub(super) async fn ask(service: &Service, record: &Record, tls: Option<&Mutual>) -> Log {
    let Some(follow) = &record.follow else {
        return Log::Gone("it follows on no log".to_owned());
    };
    let source = &follow.source;
    let view = service.view();
    let Some(plan) = view.record() else {
        return Log::Unknown(format!("the registry has no service `{}`", record.service));
    };
    if !plan.is_primary(source) {
        return Log::Gone(format!("it follows on the log of {source}, which is no primary now"));
    }
    match measured(service, record, follow, tls).await {
        Ok(Ok(bytes)) => Log::There(bytes),
        Ok(Err(why)) => Log::Gone(why),
        Err(why) => Log::Unknown(format!("asking the sidecar of {source}: {why:#}")),
    }
}

/// What its log since then would take; why it has it no more. It is asked as for a next snapshot, of which
/// nothing is begun.
async fn measured(
    service: &Service,
    record: &Record,
    follow: &Follow,
    tls: Option<&Mutual>,
) -> anyhow::Result<Result<u64, String>> {
    let source = &follow.source;
    let mut watch = service.watch();
    let shown = watch.wait_for(|view| view.sidecars.contains_key(source));
    let Ok(Ok(view)) =
        tokio::time::timeout(REGISTRY_WITHIN, shown).await.map(|v| v.map(|v| v.clone()))
    else {
        bail!("the registry does not show it");
    };
    let target = Target {
        shard: source.clone(),
        slots: record.slots.clone(),
        is_primary: true,
        address: view.sidecars[source].stream.clone(),
    };
    // A standby knows its source's log by the timeline, which is of one database.
    let database = match record.shard == *source {
        true => record.source_database.clone(),
        false => After::ANY_DATABASE.to_owned(),
    };
    let open = Open {
        snapshot: record.snapshot.to_string(),
        repository: record.repository.clone(),
        naming: None,
        bandwidth: None,
        digest: false,
        after: Some(After {
            database,
            position: follow.position,
            chain: Chain::START,
            log_chain: follow.log_chain,
        }),
    };
    let mut session = Session::open(&target, &record.service, open, tls).await?;
    let ready = session.ready().await?;
    session.conn.writer.close().await;
    Ok(ready.log)
}
