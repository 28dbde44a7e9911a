//! The settings that two clusters should agree on, so that a switch changes nothing for clients but the
//! place: the one list of them. The node's key says those that are not at their default, and the guard
//! `settings` of a switch compares them and names both values.

use std::collections::BTreeMap;

use super::steward::Announce;
use crate::settings::{self, Number, OutputLimits, Switch};
use crate::store::Durability;

/// Numbers, with what clients would notice.
static NUMBERS: [&Number; 6] = [
    // When others get -BUSY, and may kill a script.
    &settings::BUSY_REPLY_MS,
    // How many may connect: all of them come at once.
    &settings::CLIENTS_MAX,
    // Who is silent is closed, or not.
    &settings::TIMEOUT_S,
    // What a firewall between needs to keep a silent connection.
    &settings::KEEPALIVE_S,
    // Which values and commands are taken at all.
    &settings::BULK_BYTES_MAX,
    &settings::QUERY_BYTES_MAX,
];

/// Switches.
static SWITCHES: [&Switch; 2] = [
    // Whether clients from elsewhere are let in at all.
    &settings::PROTECTED,
    // What a user who is made later may hear.
    &settings::ALL_CHANNELS_BY_DEFAULT,
];

/// Those that are not at their default; `notices` are the events that are told.
pub(super) fn now(
    durability: Durability,
    announce: &Announce,
    notices: String,
) -> BTreeMap<String, String> {
    let numbers = NUMBERS.into_iter().filter(|n| n.get() != n.default());
    let numbers = numbers.map(|n| (n.name, n.get().to_string()));
    let switches = SWITCHES.into_iter().filter(|s| s.get() != s.default());
    let switches = switches.map(|s| (s.name, s.words[usize::from(s.get())].to_owned()));
    let limits = settings::OUTPUT_LIMITS.all();
    let others = [
        // Who reads slowly is closed, or not.
        (limits != OutputLimits::DEFAULT)
            .then(|| ("client-output-buffer-limit", format!("{limits:?}"))),
        // What a power cut may cost after an answer.
        (durability != Durability::default())
            .then(|| ("durability", durability.redis_name().to_owned())),
        // Who waits for events would wait for ever.
        (!notices.is_empty()).then_some(("notify-keyspace-events", notices)),
        // Whether clients must, may or cannot speak TLS.
        announce.client_tls.map(|how| ("tls", how.to_owned())),
        // Whether users follow the service.
        announce
            .users
            .as_ref()
            .is_some_and(|users| users.are_in_file_alone())
            .then(|| ("users", "file".to_owned())),
    ];
    let all = numbers.chain(switches).chain(others.into_iter().flatten());
    all.map(|(name, value)| (name.to_owned(), value)).collect()
}
