//! Parameters whose value others keep.

use super::super::session::Shared;
use super::parameter::{Change, change};
use crate::worker::{Class, Herald};

/// A parameter that is shown and read in a way of its own.
pub(super) struct Text {
    /// Redis's name for it.
    pub(super) name: &'static str,
    /// What it is when nobody has said anything.
    pub(super) default: &'static str,
    /// What it is.
    pub(super) get: fn(&Shared) -> String,
    /// A change to this value; why not, in Redis's words.
    pub(super) read: fn(&[u8]) -> Result<Change, String>,
}

pub(super) static ALL: &[Text] = &[
    Text {
        name: "notify-keyspace-events",
        default: "",
        get: |shared| shared.workers.listeners().classes().letters(),
        read: |value| {
            let classes = Class::parse(value)
                .ok_or("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")?;
            Ok(change(move |shared| shared.workers.listeners().set_classes(classes)))
        },
    },
    Text {
        name: "tracking-table-max-keys",
        default: "1000000",
        get: |shared| shared.workers.listeners().tracked.keys_max().to_string(),
        read: |value| {
            let keys_max = resp::integer(value).and_then(|n| usize::try_from(n).ok());
            let keys_max = keys_max.ok_or("argument couldn't be parsed into an integer")?;
            Ok(change(move |shared| {
                let pushed = shared.workers.listeners().tracked.bound(keys_max);
                shared.tell(pushed);
            }))
        },
    },
];
