//! `maintenance`: says that operators work by hand.

use ops::exit::Exit;
use serde_json::json;
use topology::operator::Maintenance;
use topology::record::UnixMs;

use crate::args::OnOff;
use crate::tool::Tool;

/// `maintenance on|off`; without either it says how it is.
pub(crate) async fn maintenance(tool: &Tool, to: Option<OnOff>) -> anyhow::Result<Exit> {
    let (view, _, _) = tool.view()?;
    let now = view.maintenance.clone();
    let dry = if tool.dry_run { "would be " } else { "" };
    let (text, state) = match (to, now) {
        (None, None) => ("maintenance is off".to_owned(), None),
        (None | Some(OnOff::On), Some(quiet)) => (
            format!(
                "maintenance is on, by {}: {}",
                quiet.by,
                quiet.reason.as_deref().unwrap_or("no reason given")
            ),
            Some(quiet),
        ),
        (Some(OnOff::Off), None) => ("maintenance was off already".to_owned(), None),
        (Some(OnOff::Off), Some(_)) => {
            if !tool.dry_run {
                tool.service.set_maintenance(None).await?;
            }
            (format!("maintenance {dry}off"), None)
        }
        (Some(OnOff::On), None) => {
            let quiet = Maintenance {
                by: tool.by.clone(),
                since: UnixMs::now(),
                reason: tool.reason.clone(),
            };
            if !tool.dry_run {
                tool.service.set_maintenance(Some(&quiet)).await?;
            }
            (format!("maintenance {dry}on"), Some(quiet))
        }
    };
    let json = json!({"operation": "maintenance", "on": state.is_some(), "maintenance": state, "message": text, "exit": 0});
    tool.result(&text, &json).map(|()| Exit::Done)
}
