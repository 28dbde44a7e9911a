//! `restore`.

use std::path::PathBuf;

use ::store::repository::Target;
use ops::exit::Exit;
use wal::Position;

use super::store::StoreArgs;
use crate::restore;

/// Arguments of `restore`.
#[derive(clap::Args, Clone, Debug)]
pub struct RestoreArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The node's directory: a new or an empty one, or one where the same was begun
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// As of this time, such as 2026-11-22T05:10:00Z or "2026-11-22 05:10:00.250" (UTC)
    #[arg(long, value_name = "TIME", conflicts_with = "position", value_parser = parse_time)]
    at: Option<u64>,
    /// Up to the batch that ends here, such as a barrier's or a fork's position
    #[arg(long, value_name = "TIMELINE@SEQUENCE")]
    position: Option<Position>,
}

fn parse_time(text: &str) -> Result<u64, String> {
    let time = humantime::parse_rfc3339_weak(text)
        .map_err(|why| format!("{why}: write 2026-11-22T05:10:00Z"))?;
    let since = time.duration_since(std::time::UNIX_EPOCH).map_err(|why| why.to_string())?;
    u64::try_from(since.as_millis()).map_err(|why| why.to_string())
}

pub(super) async fn run(args: RestoreArgs) -> anyhow::Result<Exit> {
    let form = args.store.form;
    let begun = std::time::Instant::now();
    let mut archive = args.store.archive().await?;
    let target = match (args.at, args.position) {
        (Some(at), _) => Target::At(at),
        (None, Some(position)) => Target::Position(position),
        (None, None) => Target::Latest,
    };
    let wanted = restore::Wanted { target, to: args.to };
    let restored = Box::pin(restore::run(&mut archive, &wanted)).await?;
    form.result(&restore::text(&restored, begun.elapsed().as_secs_f64()), &restored)?;
    Ok(Exit::Done)
}
