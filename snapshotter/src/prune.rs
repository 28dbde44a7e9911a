//! `prune`: lets go of snapshots that grew old, and deletes what nothing leads to any more.

use ops::exit::Exit;
use ops::exit::Stop;
use serde_json::json;
use store::repository::Policy;

use crate::from::FromArgs;
use crate::report;

/// What to keep.
#[derive(clap::Args, Clone, Debug)]
pub struct PruneArgs {
    #[command(flatten)]
    pub(crate) from: FromArgs,
    /// The newest ones of each cluster
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep_last: usize,
    /// The newest one of each of so many hours (UTC) that have one
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep_hourly: usize,
    /// Of each of so many days
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep_daily: usize,
    /// Of each of so many weeks, which begin on Monday
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep_weekly: usize,
    /// Of each of so many months
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep_monthly: usize,
    /// Say what would go, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Prunes.
///
/// # Errors
/// Nothing was said of what to keep (refused), another run deletes, or the repository failed.
pub async fn run(args: &PruneArgs) -> anyhow::Result<Exit> {
    let policy = Policy {
        last: args.keep_last,
        hourly: args.keep_hourly,
        daily: args.keep_daily,
        weekly: args.keep_weekly,
        monthly: args.keep_monthly,
    };
    if policy == Policy::default() {
        let why = "say what to keep, such as --keep-last 3 --keep-daily 7: without it all but the newest would go";
        return Err(Stop::new(Exit::Usage, why).into());
    }
    let mut snapshots = args.from.snapshots().await?;
    let kept = policy.kept(snapshots.list());
    let mut lines = Vec::new();
    for (snapshot, _) in snapshots.list() {
        let why = kept.get(&snapshot.id).map(|why| why.join(", "));
        lines.push(match why {
            Some(why) => format!("{} stays: {why}", snapshot.id),
            None => format!("{} goes", snapshot.id),
        });
    }
    let all = snapshots.list().map(|(snapshot, _)| snapshot.id.clone());
    let gone: Vec<_> = all.filter(|id| !kept.contains_key(id)).collect();
    if !args.dry_run {
        for id in &gone {
            snapshots.forget(id, ops::clock::unix_ms()).await?;
        }
    }
    let repository = snapshots.repository();
    let swept = repository.sweep("snapshotter prune", args.dry_run).await?;
    let grace = humantime::format_duration(repository.header().grace());
    lines.push(match args.dry_run {
        true => format!(
            "dry run, nothing was changed: {} snapshots would go; {} objects ({}) that nothing led to before would be deleted now",
            gone.len(),
            swept.deleted,
            report::size(swept.deleted_bytes)
        ),
        false => format!(
            "{} snapshots went; deleted {} objects ({}) that nothing led to; {} more are deleted by a run that comes {grace} after they were marked",
            gone.len(),
            swept.deleted,
            report::size(swept.deleted_bytes),
            swept.marked + swept.waiting
        ),
    });
    let shown = json!({
        "kept": kept, "gone": gone, "swept": swept, "dry-run": args.dry_run,
    });
    report::print(args.from.output, &lines.join("\n"), &shown);
    Ok(Exit::Done)
}
